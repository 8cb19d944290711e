"""What the prefix cache costs when it never hits: the same requests with it on and off, to a part of a percent.

    python -m load_tests.prefix_cost --server pagemill --pairs 60

Two servers of one kind run side by side, one with its prefix cache, one without, and take turns at one round of
requests (all clients at once; prompts that no server has seen), so that what disturbs the machine disturbs both. The
order turns from pair to pair. The result is the median over the pairs of on / off - 1, with a 95% interval that assumes
nothing of the distribution, once for the server's CPU time and once for wall time. The first pairs are not counted:
they fill the cache, which is small, so that in all that count it has to forget too. Nor are pairs during which anything
else used the machine.
"""

import argparse
import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from load_tests.compare import make_cell
from load_tests.compare_paged import NO_PREFIX_CACHE, http_command
from load_tests.cpu_time import cpu_seconds
from load_tests.model_folders import model_folder
from load_tests.models import shapes, text_token_ids
from load_tests.report import OURS, environment, save, table
from load_tests.runs import Cell, default_threads, measure_on
from load_tests.scenarios import scenarios
from load_tests.servers import RunningServer

AIM = 0.01
ROUNDS_IN_CACHE = 2
UNCOUNTED_PAIRS = 4


@dataclass(frozen=True, slots=True)
class Round:
    """One round of requests to one server."""

    cpu_s: float  # of the server
    wall_s: float
    cached_tokens: int
    others: float  # cores that all else on the machine used


@dataclass(frozen=True, slots=True)
class Cost:
    """Of having the cache on, as a fraction of what is spent with it off. The median, and a 95% interval for it."""

    median: float
    low: float
    high: float


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print and save."""
    parser = argparse.ArgumentParser(description="what the prefix cache costs at a hit rate of 0%")
    parser.add_argument("--server", choices=(OURS, "vllm"), default=OURS, help="default: %(default)s")
    parser.add_argument("--scenario", choices=("fixed", "mixed"), default="fixed", help="default: %(default)s")
    parser.add_argument("--clients", type=int, default=16, help="and requests in a round (%(default)s)")
    parser.add_argument("--pairs", type=int, default=60, help="rounds of each server (%(default)s)")
    parser.add_argument(
        "--max-others", type=float, default=0.1, help="cores that others may use in a pair that counts (%(default)s)"
    )
    parser.add_argument("--params", choices=sorted(shapes()), default="88M", help="the model's size (%(default)s)")
    parser.add_argument("--threads", type=int, default=default_threads(), help="of each server (%(default)s)")
    parser.add_argument("--no-save", action="store_true", help="print only")
    options = parser.parse_args(arguments)
    started_in = environment()
    cell = make_cell(scenarios()[options.scenario], options.clients, options.clients, options.threads)
    measured = run_pairs(options.server, options.params, cell, options.pairs)
    pairs = [pair for pair in measured if max(one.others for one in pair) <= options.max_others]
    costs = {"CPU time": cost([(on.cpu_s, off.cpu_s) for on, off in pairs])}
    costs["wall time"] = cost([(on.wall_s, off.wall_s) for on, off in pairs])
    print(cost_report(options.server, cell, len(pairs), costs))
    if not options.no_save:
        figures = {
            "options": vars(options),
            "environment_before": started_in,
            "costs": {name: asdict(value) for name, value in costs.items()},
            "pairs": [[asdict(on), asdict(off)] for on, off in measured],
        }
        print("saved", save("prefix-cost", figures))


def run_pairs(server: str, params: str, cell: Cell, num_pairs: int) -> list[tuple[Round, Round]]:
    """(on, off) of each pair after the first ones."""
    model, token_ids = model_folder(params), text_token_ids(shapes()[params].vocab)
    cache_bytes = shapes()[params].kv_bytes(ROUNDS_IN_CACHE * cell.num_clients * cell.scenario.max_model_len)
    on, off = (
        RunningServer(http_command(server + suffix, model, cell, kv_cache_bytes=cache_bytes))
        for suffix in ("", NO_PREFIX_CACHE)
    )
    pairs = []
    with on, off:
        for number in range(UNCOUNTED_PAIRS + num_pairs):
            order = (on, off) if number % 2 == 0 else (off, on)
            rounds = {one: run_round(one, cell, token_ids, seed=number) for one in order}
            if rounds[on].cached_tokens:
                raise RuntimeError(f"{rounds[on].cached_tokens} tokens came from the cache; a rate of 0% was meant")
            if number >= UNCOUNTED_PAIRS:
                pairs.append((rounds[on], rounds[off]))
                print(f"  #{number - UNCOUNTED_PAIRS} {pair_line(rounds[on], rounds[off])}", flush=True)
    return pairs


def pair_line(on: Round, off: Round) -> str:
    """One pair on one line."""
    return (
        f"on {on.cpu_s:.2f} s of CPU, {on.wall_s:.3f} s; off {off.cpu_s:.2f} s of CPU, {off.wall_s:.3f} s; "
        f"others {max(on.others, off.others):.2f} cores"
    )


def run_round(server: RunningServer, cell: Cell, token_ids: Sequence[int], seed: int) -> Round:
    """All clients send one request. Raises BadResponseError unless every one gave exactly the tokens asked for."""
    before_s = cpu_seconds(server.pid)
    summary, share = measure_on(server, cell, token_ids, seed)
    return Round(cpu_seconds(server.pid) - before_s, summary.duration_s, summary.cached_tokens, share.others)


def cost(pairs: Sequence[tuple[float, float]]) -> Cost:
    """Of (on, off) pairs. The interval is between two order statistics, by the binomial distribution of the count of
    pairs below the median, which is nearly normal. Raises ValueError for fewer than 6 pairs: no interval would be 95%.
    """
    if len(pairs) < 6:
        raise ValueError(f"{len(pairs)} pairs are too few for a 95% interval; it takes 6")
    ratios = sorted(on / off - 1 for on, off in pairs)
    outside = max(0, math.floor(len(ratios) / 2 - 0.98 * math.sqrt(len(ratios))))
    return Cost(statistics.median(ratios), ratios[outside], ratios[-1 - outside])


def cost_report(server: str, cell: Cell, num_pairs: int, costs: dict[str, Cost]) -> str:
    """A table; the cost is shown when all of its interval is below the aim."""
    rows = [
        (
            name,
            f"{value.median:+.2%}",
            f"{value.low:+.2%} to {value.high:+.2%}",
            "yes" if value.high < AIM else "no" if value.low >= AIM else "not resolved",
        )
        for name, value in costs.items()
    ]
    return "\n".join(
        (
            f"\n{server}, prefix cache on against off, no hits: {cell.scenario.name}, {cell.num_clients} clients, "
            f"{num_pairs} pairs of rounds",
            table(("", "cost", "95% interval", f"under {AIM:.0%}"), rows),
            "",
        )
    )


if __name__ == "__main__":
    main()
