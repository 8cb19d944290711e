"""Cold start: from starting the server's process to the first token over HTTP, beside peers and the floor.

    python -m load_tests.cold_start                          # all models, warm and with an empty page cache
    python -m load_tests.cold_start --models 88M:Q8_0 --quick

Each start is a fresh process, and the servers take turns. Warm: the files are in the page cache. Cold: it is emptied
before each start (`page_cache.py`), and the model's pages are checked to be out. The first start of each server is not
counted. llama-server is started as it comes, and without its warm-up run. There are two floors: a program on our
libraries that does nothing beyond what this request needs (`floor_server.py`), and a sum (`floor_parts.py`). Where the
time goes is measured in starts of their own (`start_phases.py`).
"""

import argparse
import sysconfig
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, get_args

from load_tests.first_token import start_once
from load_tests.floor_parts import FloorParts, evaluation_seconds, import_seconds
from load_tests.measures import Spread, spread
from load_tests.models import find_model
from load_tests.page_cache import Method, drop, read_bytes_per_s, resident_share
from load_tests.peers import llama_cpp_server, llama_server, pagemill
from load_tests.report import OURS, format_spread, save, table
from load_tests.runs import default_threads
from load_tests.servers import ServerCommand
from load_tests.start_phases import phases_table, traced_start

MODELS = "grist,88M:Q8_0,88M:Q4_K_M,0.6B:Q8_0,0.6B:Q4_K_M"
State = Literal["warm", "cold"]
MAX_LEFT_IN_CACHE = 0.01  # of the model, after the cache was emptied


@dataclass(frozen=True, slots=True)
class Case:
    """One model in one state of the page cache, and how each server gets it."""

    model: str
    path: Path
    state: State
    num_slots: int
    max_model_len: int
    threads: int

    def __str__(self) -> str:
        return f"{self.model} {self.state}"


@dataclass(frozen=True, slots=True)
class Figures:
    """What was measured of a case. Times in seconds."""

    starts: dict[str, list[float]]  # by server
    floor: list[FloorParts]
    bytes_per_s: list[float]  # of the model's file, in that state
    traces: list[dict[str, float]]  # moments of our own start
    emptied_by: Method | None
    left_in_cache: dict[str, float]  # share of a file's pages, after the cache was emptied

    def spreads(self) -> dict[str, Spread]:
        """Of each server's starts, and of the floor's sum."""
        return {name: spread(own) for name, own in self.starts.items()} | {
            "floor, summed": spread([parts.total for parts in self.floor])
        }


