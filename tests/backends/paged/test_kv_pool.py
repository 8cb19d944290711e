"""Copies between pages move exactly the positions that are asked for, in all layers."""

import pytest
import torch

from pagemill.backends.paged.kv_pool import KVPool
from pagemill.engine.step import CopyKV, TruncateKV


def pool() -> KVPool:
    made = KVPool(
        num_layers=2,
        num_blocks=3,
        block_size=4,
        num_kv_heads=2,
        head_dim=8,
        dtype=torch.float32,
        device=torch.device("cpu"),
    )
    for layer in made.layers:
        for pages in layer:
            pages.copy_(torch.randn(pages.shape))
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
