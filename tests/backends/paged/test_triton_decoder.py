"""The generic decoder on Triton's kernels, in the interpreter: its views and shapes are what the kernels expect."""

import dataclasses

import pytest
import torch

from gpu.bench import Bench, compute_again, time_by_clock
from gpu.decode_runs import Sequences, greedy_tokens
from gpu.random_decoders import decoder_config, random_decoder
from pagemill.backends.paged.attention.torch_attention import TorchAttention
from pagemill.backends.paged.ops.torch_ops import TorchOps

pytest.importorskip("triton", reason="triton is made for Linux on x86-64 only")
from pagemill.backends.paged.attention.triton_attention import TritonAttention
from pagemill.backends.paged.ops.triton_ops import TritonOps

pytestmark = pytest.mark.usefixtures("one_thread")
CPU = torch.device("cpu")
PLAIN = Bench(CPU, torch.float32, TorchAttention(), TorchOps(), time_by_clock, lambda: compute_again)
TRITON = dataclasses.replace(PLAIN, attention=TritonAttention(CPU, decode_programs=16), ops=TritonOps(CPU))


def test_a_decoder_says_the_same_on_triton_s_kernels_with_graphs_as_on_plain_torch() -> None:
    config = decoder_config(
        hidden=64, intermediate=80, layers=2, heads=6, kv_heads=2, head_dim=24, vocab=300, qk_norm=True
    )
    tokens = [
        greedy_tokens(
            random_decoder(config, bench, torch.float32, 64),
            Sequences(bench, config, torch.float32, 3, 64),
            prompt_len=6,
            steps=4,
            use_graphs=bench is TRITON,
        ).tolist()
        for bench in (PLAIN, TRITON)
    ]
    assert tokens[0] == tokens[1]
