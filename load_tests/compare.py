"""Pagemill beside llama-server: output tokens per second and time to first token, by number of clients.

    python -m load_tests.compare --scenario mixed --clients 1,4,16,32 --repeats 3

Each run starts its server afresh with as many slots as there are clients, so that no server's leftovers weigh on
another, and the order of the servers rotates from repeat to repeat (A B, B A, ...). Every repeat has prompts of its
own, the same for all servers. llama-server runs in several settings; the ratio is against the best of them, for
throughput and for TTFT apart.
"""

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from load_tests.measures import RunSummary
from load_tests.models import model_path, shapes, text_token_ids
from load_tests.peers import llama_server
from load_tests.report import OURS, Comparison, ServerFigures, compare, environment, format_spread, save, table
from load_tests.runs import Cell, default_threads, measure, server_command
from load_tests.scenarios import Scenario, scenarios


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """See --help."""
    parser = argparse.ArgumentParser(description="compare pagemill with llama-server")
    parser.add_argument("--scenario", default="mixed", help=f"comma-separated, of {', '.join(scenarios())}")
    parser.add_argument("--clients", default="1,4,16,32", help="numbers of clients, comma-separated (%(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each server in each cell (%(default)s)")
    parser.add_argument("--requests", type=int, help="requests per run (default: the scenario's own number)")
    parser.add_argument("--params", choices=sorted(shapes()), default="88M", help="the model's size (%(default)s)")
    parser.add_argument("--threads", type=int, default=default_threads(), help="of each server (%(default)s)")
    parser.add_argument(
        "--peers",
        default="streams,unified,streams-no-ram-cache",
        help=f"llama-server settings, comma-separated, of {', '.join(llama_server.variants())} (%(default)s)",
    )
    parser.add_argument("--pagemill-flag", action="append", default=[], help="a further flag for pagemill; repeat it")
    parser.add_argument("--name", default="compare", help="name of the result file (%(default)s)")
    parser.add_argument("--no-save", action="store_true", help="print only")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run all cells, print a table after each, save everything at the end."""
    options = parse_arguments(arguments)
    model = model_path(options.params)
    started_in = environment()
    cells = []
    for scenario_name in options.scenario.split(","):
        for num_clients in map(int, options.clients.split(",")):
            cell = make_cell(scenarios()[scenario_name], num_clients, options.requests, options.threads)
            cells.append(run_cell(cell, model, options))
    if not options.no_save:
        print("saved", save(options.name, {"options": vars(options), "environment_before": started_in, "cells": cells}))


def make_cell(scenario: Scenario, num_clients: int, num_requests: int | None, threads: int) -> Cell:
    """A cell with the scenario's own number of requests, if none is given."""
    return Cell(scenario, num_clients, num_requests or scenario.num_requests(num_clients), threads)


def run_cell(cell: Cell, model: Path, options: argparse.Namespace) -> dict[str, object]:
    """All servers, all repeats, interleaved. The result is for JSON."""
    servers = [OURS, *options.peers.split(",")]
    token_ids = text_token_ids(shapes()[options.params].vocab)
    runs: dict[str, list[RunSummary]] = {server: [] for server in servers}
    shares: dict[str, list[dict[str, float]]] = {server: [] for server in servers}
    for repeat in range(options.repeats):
        for server in rotated(servers, repeat):
            command = server_command(server, model, cell, options.pagemill_flag)
            summary, share = measure(command, cell, token_ids, seed=repeat)
            runs[server].append(summary)
            shares[server].append(asdict(share))
            print(f"  {cell.scenario.name} x{cell.num_clients} #{repeat} {run_line(server, summary)}", flush=True)
    figures = {server: ServerFigures.of(server, server_runs) for server, server_runs in runs.items()}
    comparison = compare(figures[OURS], [figure for server, figure in figures.items() if server != OURS])
    print(cell_report(cell, figures, comparison), flush=True)
    return {
        "scenario": asdict(cell.scenario),
        "num_clients": cell.num_clients,
        "num_requests": cell.num_requests,
        "max_model_len": cell.scenario.max_model_len,
        "threads": cell.threads,
        "comparison": asdict(comparison),
        "servers": {
            server: {
                "command": server_command(server, model, cell, options.pagemill_flag).described(),
                "figures": asdict(figures[server]),
                "runs": [run.as_dict() for run in runs[server]],
                "cores_used": shares[server],
            }
            for server in servers
        },
    }


def rotated(servers: Sequence[str], repeat: int) -> list[str]:
    """Forwards in even repeats, backwards in odd ones, so that none always comes after the same other."""
    return list(servers) if repeat % 2 == 0 else list(reversed(servers))


def run_line(server: str, summary: RunSummary) -> str:
    """One run on one line."""
    return (
        f"{server:22} {summary.output_tokens_per_s:7.1f} tok/s  TTFT p50 {summary.ttft_s.p50 * 1000:7.1f} ms "
        f"p99 {summary.ttft_s.p99 * 1000:7.1f}  cached {summary.cached_tokens}/{summary.prompt_tokens}"
    )


def cell_report(cell: Cell, figures: dict[str, ServerFigures], comparison: Comparison) -> str:
    """A table of the servers and the two ratios."""
    rows = [
        (
            server,
            format_spread(figure.output_tokens_per_s),
            format_spread(figure.median_ttft_s, 1000),
            format_spread(figure.median_tpot_s, 1000),
        )
        for server, figure in figures.items()
    ]
    return "\n".join(
        (
            f"\n{cell.scenario.name} ({cell.scenario.description}), {cell.num_clients} clients, "
            f"{cell.num_requests} requests, median (low-high) of the repeats",
            table(("server", "output tok/s", "median TTFT, ms", "median TPOT, ms"), rows),
            f"pagemill / best of llama-server: {comparison.throughput_ratio:.2f} output tok/s "
            f"({comparison.throughput_peer}), {comparison.ttft_ratio:.2f} TTFT ({comparison.ttft_peer}); "
            "above 1 is in our favour\n",
        )
    )


if __name__ == "__main__":
    main()
