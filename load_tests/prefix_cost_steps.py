"""What the prefix cache costs when it never hits, in one process and step by step, so that a busy machine can tell.

    python -m load_tests.prefix_cost_steps --threads 1 --rounds 30

One model is loaded, and two schedulers send it the same sequences, one with its prefix cache, one without. They take
turns step by step, who goes first turning too: two steps that are compared lie milliseconds apart, in the same memory,
on the same threads. Both use the same pages of the pool, so what is computed means nothing; it costs the same. No HTTP:
that part of a server knows nothing of the cache. A round's cost is that of its steps together; the figures are medians
over rounds, as in `prefix_cost`. `bookkeeping` is what scheduler and cache take more, as a fraction of all CPU time.
On one thread none waits in a loop for another that something else keeps from running, which is CPU time too.
"""

import argparse
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields

from load_tests.compare import make_cell
from load_tests.model_folders import model_folder
from load_tests.models import shapes, text_token_ids
from load_tests.prefix_cost import ROUNDS_IN_CACHE, cost, cost_report
from load_tests.report import OURS, environment, save
from load_tests.runs import Cell, default_threads
from load_tests.scenarios import PlannedRequest, scenarios
from pagemill.backends.paged.backend import PagedBackend
from pagemill.backends.paged.options import PagedOptions
from pagemill.engine.scheduler import Scheduler, SchedulerConfig
from pagemill.engine.sequence import Sequence as EngineSequence
from pagemill.generation import SamplingParams

UNCOUNTED_ROUNDS = 3
SAMPLING = SamplingParams(temperature=0.0, ignore_eos=True)


@dataclass(slots=True)
class Spent:
    """In one round, or one step of it, by one side."""

    cpu_s: float = 0.0  # of the process
    wall_s: float = 0.0
    bookkeeping_s: float = 0.0  # CPU time of scheduler and cache

    def add(self, other: "Spent") -> None:
        for field in fields(self):
            setattr(self, field.name, getattr(self, field.name) + getattr(other, field.name))


class Side:
    """A scheduler that shares the backend with the other side's."""

    def __init__(self, backend: PagedBackend, first_id: int, *, prefix_caching: bool) -> None:
        self._backend = backend
        self._next_id = first_id  # the sides' ids differ in being even or odd: the backend must tell them apart
        self._scheduler = Scheduler(
            backend.new_kv_cache(enable_prefix_caching=prefix_caching),
            SchedulerConfig(
                max_num_seqs=backend.max_num_seqs,
                max_num_batched_tokens=backend.max_num_batched_tokens,
                eos_token_ids=backend.tokenizer.eos_token_ids,
            ),
        )

    def add(self, planned: Sequence[PlannedRequest]) -> None:
        """All come at once."""
        for request in planned:
            sequence = EngineSequence(
                self._next_id, "load test", request.prompt_token_ids, SAMPLING, max_tokens=request.max_tokens
            )
            self._scheduler.add(sequence)
            self._next_id += 2

    @property
    def has_work(self) -> bool:
        return self._scheduler.has_work

    def step(self) -> Spent:
        """Raises RuntimeError for a token that came from the cache."""
        wall, cpu, own = time.perf_counter(), time.process_time(), time.thread_time()
        plan = self._scheduler.schedule()
        own_s = time.thread_time() - own
        result = self._backend.execute(plan)
        own = time.thread_time()
        self._scheduler.commit(plan, result)
        own_s += time.thread_time() - own
        spent = Spent(time.process_time() - cpu, time.perf_counter() - wall, own_s)
        started = {start.sequence_id for start in plan.started}
        if any(chunk.start for chunk in plan.chunks if chunk.sequence_id in started):
            raise RuntimeError("a prompt's beginning came from the cache; a hit rate of 0% was meant")
        return spent


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print and save."""
    parser = argparse.ArgumentParser(description="what the prefix cache costs at a hit rate of 0%, in one process")
    parser.add_argument("--scenario", choices=("fixed", "mixed"), default="fixed", help="default: %(default)s")
    parser.add_argument("--clients", type=int, default=16, help="and requests in a round (%(default)s)")
    parser.add_argument("--rounds", type=int, default=30, help="of each side (%(default)s)")
    parser.add_argument("--params", choices=sorted(shapes()), default="88M", help="the model's size (%(default)s)")
    parser.add_argument("--threads", type=int, default=default_threads(), help="default: %(default)s")
    parser.add_argument("--both-off", action="store_true", help="neither has a cache: shows the method's own error")
    parser.add_argument("--no-save", action="store_true", help="print only")
    options = parser.parse_args(arguments)
    started_in = environment()
    cell = make_cell(scenarios()[options.scenario], options.clients, options.clients, options.threads)
    rounds = run_rounds(options.params, cell, options.rounds, prefix_caching=not options.both_off)
    costs = {
        "CPU time": cost([(on.cpu_s, off.cpu_s) for on, off in rounds]),
        "wall time": cost([(on.wall_s, off.wall_s) for on, off in rounds]),
        "bookkeeping": cost([(off.cpu_s + on.bookkeeping_s - off.bookkeeping_s, off.cpu_s) for on, off in rounds]),
    }
    print(cost_report(OURS, cell, len(rounds), costs))
    if not options.no_save:
        figures = {
            "options": vars(options),
            "environment_before": started_in,
            "costs": {name: asdict(value) for name, value in costs.items()},
            "rounds": [[asdict(on), asdict(off)] for on, off in rounds],
        }
        print("saved", save("prefix-cost-steps", figures))


def run_rounds(params: str, cell: Cell, num_rounds: int, *, prefix_caching: bool) -> list[tuple[Spent, Spent]]:
    """(on, off) of each round after the first ones, which fill the cache."""
    on, off = sides(params, cell, prefix_caching=prefix_caching)
    token_ids = text_token_ids(shapes()[params].vocab)
    plans = (cell.scenario.plan(cell.num_requests, token_ids, seed) for seed in range(UNCOUNTED_ROUNDS + num_rounds))
    return [run_round(on, off, planned) for planned in plans][UNCOUNTED_ROUNDS:]


def sides(params: str, cell: Cell, *, prefix_caching: bool) -> tuple[Side, Side]:
    """Both on one loaded model."""
    max_model_len = cell.scenario.max_model_len
    options = PagedOptions(
        device="cpu",
        dtype="bfloat16",
        kv_cache_memory_bytes=shapes()[params].kv_bytes(ROUNDS_IN_CACHE * cell.num_clients * max_model_len),
        max_model_len=max_model_len,
        max_num_seqs=cell.num_clients,
        threads=cell.threads,
    )
    backend = PagedBackend.load(model_folder(params), options)
    return Side(backend, 0, prefix_caching=prefix_caching), Side(backend, 1, prefix_caching=False)


def run_round(on: Side, off: Side, planned: Sequence[PlannedRequest]) -> tuple[Spent, Spent]:
    """All steps of the same requests on both sides."""
    on.add(planned)
    off.add(planned)
    with_it, without = Spent(), Spent()
    turns = [(on, with_it), (off, without)]
    while on.has_work or off.has_work:
        for side, spent in turns:
            spent.add(side.step())
        turns.reverse()
    return with_it, without


if __name__ == "__main__":
    main()
