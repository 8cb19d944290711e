"""The paged backend's CPU kernels beside plain torch, with an 88M-parameter Llama's shapes: speeds and their ratio.

    python tests/bench/paged_ops.py [--only decode prefill small linear] [--dtype bfloat16]

Layers have keys, values and weights of their own, as in a model, so that the cache does not hold them from one call to
the next. Each figure is the fastest of repeated passes over all layers: what else runs only ever adds to it.
"""

import argparse
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from pagemill.backends.paged.attention import make_attention
from pagemill.backends.paged.attention.base import Attention, AttentionBatch, AttentionSpec, LayerKV, Prefill
from pagemill.backends.paged.attention.torch_attention import TorchAttention
from pagemill.backends.paged.ops import make_ops
from pagemill.backends.paged.ops.base import Ops
from pagemill.backends.paged.ops.torch_ops import TorchOps

LAYERS, HIDDEN, HEADS, KV_HEADS, HEAD_DIM, FFN, VOCAB = 12, 768, 12, 4, 64, 2048, 8192
BLOCK_SIZE = 16
CPU = torch.device("cpu")
SPEC = AttentionSpec(HEAD_DIM**-0.5)


def seconds(work: Callable[[], object], budget_s: float = 0.5) -> float:
    """The fastest of as many runs as the budget allows, five at least, after one that is not counted."""
    work()
    times: list[float] = []
    while len(times) < 5 or sum(times) < budget_s:
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def attention_step(
    decodes: list[int], prefills: list[tuple[int, int]], dtype: torch.dtype
) -> tuple[AttentionBatch, list[LayerKV], Tensor, Tensor, Tensor]:
    """`decodes` are contexts, `prefills` pairs of queries and context."""
    lens = [(1, context) for context in decodes] + prefills
    counts = [-(-context // BLOCK_SIZE) for _, context in lens]
    order = torch.randperm(sum(counts)).tolist()
    tables = torch.zeros(len(lens), max(counts), dtype=torch.int32)
    slots: list[int] = []
    starts = [0]
    for row, ((queries, context), count) in enumerate(zip(lens, counts, strict=True)):
        pages = [order.pop() for _ in range(count)]
        tables[row, :count] = torch.tensor(pages)
        slots += [pages[i // BLOCK_SIZE] * BLOCK_SIZE + i % BLOCK_SIZE for i in range(context - queries, context)]
        starts.append(starts[-1] + queries)
    batch = AttentionBatch(
        num_decodes=len(decodes),
        query_starts=torch.tensor(starts, dtype=torch.int32),
        context_lens=torch.tensor([context for _, context in lens], dtype=torch.int32),
        block_tables=tables,
        slots=torch.tensor(slots),
        max_query_len=max(queries for queries, _ in lens),
        max_context_len=max(context for _, context in lens),
        prefills=tuple(Prefill(len(decodes) + i, starts[len(decodes) + i], *pair) for i, pair in enumerate(prefills)),
    )
    shape = (sum(counts), KV_HEADS, BLOCK_SIZE, HEAD_DIM)
    layers = [LayerKV(*torch.randn(2, *shape).to(dtype)) for _ in range(LAYERS)]
    fused = torch.randn(starts[-1], HEADS + 2 * KV_HEADS, HEAD_DIM).to(dtype)
    return batch, layers, fused[:, :HEADS], fused[:, HEADS : HEADS + KV_HEADS], fused[:, HEADS + KV_HEADS :]


def attend(attention: Attention, step: tuple[AttentionBatch, list[LayerKV], Tensor, Tensor, Tensor]) -> None:
    batch, layers, query, key, value = step
    for kv in layers:
        attention(SPEC, query, key, value, kv, batch)


def decode(dtype: torch.dtype) -> None:
    native, plain = make_attention("auto", CPU, dtype), TorchAttention()
    for num_seqs in (1, 16, 64):
        for context in (128, 512, 4096) if num_seqs == 1 else (128, 512):
            step = attention_step([context] * num_seqs, [], dtype)
            fast, slow = (seconds(lambda a=a, s=step: attend(a, s)) for a in (native, plain))  # type: ignore[misc]
            gigabytes = num_seqs * context * LAYERS * 2 * KV_HEADS * HEAD_DIM * dtype.itemsize / 1e9
            print(
                f"decode {num_seqs:3} x {context:4}: {fast * 1e3:8.2f} ms {gigabytes / fast:6.1f} GB/s,"
                f" torch {slow * 1e3:8.2f} ms, ratio {slow / fast:5.1f}"
            )


def prefill(dtype: torch.dtype) -> None:
    native, plain = make_attention("auto", CPU, dtype), TorchAttention()
    for count, queries, context in ((1, 128, 128), (4, 128, 128), (1, 512, 512), (1, 128, 1024), (1, 2048, 2048)):
        step = attention_step([], [(queries, context)] * count, dtype)
        query = torch.randn(1, HEADS, queries, HEAD_DIM).to(dtype)
        keys = [torch.randn(1, KV_HEADS, context, HEAD_DIM).to(dtype) for _ in range(2 * LAYERS)]

        def dense(query: Tensor = query, keys: list[Tensor] = keys, count: int = count) -> None:
            for layer in range(LAYERS):
                for _ in range(count):
                    functional.scaled_dot_product_attention(
                        query, keys[2 * layer], keys[2 * layer + 1], is_causal=True, enable_gqa=True
                    )

        fast, slow = (seconds(lambda a=a, s=step: attend(a, s)) for a in (native, plain))  # type: ignore[misc]
        sdpa = seconds(dense) if queries == context else float("nan")
        pairs = queries * context - queries * (queries - 1) / 2
        gigaflop = count * LAYERS * HEADS * pairs * HEAD_DIM * 4 / 1e9
        print(
            f"prefill {count} x {queries:4} of {context:4}: {fast * 1e3:8.2f} ms {gigaflop / fast:6.1f} GFLOP/s,"
            f" sdpa on contiguous keys {sdpa * 1e3:8.2f} ms, torch {slow * 1e3:8.2f} ms, ratio {slow / fast:5.1f}"
        )


def small(dtype: torch.dtype) -> None:
    native, plain = make_ops("auto", CPU, dtype), TorchOps()
    weight, cos_sin = torch.randn(HIDDEN).to(dtype), torch.randn(2048, HEAD_DIM)
    for num_tokens in (1, 16, 64, 512):
        x, residual = torch.zeros(2, num_tokens, HIDDEN, dtype=dtype)
        fused = torch.randn(num_tokens, HEADS + KV_HEADS, HEAD_DIM).to(dtype)
        positions, gate_up = torch.arange(num_tokens), torch.randn(num_tokens, 2 * FFN).to(dtype)
        calls: dict[str, Callable[[Ops], object]] = {
            "rms_norm": lambda ops, x=x: ops.rms_norm(x, weight, 1e-5),  # type: ignore[misc]
            "add_rms_norm": lambda ops, x=x, r=residual: ops.add_rms_norm(x, r, weight, 1e-5),  # type: ignore[misc]
            "rotate": lambda ops, f=fused, p=positions: ops.rotate(f[:, :HEADS], f[:, HEADS:], p, cos_sin),  # type: ignore[misc]
            "gated_activation": lambda ops, g=gate_up: ops.gated_activation(g, "silu"),  # type: ignore[misc]
        }
        for name, call in calls.items():
            fast, slow = (twenty_calls(call, ops) for ops in (native, plain))
            speeds = f"{fast * 1e6:7.1f} us, torch {slow * 1e6:7.1f} us, ratio {slow / fast:4.1f}"
            print(f"{name:16} {num_tokens:3} tokens: {speeds}")


def twenty_calls(call: Callable[[Ops], object], ops: Ops) -> float:
    """Seconds of one of them."""
    return seconds(lambda: [call(ops) for _ in range(20)], 0.1) / 20


def linear(dtype: torch.dtype) -> None:
    """All of the model's matrix products."""
    native = make_ops("auto", CPU, dtype)
    shapes = [((HEADS + 2 * KV_HEADS) * HEAD_DIM, HIDDEN), (HIDDEN, HIDDEN), (2 * FFN, HIDDEN), (HIDDEN, FFN)]
    weights = [torch.randn(shape).to(dtype) for _ in range(LAYERS) for shape in shapes] + [
        torch.randn(VOCAB, HIDDEN).to(dtype)
    ]
    prepared = [native.prepare_weight(weight) for weight in weights]
    parameters = sum(weight.numel() for weight in weights)
    for num_tokens in (1, 4, 16, 64, 256, 512):
        x = {size: torch.randn(num_tokens, size).to(dtype) for size in (HIDDEN, FFN)}
        inputs = [x[weight.shape[1]] for weight in weights]
        fast = seconds(lambda i=inputs: [native.linear(*pair) for pair in zip(i, prepared, strict=True)])  # type: ignore[misc]
        slow = seconds(lambda i=inputs: [functional.linear(*pair) for pair in zip(i, weights, strict=True)])  # type: ignore[misc]
        gigaflops, gigabytes = 2e-9 * parameters * num_tokens / fast, 1e-9 * parameters * dtype.itemsize / fast
        print(
            f"linear {num_tokens:3} tokens: {fast * 1e3:7.2f} ms {gigaflops:6.1f} GFLOP/s {gigabytes:5.1f} GB/s,"
            f" torch {slow * 1e3:7.2f} ms, ratio {slow / fast:4.2f}"
        )


def main() -> None:
    benchmarks = {"decode": decode, "prefill": prefill, "small": small, "linear": linear}
    parser = argparse.ArgumentParser(description="CPU kernels beside plain torch")
    parser.add_argument("--only", nargs="+", choices=benchmarks, default=list(benchmarks))
    parser.add_argument("--dtype", choices=["bfloat16", "float32"], default="bfloat16")
    arguments = parser.parse_args()
    print(f"{torch.get_num_threads()} threads, {arguments.dtype}")
    torch.manual_seed(0)
    with torch.inference_mode():
        for name in arguments.only:
            benchmarks[name](getattr(torch, arguments.dtype))


if __name__ == "__main__":
    main()
