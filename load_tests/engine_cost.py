"""What the engine itself costs: Pagemill on the fake backend beside a bare ASGI app that streams the same bytes.

    python -m load_tests.engine_cost --clients 64 --tokens 1000 --repeats 5

First one stream of Pagemill is recorded, event by event; then the servers take turns: Pagemill, the bare app in its
three ways (see `bare_app.py`), and raw sockets, which show the client's own ceiling. All get the same requests from the
same client. The cores that the client used are printed: near 1.0, it would be the client that is measured; so is how
many tokens a message had, since Pagemill merges those that are ready.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from load_tests.bare_app import RECORDING_VARIABLE, write_recording
from load_tests.client import RawResponse, encode_request, run_closed_loop
from load_tests.cpu_time import CPUShare, Stopwatch
from load_tests.measures import spread
from load_tests.peers import pagemill
from load_tests.report import OURS, format_spread, save, table
from load_tests.runs import run_async, send
from load_tests.scenarios import PlannedRequest
from load_tests.servers import RunningServer, ServerCommand
from load_tests.sse import body_frames, events, read_record

BARE, MERGED, BURST = "bare app", "bare app, merged alike", "bare app, in bursts"
PROMPT = tuple(b"Tell me about the mill.")  # the fake backend's tokens are bytes


@dataclass(frozen=True, slots=True)
class Rate:
    """One run of one server."""

    tokens_per_s: float
    tokens_per_message: float
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
        figures = {
            "options": vars(options),
            "ratio": ratio(rates, BARE),
            "ratio_merged": ratio(rates, MERGED),
            "runs": runs,
        }
        print("saved", save("engine-cost", figures))


def record(ours: ServerCommand, planned: PlannedRequest, path: Path) -> None:
    """Keep the events of one stream. Raises BadResponseError if it is not what was asked for."""
    with RunningServer(ours) as server:
        [response] = send(server, [planned], 1)
    read_record(response, planned)
    messages = [b"data: %b\n\n" % data for _, data in events(response)]
    if b"".join(messages) != b"".join(payload for _, payload in body_frames(response)):
        raise RuntimeError("the stream has more in it than events, so it can't be replayed byte by byte")
    write_recording(path, [("content-type", "text/event-stream; charset=utf-8")], messages)


def servers(ours: ServerCommand, recording: Path) -> dict[str, ServerCommand]:
    """By name, in the order in which they run."""
    variable = {RECORDING_VARIABLE: str(recording)}
    uvicorn = (sys.executable, "-m", "uvicorn", "load_tests.bare_app:create_app", "--factory", "--port", "{port}")
    flags = ("--loop=uvloop", "--http=httptools", "--lifespan=off", "--no-access-log", "--log-level=warning")
    bare = ServerCommand("bare-app", (*uvicorn, *flags), "fake", "/", variable)
    raw_arguments = (sys.executable, "-m", "load_tests.raw_server", "--port", "{port}")
    raw = ServerCommand("raw-sockets", raw_arguments, "fake", "/", variable)
    return {OURS: ours, BARE: bare, MERGED: bare, BURST: bare, "raw sockets": raw}


def run_all(
    commands: dict[str, ServerCommand], planned: PlannedRequest, options: argparse.Namespace
) -> dict[str, list[Rate]]:
    """All repeats of all servers, in turns."""
    rates: dict[str, list[Rate]] = {name: [] for name in commands}
    for repeat in range(options.repeats):
        names = list(commands) if repeat % 2 == 0 else list(reversed(commands))
        for name in names:
            rate = run_once(commands[name], planned, options.clients, options.rounds, query(name, rates))
            rates[name].append(rate)
            cores = f"cores used: client {rate.cores.client:.2f}, server {rate.cores.server:.2f}"
            print(f"  #{repeat} {name:22} {rate.tokens_per_s:9.0f} tok/s, {cores}", flush=True)
    return rates


def query(name: str, rates: dict[str, list[Rate]]) -> str:
    """How the bare app is to stream. It merges as Pagemill did in its first run, which comes before all others."""
    if name == MERGED:
        return f"?merge={max(1, round(rates[OURS][0].tokens_per_message))}"
    return "?burst" if name == BURST else ""


def run_once(command: ServerCommand, planned: PlannedRequest, num_clients: int, rounds: int, query: str) -> Rate:
    """Start the server, warm it up, run. Checks that every stream is complete."""
    with RunningServer(command) as server:
        target = replace(server.target, path=f"{server.target.path}{query}")
        request = encode_request(target, planned)
        run_async(lambda: run_closed_loop(target, [request] * num_clients, num_clients, quick_ack=False))
        stopwatch = Stopwatch(server.pid)
        requests = [request] * (num_clients * rounds)
        responses = run_async(lambda: run_closed_loop(target, requests, num_clients, quick_ack=False))
        cores = stopwatch.share()
    for response in responses:
        read_record(response, planned)
    num_tokens = len(responses) * planned.max_tokens
    num_messages = sum(len(body_frames(response)) for response in responses)
    return Rate(num_tokens / duration_s(responses), num_tokens / num_messages, cores)


def duration_s(responses: Sequence[RawResponse]) -> float:
    """From the first start to the last end."""
    return max(response.ended_s for response in responses) - min(response.started_s for response in responses)


def ratio(rates: dict[str, list[Rate]], name: str) -> float:
    """Our median rate over that of another."""
    medians = {key: spread([rate.tokens_per_s for rate in own]).median for key, own in rates.items()}
    return medians[OURS] / medians[name]


def cost_report(rates: dict[str, list[Rate]], num_tokens: int) -> str:
    """A table and the ratio."""
    rows = [
        (
            name,
            format_spread(spread([rate.tokens_per_s for rate in own]), digits=0),
            format_spread(spread([rate.cores.client for rate in own]), digits=2),
            format_spread(spread([rate.cores.server for rate in own]), digits=2),
            f"{spread([rate.tokens_per_message for rate in own]).median:.1f}",
            f"{ratio(rates, name):.2f}",
        )
        for name, own in rates.items()
    ]
    header = ("server", "tok/s", "client's cores", "server's cores", "tok/message", "pagemill / it")
    return f"\n{num_tokens} tokens a stream, median (low-high)\n{table(header, rows)}\n"


if __name__ == "__main__":
    main()
