"""What goes to torch's varlen_attn, and what it can't do. It has no CPU kernel: one that follows its documentation
stands in for it here, and `tests/gpu` runs the real one.
"""

import dataclasses

import pytest
import torch
from torch import Tensor

from pagemill.backends.paged.attention.base import LayerKV
from pagemill.errors import ModelLoadError
from support.attention_cases import Shape, dense_attention, make_case

pytest.importorskip("triton", reason="triton is made for Linux on x86-64 only")
from pagemill.backends.paged.attention import varlen_attention
from pagemill.backends.paged.attention.varlen_attention import VarlenAttention, find_varlen_attn

pytestmark = pytest.mark.usefixtures("one_thread")
CUDA = torch.device("cuda")
MIXED = Shape(decodes=(1, 300), prefills=((5, 5), (40, 270)), block_size=256, dtype=torch.float16, strided=True)


def documented_varlen_attn(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cu_seq_q: Tensor,
    cu_seq_k: Tensor | None,
    max_q: int,
    max_k: int,
    *,
    scale: float,
    window_size: tuple[int, int],
    enable_gqa: bool,
    seqused_k: Tensor,
    block_table: Tensor,
    num_splits: int,
) -> Tensor:
    assert (cu_seq_k, enable_gqa, num_splits, window_size[1]) == (None, True, 1, 0)
    assert max_q >= int(cu_seq_q.diff().max())
    assert max_k >= int(seqused_k.max())
    outputs = []
    for row, length in enumerate(seqused_k.tolist()):
        pages = block_table[row, : -(-length // key.shape[1])].long()
        keys, values = (states[pages].flatten(0, 1)[:length] for states in (key, value))
        shape = Shape(
            num_heads=query.shape[1],
            num_kv_heads=key.shape[2],
            scale=scale,
            sliding_window=None if window_size[0] < 0 else window_size[0] + 1,
        )
        outputs.append(dense_attention(shape, query[cu_seq_q[row] : cu_seq_q[row + 1]], keys, values))
    return torch.cat(outputs).to(query.dtype)


@pytest.mark.parametrize("sliding_window", [None, 17])
def test_it_hands_the_batch_to_torch_in_the_documented_form(
    monkeypatch: pytest.MonkeyPatch, sliding_window: int | None
) -> None:
    monkeypatch.setattr(varlen_attention, "find_varlen_attn", lambda: documented_varlen_attn)
    case = make_case(dataclasses.replace(MIXED, sliding_window=sliding_window))
    output = VarlenAttention(CUDA)(case.spec, case.query, case.key, case.value, case.kv, case.batch)
    torch.testing.assert_close(output.double(), case.expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (dataclasses.replace(MIXED, soft_cap=30.0), "no soft cap; the model's is 30.0"),
        (dataclasses.replace(MIXED, block_size=16), "block_size of a multiple of 256; it is 16"),
        (dataclasses.replace(MIXED, dtype=torch.float32), "float16 or bfloat16; this is torch.float32"),
        (dataclasses.replace(MIXED, head_dim=264), "head_dim of at most 256 and a multiple of 8; it is 264"),
        (dataclasses.replace(MIXED, head_dim=36), "head_dim of at most 256 and a multiple of 8; it is 36"),
    ],
)
def test_what_it_can_not_do_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, shape: Shape, message: str) -> None:
    monkeypatch.setattr(varlen_attention, "find_varlen_attn", lambda: documented_varlen_attn)
    case = make_case(shape)
    with pytest.raises(ModelLoadError, match=message):
        VarlenAttention(CUDA)(case.spec, case.query, case.key, case.value, case.kv, case.batch)


def test_fp8_pages_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(varlen_attention, "find_varlen_attn", lambda: documented_varlen_attn)
    case = make_case(MIXED)
    pages = LayerKV(*(states.to(torch.float8_e4m3fn) for states in case.kv))
    with pytest.raises(ModelLoadError, match=r"these are torch\.float8_e4m3fn"):
        VarlenAttention(CUDA)(case.spec, case.query, case.key, case.value, pages, case.batch)


def test_the_cpu_is_refused() -> None:
    with pytest.raises(ModelLoadError, match="this is cpu"):
        VarlenAttention(torch.device("cpu"))


def test_the_installed_torch_has_all_the_parameters() -> None:
    assert find_varlen_attn().__name__ == "varlen_attn"


def test_an_older_torch_is_refused_by_what_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    def varlen_attn(query: Tensor, *, scale: float, window_size: tuple[int, int]) -> None: ...

    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", varlen_attn)
    with pytest.raises(ModelLoadError, match="has no block_table, seqused_k, num_splits, enable_gqa"):
        find_varlen_attn()
