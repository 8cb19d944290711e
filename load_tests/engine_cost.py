"""What the engine itself costs: Pagemill on the fake backend beside a bare ASGI app that streams the same bytes.

    python -m load_tests.engine_cost --clients 64 --tokens 1000 --repeats 5

First one stream of Pagemill is recorded, message by message; then the servers take turns: Pagemill, the bare app paced
and in bursts (see `bare_app.py`), and raw sockets, which show the client's own ceiling. All get the same requests from
the same client. The cores that the client used are printed: near 1.0, it would be the client that is measured.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, process_time

from load_tests.bare_app import RECORDING_VARIABLE, write_recording
from load_tests.client import RawResponse, encode_request, run_closed_loop
from load_tests.measures import spread
from load_tests.peers import pagemill
from load_tests.report import OURS, format_spread, save, table
from load_tests.runs import CPUShare, cpu_seconds, run_async
from load_tests.scenarios import PlannedRequest
from load_tests.servers import RunningServer, ServerCommand
from load_tests.sse import body_frames, read_record

PROMPT = tuple(b"Tell me about the mill.")  # the fake backend's tokens are bytes


@dataclass(frozen=True, slots=True)
class Rate:
    """One run of one server."""

    messages_per_s: float
    cores: CPUShare


def main(arguments: Sequence[str] | None = None) -> None:
    """Record, run all servers in turns, print and save."""
    parser = argparse.ArgumentParser(description="tokens per second through HTTP, with and without an engine")
    parser.add_argument("--clients", type=int, default=64, help="streams at once (%(default)s)")
    parser.add_argument("--tokens", type=int, default=1000, help="tokens of each stream (%(default)s)")
    parser.add_argument("--rounds", type=int, default=2, help="streams of each client in a run (%(default)s)")
    parser.add_argument("--repeats", type=int, default=5, help="runs of each server (%(default)s)")
    parser.add_argument("--no-save", action="store_true", help="print only")
    options = parser.parse_args(arguments)
    planned = PlannedRequest(PROMPT, options.tokens)
    ours = pagemill.fake_command(num_slots=options.clients)
    with TemporaryDirectory() as folder:
        recording = Path(folder) / "recording.json"
        record(ours, planned, recording)
        rates = run_all(servers(ours, recording), planned, options)
    print(cost_report(rates, options.tokens))
    if not options.no_save:
        runs = {name: [asdict(rate) for rate in own] for name, own in rates.items()}
        print("saved", save("engine-cost", {"options": vars(options), "ratio": ratio(rates, "bare"), "runs": runs}))


def record(ours: ServerCommand, planned: PlannedRequest, path: Path) -> None:
    """Keep the body messages of one stream. Raises BadResponseError if it is not what was asked for."""
    with RunningServer(ours) as server:
        response = run_async(lambda: run_closed_loop(server.target, [encode_request(server.target, planned)], 1))[0]
    read_record(response, planned)
    messages = [payload for _, payload in body_frames(response)]
    if len(messages) < planned.max_tokens:
        raise RuntimeError(f"{planned.max_tokens} tokens came in only {len(messages)} messages: not one for each token")
    write_recording(path, [("content-type", "text/event-stream; charset=utf-8")], messages)


def servers(ours: ServerCommand, recording: Path) -> dict[str, ServerCommand]:
    """By name, in the order in which they run."""
    variable = {RECORDING_VARIABLE: str(recording)}
    uvicorn = (sys.executable, "-m", "uvicorn", "load_tests.bare_app:create_app", "--factory", "--port", "{port}")
    flags = ("--loop=uvloop", "--http=httptools", "--lifespan=off", "--no-access-log", "--log-level=warning")
    bare = ServerCommand("bare-app", (*uvicorn, *flags), "fake", "/", variable)
    raw_arguments = (sys.executable, "-m", "load_tests.raw_server", "--port", "{port}")
    raw = ServerCommand("raw-sockets", raw_arguments, "fake", "/", variable)
    return {OURS: ours, "bare": bare, "bare, in bursts": bare, "raw sockets": raw}


def run_all(
    commands: dict[str, ServerCommand], planned: PlannedRequest, options: argparse.Namespace
) -> dict[str, list[Rate]]:
    """All repeats of all servers, in turns."""
    rates: dict[str, list[Rate]] = {name: [] for name in commands}
    for repeat in range(options.repeats):
        names = list(commands) if repeat % 2 == 0 else list(reversed(commands))
        for name in names:
            rate = run_once(commands[name], planned, options.clients, options.rounds, burst=name.endswith("bursts"))
            rates[name].append(rate)
            print(
                f"  #{repeat} {name:16} {rate.messages_per_s:9.0f} tok/s, cores used: client {rate.cores.client:.2f}, "
                f"server {rate.cores.server:.2f}",
                flush=True,
            )
    return rates


def run_once(command: ServerCommand, planned: PlannedRequest, num_clients: int, rounds: int, *, burst: bool) -> Rate:
    """Start the server, warm it up, run. Checks that every stream is complete."""
    with RunningServer(command) as server:
        target = replace(server.target, path="/v1/completions?burst") if burst else server.target
        request = encode_request(target, planned)
        run_async(lambda: run_closed_loop(target, [request] * num_clients, num_clients, quick_ack=False))
        before = (perf_counter(), process_time(), cpu_seconds(server.pid))
        requests = [request] * (num_clients * rounds)
        responses = run_async(lambda: run_closed_loop(target, requests, num_clients, quick_ack=False))
        wall = perf_counter() - before[0]
        cores = CPUShare((process_time() - before[1]) / wall, (cpu_seconds(server.pid) - before[2]) / wall)
    for response in responses:
        read_record(response, planned)
    return Rate(len(responses) * planned.max_tokens / duration_s(responses), cores)


def duration_s(responses: Sequence[RawResponse]) -> float:
    """From the first start to the last end."""
    return max(response.ended_s for response in responses) - min(response.started_s for response in responses)


def ratio(rates: dict[str, list[Rate]], name: str) -> float:
    """Our median rate over that of another."""
    medians = {key: spread([rate.messages_per_s for rate in own]).median for key, own in rates.items()}
    return medians[OURS] / medians[name]


def cost_report(rates: dict[str, list[Rate]], num_tokens: int) -> str:
    """A table and the ratio."""
    rows = [
        (
            name,
            format_spread(spread([rate.messages_per_s for rate in own]), digits=0),
            format_spread(spread([rate.cores.client for rate in own]), digits=2),
            format_spread(spread([rate.cores.server for rate in own]), digits=2),
            f"{ratio(rates, name):.2f}",
        )
        for name, own in rates.items()
    ]
    header = ("server", "tok/s", "client's cores", "server's cores", "pagemill / it")
    return f"\n{num_tokens} tokens a stream, median (low-high)\n{table(header, rows)}\n"


if __name__ == "__main__":
    main()
