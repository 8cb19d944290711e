"""Decode speed of the KV layouts: one unified buffer or a stream for each sequence, with and without flash attention.

    python tests/bench/kv_layout.py MODEL.gguf [--num-tokens 512] [--num-steps 32] [--sequences 1 4 16] [--threads N]

Each sequence is given `--num-tokens` of context first; timed are steps of one token for all of them. Also times what a
step costs when the running sequences' slots are not neighbours (`gaps`), and a prefix copy between slots.
"""

import argparse
import random
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import Literal

from pagemill.backends.gguf.backend import GGUFBackend
from pagemill.backends.gguf.options import GGUFOptions
from pagemill.engine.step import CopyKV, SequenceChunk, SequenceStart, StepPlan
from pagemill.generation import SamplingParams

GREEDY = SamplingParams(temperature=0.0)


def load(
    args: argparse.Namespace, num_slots: int, *, kv_unified: bool, flash_attn: Literal["on", "off"]
) -> GGUFBackend:
    options = GGUFOptions(
        max_model_len=args.num_tokens + 3 * args.num_steps + 8,
        max_num_seqs=num_slots,
        threads=args.threads,
        kv_unified=kv_unified,
        flash_attn=flash_attn,
    )
    return GGUFBackend.load(args.model, options)


def prefill(backend: GGUFBackend, slots: Sequence[int], num_tokens: int) -> None:
    """Fill each slot with tokens of its own."""
    size = backend.max_num_batched_tokens
    for slot in slots:
        tokens = random.Random(slot).choices(range(backend.info.vocab_size), k=num_tokens)
        started = (SequenceStart(slot, tuple(tokens), GREEDY),)
        for begin in range(0, num_tokens, size):
            part = tuple(tokens[begin : begin + size])
            chunk = SequenceChunk(slot, part, begin, (slot,), False)
            backend.execute(StepPlan(0, started=started if begin == 0 else (), chunks=(chunk,), num_tokens=len(part)))


def decode_rate(backend: GGUFBackend, slots: Sequence[int], start: int, num_steps: int) -> float:
    """Tokens per second over `num_steps` steps, the first (which builds the graph) not counted."""
    tokens = dict.fromkeys(slots, 1)
    began = 0.0
    for position in range(start, start + num_steps):
        if position == start + 1:
            began = perf_counter()
        chunks = tuple(SequenceChunk(slot, (tokens[slot],), position, (slot,), True) for slot in slots)
        for sampled in backend.execute(StepPlan(0, chunks=chunks, num_tokens=len(slots))).sampled:
            tokens[sampled.sequence_id] = sampled.token_id
    return len(slots) * (num_steps - 1) / (perf_counter() - began)


def layout_table(args: argparse.Namespace) -> None:
    print(f"{'layout':<10} {'flash':<6}" + "".join(f"{count:>8} seq" for count in args.sequences))
    for kv_unified in (True, False):
        for flash_attn in ("off", "on"):
            cells = []
            for count in args.sequences:
                backend = load(args, count, kv_unified=kv_unified, flash_attn=flash_attn)
                prefill(backend, range(count), args.num_tokens)
                cells.append(f"{decode_rate(backend, range(count), args.num_tokens, args.num_steps):>8.1f} t/s")
                backend.close()
            print(f"{'unified' if kv_unified else 'streams':<10} {flash_attn:<6}" + "".join(cells), flush=True)


def gap_and_copy_table(args: argparse.Namespace) -> None:
    backend = load(args, 16, kv_unified=False, flash_attn="on")
    prefill(backend, range(16), args.num_tokens)
    start = args.num_tokens
    for name, slots in (("neighbours 0-3", (0, 1, 2, 3)), ("with gaps 4,7,10,13", (4, 7, 10, 13))):
        print(f"4 of 16 slots, {name}: {decode_rate(backend, slots, start, args.num_steps):.1f} t/s")
    chunk = SequenceChunk(0, (1,), start + args.num_steps, (0,), True)
    began = perf_counter()
    backend.execute(StepPlan(0, chunks=(chunk,), num_tokens=1))
    alone = perf_counter() - began
    chunk = SequenceChunk(15, (1,), start, (15,), True)
    began = perf_counter()
    backend.execute(StepPlan(0, kv_operations=(CopyKV(0, 15, start),), chunks=(chunk,), num_tokens=1))
    print(f"prefix copy between slots: {(perf_counter() - began - alone) * 1000:.2f} ms")
    backend.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--num-tokens", type=int, default=512)
    parser.add_argument("--num-steps", type=int, default=32)
    parser.add_argument("--sequences", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--threads", type=int, default=None)
    args = parser.parse_args()
    layout_table(args)
    gap_and_copy_table(args)


if __name__ == "__main__":
    main()
