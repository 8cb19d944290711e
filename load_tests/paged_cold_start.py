"""Cold start of the paged backend beside vLLM's CPU build: from starting the process to the first token over HTTP.

    python -m load_tests.paged_cold_start --repeats 5

By the client of `cold_start.py`. The first start of each server is not counted: it brings files into the
page cache and, of vLLM, compiled kernels into its cache on disk, which no first start on a new machine has. vLLM is
also started with `--enforce-eager`, which compiles nothing.
"""

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from load_tests.first_token import start_once
from load_tests.measures import Spread, spread
from load_tests.model_folders import model_folder
from load_tests.models import shapes
from load_tests.peers import pagemill, vllm_server
from load_tests.report import OURS, format_spread, save, table
from load_tests.runs import default_threads
from load_tests.servers import ServerCommand

EAGER = "vllm --enforce-eager"


def main(arguments: Sequence[str] | None = None) -> None:
    """Start every server many times, print and save."""
    parser = argparse.ArgumentParser(description="time from process start to the first token over HTTP")
    parser.add_argument("--params", choices=sorted(shapes()), default="88M", help="the model's size (%(default)s)")
    parser.add_argument("--servers", default=f"{OURS},vllm,{EAGER}", help="comma-separated (%(default)s)")
    parser.add_argument("--repeats", type=int, default=5, help="starts of each server (%(default)s)")
    parser.add_argument("--slots", type=int, default=16, help="sequences at once (%(default)s)")
    parser.add_argument("--max-model-len", type=int, default=1024, help="context of each in tokens (%(default)s)")
    parser.add_argument("--threads", type=int, default=default_threads(), help="of each server (%(default)s)")
    parser.add_argument("--no-save", action="store_true", help="print only")
    options = parser.parse_args(arguments)
    every = server_commands(model_folder(options.params), options.slots, options.max_model_len, options.threads)
    commands = {name: every[name] for name in options.servers.split(",")}
    times = start_all(commands, options.repeats)
    spreads = {name: spread(own) for name, own in times.items()}
    print(start_report(options.params, spreads))
    if not options.no_save:
        figures = {name: asdict(value) for name, value in spreads.items()}
        print("saved", save("paged-cold-start", {"options": vars(options), "seconds": figures, "all": times}))


def server_commands(model: Path, num_slots: int, max_model_len: int, threads: int) -> dict[str, ServerCommand]:
    """All servers with the same model, context, slots and threads."""
    return {
        OURS: pagemill.paged_command(model, num_slots=num_slots, max_model_len=max_model_len, threads=threads),
        "vllm": vllm_server.command(model, num_slots=num_slots, max_model_len=max_model_len, threads=threads),
        EAGER: vllm_server.command(
            model, num_slots=num_slots, max_model_len=max_model_len, threads=threads, flags=("--enforce-eager",)
        ),
    }


def start_all(commands: dict[str, ServerCommand], repeats: int) -> dict[str, list[float]]:
    """Seconds of each start that counts; the order turns from repeat to repeat."""
    times: dict[str, list[float]] = {name: [] for name in commands}
    for repeat in range(repeats + 1):
        for name in commands if repeat % 2 == 0 else reversed(commands):
            elapsed_s = start_once(commands[name])
            if repeat:
                times[name].append(elapsed_s)
            print(f"  #{repeat} {name:22} {elapsed_s:7.2f} s{'' if repeat else ' (not counted)'}", flush=True)
    return times


def start_report(params: str, spreads: dict[str, Spread]) -> str:
    """A table, with how many times as long as ours each other server took."""
    ours = spreads.get(OURS)
    rows = [
        (name, format_spread(value, digits=2), f"{value.median / ours.median:.1f}" if ours else "")
        for name, value in spreads.items()
    ]
    return "\n".join(
        (
            f"\n{params}: process start to first token over HTTP, median (low-high)",
            table(("server", "s", "it / pagemill"), rows),
            "aim: 10 or more for vllm\n",
        )
    )


if __name__ == "__main__":
    main()
