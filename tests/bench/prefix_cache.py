"""What the prefix cache costs the engine when it never hits: `python tests/bench/prefix_cache.py [--repeats 20]`.

Scheduler and block cache alone, in this thread, on rounds of prompts that share nothing; the tokens are made up. Rounds
with the cache on and off take turns. Between steps the CPU's caches are filled with other things, as a model's step
fills them: warm, the same costs a fifth. Prints microseconds of CPU time for each token of the steps that prefill, and
of those that decode: the median over the rounds, and over the pairs of rounds for the difference.
"""

import argparse
import random
import statistics
import time
from collections.abc import Iterator
from typing import NamedTuple

from pagemill.engine.block_kv_cache import BlockKVCache
from pagemill.engine.scheduler import Scheduler, SchedulerConfig
from pagemill.engine.sequence import Sequence
from pagemill.engine.step import SampledToken, StepResult
from pagemill.generation import SamplingParams

BLOCK_SIZE = 16
VOCABULARY = range(32_000)
SAMPLING = SamplingParams(temperature=0.0)
STEP_TOKENS = 2048


class Load(NamedTuple):
    """Of a round: all its sequences come at once."""

    num_seqs: int
    num_prompt_tokens: int
    num_output_tokens: int


class Cost(NamedTuple):
    """Microseconds of CPU time for each token, by the kind of step that computed it."""

    prefill: float
    decode: float


class Engine:
    """A scheduler on a cache that holds two rounds, so that in the end it has to forget, too."""

    def __init__(self, load: Load, cold_bytes: int, *, prefix_caching: bool, seed: int) -> None:
        tokens = load.num_prompt_tokens + load.num_output_tokens
        num_blocks = 2 * load.num_seqs * -(-tokens // BLOCK_SIZE)
        config = SchedulerConfig(
            max_num_seqs=load.num_seqs, max_num_batched_tokens=STEP_TOKENS, eos_token_ids=frozenset()
        )
        self._scheduler = Scheduler(BlockKVCache(num_blocks, BLOCK_SIZE, enable_prefix_caching=prefix_caching), config)
        self._load = load
        self._random = random.Random(seed)
        self._next_id = 0
        self._read, self._written = bytes(cold_bytes), bytearray(cold_bytes)

    def round(self) -> Cost:
        """Run a round to its end."""
        for _ in range(self._load.num_seqs):
            prompt = tuple(self._random.choices(VOCABULARY, k=self._load.num_prompt_tokens))
            self._scheduler.add(
                Sequence(self._next_id, "bench", prompt, SAMPLING, max_tokens=self._load.num_output_tokens)
            )
            self._next_id += 1
        seconds, tokens = {True: 0.0, False: 0.0}, {True: 0, False: 0}
        for decodes, num_tokens, step_s in self._steps():
            seconds[decodes] += step_s
            tokens[decodes] += num_tokens
        return Cost(*(seconds[decodes] / tokens[decodes] * 1e6 for decodes in (False, True)))

    def _steps(self) -> Iterator[tuple[bool, int, float]]:
        """Of each step: whether all it does is decode, its tokens, what it cost."""
        while self._scheduler.has_work:
            self._written[:] = self._read
            start = time.thread_time()
            plan = self._scheduler.schedule()
            step_s = time.thread_time() - start
            tokens = self._random.choices(VOCABULARY, k=len(plan.chunks))
            result = StepResult(
                tuple(
                    SampledToken(chunk.sequence_id, token)
                    for chunk, token in zip(plan.chunks, tokens, strict=True)
                    if chunk.sample
                )
            )
            self._written[:] = self._read
            start = time.thread_time()
            self._scheduler.commit(plan, result)
            step_s += time.thread_time() - start
            if plan.chunks:
                yield plan.num_tokens == len(plan.chunks), plan.num_tokens, step_s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--num-seqs", type=int, default=16)
    parser.add_argument("--prompt", type=int, default=128, help="tokens (%(default)s)")
    parser.add_argument("--output", type=int, default=64, help="tokens (%(default)s)")
    parser.add_argument("--cold", type=int, default=32, help="MiB copied before each half of a step (%(default)s)")
    parser.add_argument("--repeats", type=int, default=20, help="rounds of each kind (%(default)s)")
    options = parser.parse_args()
    load = Load(options.num_seqs, options.prompt, options.output)
    on, off = (
        Engine(load, options.cold * 2**20, prefix_caching=prefix_caching, seed=1) for prefix_caching in (True, False)
    )
    pairs = [(on.round(), off.round()) for _ in range(3 + options.repeats)][3:]  # the first fill the cache
    for kind in Cost._fields:
        costs = [(getattr(one, kind), getattr(other, kind)) for one, other in pairs]
        with_it, without = (statistics.median(side) for side in zip(*costs, strict=True))
        more = statistics.median(one - other for one, other in costs)
        print(f"{kind:8} on {with_it:.3f}, off {without:.3f}, difference {more:+.3f} us a token")


if __name__ == "__main__":
    main()
