"""Copies between pages move exactly the positions that are asked for, in all layers."""

import pytest
import torch

from pagemill.backends.paged.kv_pool import KVPool
from pagemill.engine.step import CopyKV, TruncateKV
from pagemill.errors import BackendError


def pool(dtype: torch.dtype = torch.float32, num_blocks: int = 3) -> KVPool:
    made = KVPool(
        num_layers=2,
        num_blocks=num_blocks,
        block_size=4,
        num_kv_heads=2,
        head_dim=8,
        dtype=dtype,
        device=torch.device("cpu"),
    )
    for layer in made.layers:
        for pages in layer:
            pages.copy_(torch.randn(pages.shape).to(dtype))
    return made


def test_a_copy_moves_the_first_positions_of_keys_and_values_in_every_layer() -> None:
    pages = pool()
    before = [(layer.keys.clone(), layer.values.clone()) for layer in pages.layers]
    pages.apply([CopyKV(source=0, destination=2, num_tokens=3)])
    for layer, (keys, values) in zip(pages.layers, before, strict=True):
        for now, then in ((layer.keys, keys), (layer.values, values)):
            assert torch.equal(now[2, :, :3], then[0, :, :3])
            assert torch.equal(now[2, :, 3:], then[2, :, 3:])
            assert torch.equal(now[:2], then[:2])


def test_copies_happen_in_order_and_a_page_may_be_copied_to_itself() -> None:
    pages = pool()
    first = pages.layers[1].values[0].clone()
    pages.apply([CopyKV(0, 0, 4), CopyKV(0, 1, 4), CopyKV(1, 2, 4)])
    assert torch.equal(pages.layers[1].values[2], first)


def test_pages_are_not_truncated() -> None:
    with pytest.raises(TypeError, match="never truncated"):
        pool().apply([TruncateKV(0, 1)])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float8_e4m3fn])
@pytest.mark.parametrize("there", [(1, 2), (4, 0)])
def test_saved_pages_come_back_bit_for_bit_wherever_they_go(dtype: torch.dtype, there: tuple[int, int]) -> None:
    source, destination = pool(dtype), pool(dtype, num_blocks=5)
    saved = source.save((2, 0), 6)
    untouched = destination.layers[0].keys[3].clone()
    destination.load(there, memoryview(bytearray(saved)))
    for before, after in zip(source.layers, destination.layers, strict=True):
        for old, new in ((before.keys.float(), after.keys.float()), (before.values.float(), after.values.float())):
            assert torch.equal(new[there[0]], old[2])
            assert torch.equal(new[there[1], :, :2], old[0, :, :2])
            assert not new[there[1], :, 2:].any()  # behind the last token is nothing, whatever the page held
    assert torch.equal(destination.layers[0].keys[3].float(), untouched.float())
    assert destination.save(there, 6) == saved


def test_data_of_another_size_is_refused_with_the_numbers() -> None:
    with pytest.raises(BackendError, match=r"^1000 bytes are not 2 pages"):
        pool().load((0, 1), memoryview(bytearray(1000)))
