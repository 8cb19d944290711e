"""Cold start: from starting the server's process to the first token over HTTP.

    python -m load_tests.cold_start --model 88M --repeats 7

Each start is a fresh process; the files it reads are in the page cache, as one discarded start of each server sees to.
The client tries to connect every 2 ms; a server that answers 503 while it loads is asked again after 2 ms; one that
takes the connection and answers when the model is there is waited for. The servers take turns. llama-server is started
as it comes and without its warm-up run. The floor is `load_tests.floor_server`: a program on our libraries that does
nothing beyond what this request needs.
"""

import argparse
import http.client
import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from load_tests.measures import Spread, spread
from load_tests.models import model_path, shapes
from load_tests.peers import llama_cpp_server, llama_server, pagemill
from load_tests.report import OURS, format_spread, save, table
from load_tests.runs import default_threads
from load_tests.servers import RunningServer, ServerCommand

RETRY_S = 0.002
GIVE_UP_S = 120.0


def main(arguments: Sequence[str] | None = None) -> None:
    """Start every server many times, print and save."""
    parser = argparse.ArgumentParser(description="time from process start to the first token over HTTP")
    parser.add_argument("--model", default="88M", help=f"grist, a .gguf path, or one of {', '.join(shapes())}")
    parser.add_argument("--repeats", type=int, default=7, help="starts of each server (%(default)s)")
    parser.add_argument("--slots", type=int, default=4, help="sequences at once (%(default)s)")
    parser.add_argument("--max-model-len", type=int, default=1024, help="context of each in tokens (%(default)s)")
    parser.add_argument("--threads", type=int, default=default_threads(), help="of each server (%(default)s)")
    parser.add_argument("--no-save", action="store_true", help="print only")
    options = parser.parse_args(arguments)
    commands = server_commands(find_model(options.model), options.slots, options.max_model_len, options.threads)
    times: dict[str, list[float]] = {name: [] for name in commands}
    for repeat in range(options.repeats + 1):
        for name in commands if repeat % 2 == 0 else reversed(commands):
            elapsed_s = start_once(commands[name])
            if repeat:  # the first one only warms the page cache
                times[name].append(elapsed_s)
            print(f"  #{repeat} {name:26} {elapsed_s * 1000:7.0f} ms{'' if repeat else ' (not counted)'}", flush=True)
    spreads = {name: spread(own) for name, own in times.items()}
    print(start_report(options.model, spreads))
    if not options.no_save:
        figures = {name: asdict(value) for name, value in spreads.items()}
        print("saved", save("cold-start", {"options": vars(options), "seconds": figures, "all": times}))


def find_model(name: str) -> Path:
    """A file by path, a random model by size, or the demo model."""
    if name == "grist":
        from pagemill.store.references import resolve

        return resolve("grist").path
    return model_path(name) if name in shapes() else Path(name).resolve()


def server_commands(model: Path, num_slots: int, max_model_len: int, threads: int) -> dict[str, ServerCommand]:
    """All servers with the same model, context, slots and threads."""
    theirs = llama_server.command(
        model, num_slots=num_slots, max_model_len=max_model_len, threads=threads, variant="streams"
    )
    eager = ServerCommand("llama-server-eager", (*theirs.arguments, "--no-warmup"), theirs.model, theirs.ready_path)
    return {
        OURS: pagemill.gguf_command(model, num_slots=num_slots, max_model_len=max_model_len, threads=threads),
        "llama-server": theirs,
        "llama-server --no-warmup": eager,
        "floor": pagemill.floor_command(model, num_slots=num_slots, max_model_len=max_model_len, threads=threads),
        "llama_cpp.server": llama_cpp_server.command(model, max_model_len=max_model_len, threads=threads),
    }


def start_once(command: ServerCommand) -> float:
    """Seconds from before the process is started to the first byte of content."""
    with RunningServer(command, wait_ready_s=0) as server:
        deadline = time.perf_counter() + GIVE_UP_S
        while time.perf_counter() < deadline:
            arrived_s = try_first_content(server)
            if arrived_s is not None:
                return arrived_s - server.started_s
            server.check_alive()
            time.sleep(RETRY_S)
        raise TimeoutError(f"{command.name} gave no token in {GIVE_UP_S} s:\n{server.log_end()}")


def try_first_content(server: RunningServer) -> float | None:
    """When the first content came; None if the server does not listen yet, or says 503."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=GIVE_UP_S)
    body = {
        "model": server.command.model,
        "messages": [{"role": "user", "content": "Hello!"}],
        "max_tokens": 4,
        "temperature": 0,
        "stream": True,
    }
    try:
        connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
        response = connection.getresponse()
        if response.status == 503:
            return None
        if response.status != 200:
            raise RuntimeError(f"{server.command.name}: status {response.status}: {response.read()[:500]!r}")
        return _read_first_content(response, server.command.name)
    except (ConnectionRefusedError, ConnectionResetError, http.client.RemoteDisconnected):
        return None
    finally:
        connection.close()


def _read_first_content(response: http.client.HTTPResponse, name: str) -> float:
    for line in response:
        data = line.removeprefix(b"data:").strip()
        if line.startswith(b"data:") and data != b"[DONE]":
            choices = json.loads(data).get("choices")
            if choices and choices[0]["delta"].get("content"):
                return time.perf_counter()
    raise RuntimeError(f"{name}: the stream ended without content")


def start_report(model: str, spreads: dict[str, Spread]) -> str:
    """A table, with how many times as long as each other server ours took."""
    ours = spreads[OURS].median
    rows = [(name, format_spread(value, 1000, 0), f"{ours / value.median:.2f}") for name, value in spreads.items()]
    return "\n".join(
        (
            f"\n{model}: process start to first token over HTTP, median (low-high)",
            table(("server", "ms", "pagemill / it"), rows),
            "aims: at most 2.0 of llama-server, below 1 of llama_cpp.server\n",
        )
    )


if __name__ == "__main__":
    main()
