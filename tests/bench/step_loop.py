"""What the engine itself costs for a token: `python tests/bench/step_loop.py [--num-seqs 64] [--num-tokens 500]`.

Runs the step loop's turns in this thread on the fake backend, without HTTP or an event loop, and prints microseconds of
CPU time for each token, split into the turn's parts. CPU time, so that a busy machine changes it little.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pagemill.backends.fake import FakeBackend
from pagemill.engine.scheduler import Scheduler, SchedulerConfig
from pagemill.engine.sequence import Sequence
from pagemill.engine.sequence_output import SequenceOutput
from pagemill.engine.token_text import TokenText
from pagemill.generation import SamplingParams


class Stopwatch:
    """CPU seconds by name."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        start = time.thread_time()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.thread_time() - start


def run(num_seqs: int, num_tokens: int, kv: str) -> tuple[int, Stopwatch]:
    """Decode `num_tokens` for each of `num_seqs` sequences; returns tokens and times."""
    backend = FakeBackend(
        reply=lambda prompt: [65] * num_tokens,
        max_num_seqs=num_seqs,
        max_model_len=num_tokens + 256,
        kv="block" if kv == "block" else "resident",
    )
    config = SchedulerConfig(max_num_seqs=num_seqs, max_num_batched_tokens=2048, eos_token_ids=frozenset({257}))
    scheduler = Scheduler(backend.new_kv_cache(), config)
    token_bytes: Callable[[int], bytes] = TokenText(backend.tokenizer).lookup(SamplingParams())
    outputs: dict[int, SequenceOutput] = {}
    for sequence_id in range(num_seqs):
        sampling = SamplingParams(temperature=0.0)
        prompt = tuple(b"%04d" % sequence_id * 32)
        sequence = Sequence(sequence_id, "bench", prompt, sampling, max_tokens=num_tokens)
        outputs[sequence_id] = SequenceOutput(sequence, 0, token_bytes, 0.0)
        scheduler.add(sequence)
    watch, count = Stopwatch(), 0
    while scheduler.has_work:
        with watch.part("schedule"):
            plan = scheduler.schedule()
        with watch.part("execute (fake)"):
            result = backend.execute(plan)
        with watch.part("commit"):
            progress = scheduler.commit(plan, result)
        with watch.part("output"):
            for item in progress:
                outputs[item.sequence.sequence_id].advance(item, 0.0)
        count += len(progress)
    return count, watch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--num-seqs", type=int, default=64)
    parser.add_argument("--num-tokens", type=int, default=500)
    options = parser.parse_args()
    for kv in ("block", "resident"):
        count, watch = run(options.num_seqs, options.num_tokens, kv)
        parts = ", ".join(f"{name} {seconds / count * 1e6:.2f}" for name, seconds in watch.seconds.items())
        total = sum(seconds for name, seconds in watch.seconds.items() if "fake" not in name)
        print(f"{kv:9} {count} tokens: {parts} us; without the fake backend {total / count * 1e6:.2f} us a token")


if __name__ == "__main__":
    main()