def main(arguments: Sequence[str] | None = None) -> None:
    """Start every server many times in every case, print and save."""
    options = _parse(arguments)
    figures: dict[str, Figures] = {}
    for model in options.models.split(","):
        path = find_model(model)
        for state in options.states.split(","):
            case = Case(model, path, state, options.slots, options.max_model_len, options.threads)
            figures[str(case)] = measure(case, options.repeats, options.traces)
            print(case_report(str(case), figures[str(case)]), flush=True)
    print(summary(figures))
    print(phases_table({case: own.traces for case, own in figures.items()}))
    if not options.no_save:
        saved = {case: _for_saving(own) for case, own in figures.items()}
        print("\nsaved", save("cold-start", {"options": vars(options), "cases": saved}))


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="time from process start to the first token over HTTP")
    parser.add_argument("--models", default=MODELS, help="comma-separated, a .gguf path among them (%(default)s)")
    parser.add_argument("--states", default=",".join(get_args(State)), help="of the page cache (%(default)s)")
    parser.add_argument("--repeats", type=int, default=7, help="counted starts of each server (%(default)s)")
    parser.add_argument("--traces", type=int, default=5, help="starts of ours to split (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="three starts and one trace")
    parser.add_argument("--slots", type=int, default=4, help="sequences at once (%(default)s)")
    parser.add_argument("--max-model-len", type=int, default=1024, help="context of each in tokens (%(default)s)")
    parser.add_argument("--threads", type=int, default=default_threads(), help="of each server (%(default)s)")
    parser.add_argument("--no-save", action="store_true", help="print only")
    options = parser.parse_args(arguments)
    if unknown := set(options.states.split(",")) - set(get_args(State)):
        parser.error(f"--states: not a state of the page cache: {', '.join(sorted(unknown))}")
    if options.quick:
        options.repeats, options.traces = 3, 1
    return options


def server_commands(case: Case) -> dict[str, ServerCommand]:
    """All servers with the same model, context, slots and threads."""
    slots, length, threads = case.num_slots, case.max_model_len, case.threads
    theirs = llama_server.command(case.path, num_slots=slots, max_model_len=length, threads=threads, variant="streams")
    eager = ServerCommand("llama-server-eager", (*theirs.arguments, "--no-warmup"), theirs.model, theirs.ready_path)
    return {
        OURS: pagemill.gguf_command(case.path, num_slots=slots, max_model_len=length, threads=threads),
        "llama-server": theirs,
        "llama-server --no-warmup": eager,
        "floor": pagemill.floor_command(case.path, num_slots=slots, max_model_len=length, threads=threads),
        "llama_cpp.server": llama_cpp_server.command(case.path, max_model_len=length, threads=threads),
    }


def measure(case: Case, repeats: int, traces: int) -> Figures:
    """All starts of a case; the servers take turns, and the floor's parts with them."""
    commands = server_commands(case)
    starts: dict[str, list[float]] = {name: [] for name in commands}
    floor, bandwidths, traced = [], [], []
    evaluation_s = evaluation_seconds(
        case.path, num_slots=case.num_slots, max_model_len=case.max_model_len, threads=case.threads
    )
    for repeat in range(repeats + 1):
        for name in commands if repeat % 2 == 0 else reversed(commands):
            prepare(case)
            elapsed_s = start_once(commands[name])
            if repeat:
                starts[name].append(elapsed_s)
            counted = "" if repeat else " (not counted)"
            print(f"  {case} #{repeat} {name:26} {elapsed_s * 1000:7.0f} ms{counted}", flush=True)
        if repeat:
            bandwidths.append(_bandwidth(case))
            floor.append(FloorParts(_imports(case), case.path.stat().st_size / bandwidths[-1], evaluation_s))
    for _ in range(traces):
        prepare(case)
        traced.append(traced_start(commands[OURS]))
    emptied_by, left = prepare(case)
    return Figures(starts, floor, bandwidths, traced, emptied_by, left)


def _bandwidth(case: Case) -> float:
    prepare(case)
    return read_bytes_per_s(case.path)


def _imports(case: Case) -> float:
    prepare(case)
    return import_seconds()


def prepare(case: Case) -> tuple[Method | None, dict[str, float]]:
    """Bring the page cache into the case's state: how, and what is left of some files then.

    Raises:
        RuntimeError: the model can't be got out of the page cache.
    """
    if case.state == "warm":
        return None, {}
    libraries, programs = Path(sysconfig.get_paths()["purelib"]), llama_server.binary().parent
    emptied_by = drop([case.path, libraries, programs])
    [binding] = (libraries / "llama_cpp" / "lib").glob("libllama.so")
    files = {"model": case.path, "libllama.so": binding, "llama-server": llama_server.binary()}
    left = {name: resident_share(file) for name, file in files.items()}
    if left["model"] > MAX_LEFT_IN_CACHE:
        raise RuntimeError(f"{left['model']:.0%} of {case.path} is still in the page cache after {emptied_by}")
    return emptied_by, left


def case_report(case: str, figures: Figures) -> str:
    """A table, with how many times as long as each other server ours took, and what the floor is the sum of."""
    spreads = figures.spreads()
    ours = spreads[OURS].median
    rows = [(name, format_spread(value, 1000, 0), f"{ours / value.median:.2f}") for name, value in spreads.items()]
    parts = {name: spread([getattr(own, name) for own in figures.floor]).median * 1000 for name in FloorParts._fields}
    bandwidth = spread(figures.bytes_per_s).median
    terms = " + ".join(f"{name} {value:.0f}" for name, value in parts.items())
    emptied = (
        f"; page cache emptied by {figures.emptied_by}, left in it: {_shares(figures)}" if figures.emptied_by else ""
    )
    return "\n".join(
        (
            f"\n{case}: process start to first token over HTTP, median (low-high)",
            table(("server", "ms", "pagemill / it"), rows),
            f"floor, summed: {terms}, at {bandwidth / 1e9:.1f} GB/s{emptied}\n",
        )
    )


def _shares(figures: Figures) -> str:
    return ", ".join(f"{share:.0%} of {name}" for name, share in figures.left_in_cache.items())


def summary(figures: Mapping[str, Figures]) -> str:
    """A line for each case: medians in ms, and ours by the others'."""
    names = list(next(iter(figures.values())).spreads())
    header = ("ms", *names, *(f"/ {name}" for name in names if name != OURS))
    rows = []
    for case, own in figures.items():
        medians = {name: value.median for name, value in own.spreads().items()}
        ratios = [f"{medians[OURS] / value:.2f}" for name, value in medians.items() if name != OURS]
        rows.append((case, *(f"{value * 1000:.0f}" for value in medians.values()), *ratios))
    return f"{table(header, rows)}\naims: at most 1.5 of llama-server and of the floor\n"


def _for_saving(figures: Figures) -> dict[str, object]:
    spreads = {name: asdict(value) for name, value in figures.spreads().items()}
    floor = [parts._asdict() for parts in figures.floor]
    return {**asdict(figures), "floor": floor, "seconds": spreads}


if __name__ == "__main__":
    main()
