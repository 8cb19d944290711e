"""One measured run: start a server afresh, warm it up, send it a scenario, check every answer. Owns no state."""

import asyncio
import os
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import uvloop

from load_tests.client import RawResponse, encode_request, run_closed_loop
from load_tests.cpu_time import CPUShare, Stopwatch
from load_tests.measures import RunSummary, summarize
from load_tests.peers import llama_server, pagemill
from load_tests.report import OURS
from load_tests.scenarios import PlannedRequest, Scenario
from load_tests.servers import RunningServer, ServerCommand
from load_tests.sse import read_record

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Cell:
    """One scenario at one number of clients, which is also the number of slots."""

    scenario: Scenario
    num_clients: int
    num_requests: int
    threads: int


def server_command(name: str, model: Path, cell: Cell, pagemill_flags: Sequence[str] = ()) -> ServerCommand:
    """The command of Pagemill, or of a llama-server variant, with the cell's context, slots and threads."""
    max_model_len = cell.scenario.max_model_len
    if name == OURS:
        return pagemill.gguf_command(
            model,
            num_slots=cell.num_clients,
            max_model_len=max_model_len,
            threads=cell.threads,
            flags=tuple(pagemill_flags),
        )
    return llama_server.command(
        model, num_slots=cell.num_clients, max_model_len=max_model_len, threads=cell.threads, variant=name
    )


def measure(command: ServerCommand, cell: Cell, token_ids: Sequence[int], seed: int) -> tuple[RunSummary, CPUShare]:
    """One run. Raises BadResponseError unless every request gave exactly the tokens asked for."""
    with RunningServer(command) as server:
        send(server, cell.scenario.warm_up(cell.num_clients, token_ids, seed), cell.num_clients)
        return measure_on(server, cell, token_ids, seed)


def measure_on(server: RunningServer, cell: Cell, token_ids: Sequence[int], seed: int) -> tuple[RunSummary, CPUShare]:
    """The same on a server that runs and is warm."""
    planned = cell.scenario.plan(cell.num_requests, token_ids, seed)
    stopwatch = Stopwatch(server.pid)
    responses = send(server, planned, cell.num_clients)
    share = stopwatch.share()
    records = [read_record(response, request) for response, request in zip(responses, planned, strict=True)]
    return summarize(records), share


def send(
    server: RunningServer, planned: Sequence[PlannedRequest], num_clients: int, *, quick_ack: bool = True
) -> list[RawResponse]:
    """Send the requests in a closed loop; the server must outlive it."""
    requests = [encode_request(server.target, request) for request in planned]
    responses = run_async(lambda: run_closed_loop(server.target, requests, num_clients, quick_ack=quick_ack))
    server.check_alive()
    return responses


def run_async(main: Callable[[], Coroutine[object, object, T]]) -> T:
    """Run on uvloop, the lightest event loop at hand."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main())


def default_threads() -> int:
    """One for each core this process may use."""
    return len(os.sched_getaffinity(0))
