"""A cold start of Pagemill split into imports, load and first step: starts it through `start_trace.py`. Owns no state.

The load runs beside imports, so the three don't add up to the whole; the moments between them are given too.
"""

import json
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from load_tests.first_token import first_content_s
from load_tests.report import table
from load_tests.servers import RunningServer, ServerCommand
from load_tests.start_trace import INTERPRETER, MOMENTS

FIRST_CONTENT = "first content"


class Phases(NamedTuple):
    """Seconds. `load` and `imports_beside_load` run at the same time, from when the load began."""

    before_load: float  # since the process's start: the interpreter, the command line, the backend's imports
    load: float
    imports_beside_load: float  # until the app listened: asyncio, the web stack, the engine, jinja2
    load_to_request: (
        float  # from the later of the load's end and the app until the first step: engine, template, request
    )
    first_step: float
    to_client: float  # from the step's end until the content arrived


def phases(moments: Mapping[str, float]) -> Phases:
    """From the moments, in seconds since the process's start."""
    prepared = max(moments["load ended"], moments["app listens"])
    return Phases(
        before_load=moments["load began"],
        load=moments["load ended"] - moments["load began"],
        imports_beside_load=moments["app listens"] - moments["load began"],
        load_to_request=moments["first step began"] - prepared,
        first_step=moments["first step ended"] - moments["first step began"],
        to_client=moments[FIRST_CONTENT] - moments["first step ended"],
    )


def traced_start(command: ServerCommand) -> dict[str, float]:
    """One start of `pagemill serve`, traced: its moments in seconds since before the process was started."""
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.json"
        with RunningServer(_traced(command, trace), wait_ready_s=0) as server:
            content_s = first_content_s(server)
        if not trace.exists():
            raise RuntimeError(f"the traced server left no trace:\n{server.log_end()}")
        times = json.loads(trace.read_text())
    names = (INTERPRETER, *(moment.name for moment in MOMENTS))
    return {name: times[name] - server.started_s for name in names} | {FIRST_CONTENT: content_s}


def _traced(command: ServerCommand, trace: Path) -> ServerCommand:
    _program, *arguments = command.arguments
    started = (sys.executable, "-m", "load_tests.start_trace", str(trace), *arguments)
    return ServerCommand(f"{command.name}-traced", started, command.model, command.ready_path)


def median_moments(starts: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Of each moment over the starts, in order of time."""
    medians = {name: statistics.median(start[name] for start in starts) for name in starts[0]}
    return dict(sorted(medians.items(), key=lambda entry: entry[1]))


def phases_table(starts: Mapping[str, Sequence[Mapping[str, float]]]) -> str:
    """The split of each case, medians in ms, and below it its moments."""
    medians = {case: median_moments(own) for case, own in starts.items()}
    header = ("pagemill, ms", *(name.replace("_", " ") for name in Phases._fields))
    rows = [(case, *(f"{value * 1000:.0f}" for value in phases(moments))) for case, moments in medians.items()]
    lines = [
        f"{case}: " + ", ".join(f"{name} {value * 1000:.0f}" for name, value in moments.items())
        for case, moments in medians.items()
    ]
    return "\n".join((table(header, rows), "", *lines))
