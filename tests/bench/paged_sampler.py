"""What sampling a batch costs: `python tests/bench/paged_sampler.py [--steps 20]`.

Prints microseconds of CPU time a row for `Sampler.sample` and `collect` on one core (so a busy machine changes it
little), for logits as of a model that knows what it says ("peaked": the nucleus of 0.9 is some hundreds of tokens) and
of one that does not ("flat": it is half the vocabulary).
"""

import argparse
import time

import torch

from pagemill.backends.paged.sampling import Sampler
from pagemill.engine.step import SequenceStart
from pagemill.generation import SamplingParams

VOCAB_SIZES = (8192, 151_936)
NUM_ROWS = (1, 16, 64)
SAMPLINGS = {
    "greedy": SamplingParams(temperature=0.0),
    "temperature": SamplingParams(temperature=0.8),
    "min_p 0.05": SamplingParams(min_p=0.05),
    "top_k 40": SamplingParams(top_k=40),
    "top_p 0.9": SamplingParams(top_p=0.9),
    "typical 0.9": SamplingParams(typical_p=0.9),
    "penalties": SamplingParams(temperature=0.0, repetition_penalty=1.1, frequency_penalty=0.5),
    "penalties, last 64": SamplingParams(temperature=0.0, repetition_penalty=1.1, penalty_last_n=64),
    "logprobs 5": SamplingParams(temperature=0.0, logprobs=5),
}
SCALES = {"peaked": 4.0, "flat": 0.5}


def measure(sampling: SamplingParams, logits: torch.Tensor, num_steps: int) -> float:
    """CPU seconds a step: the median, without the first."""
    num_rows, vocab_size = logits.shape
    sampler = Sampler(vocab_size, frozenset({0}), logits.device, num_rows)
    prompt = tuple(range(1, 1001))
    for row in range(num_rows):
        sampler.start(SequenceStart(row, prompt, sampling))
    times = []
    for _ in range(num_steps + 1):
        rows = logits.clone()
        begin = time.thread_time()
        sampler.sample(rows, range(num_rows)).collect()
        times.append(time.thread_time() - begin)
    return sorted(times[1:])[num_steps // 2]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=20)
    options = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    print(f"{'us a row':20} {'vocabulary':>10} " + " ".join(f"{n:>4} rows" for n in NUM_ROWS))
    for vocab_size in VOCAB_SIZES:
        for shape, scale in SCALES.items():
            logits = torch.randn(max(NUM_ROWS), vocab_size) * scale
            for name, sampling in SAMPLINGS.items():
                costs = [measure(sampling, logits[:n], options.steps) / n * 1e6 for n in NUM_ROWS]
                print(f"{name:20} {vocab_size:10} " + " ".join(f"{cost:9.1f}" for cost in costs) + f"  {shape}")


if __name__ == "__main__":
    main()
