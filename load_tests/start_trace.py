"""`pagemill serve` with the moments of its start noted: where a cold start's time goes.

    python -m load_tests.start_trace TRACE.json serve MODEL ...

Functions of Pagemill's that stand for a moment are wrapped as soon as their modules have been imported, so the order
of imports is the product's own. At the end the moments are written as JSON, in seconds of the machine's monotonic clock
(Python's perf_counter, which on Linux all processes share). Runs that are timed as a whole are not traced. Imports
nothing but the standard library, for it runs in the server's process; `start_phases.py` starts it and reads the trace.
"""

import atexit
import json
import sys
import time
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from operator import attrgetter
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple


class Moment(NamedTuple):
    """The first call of `module`.`function`, `before` its begin or `after` its end."""

    name: str
    module: str
    function: str  # dotted when it is a method
    when: str  # before, after


MOMENTS = (
    Moment("port bound", "pagemill.cli.listening", "bind", "after"),
    Moment("load began", "pagemill.bootstrap", "load_backend", "before"),
    Moment("load ended", "pagemill.bootstrap", "load_backend", "after"),
    Moment("app listens", "pagemill.cli.http_server", "DrainingServer.main_loop", "before"),
    Moment("engine ready", "pagemill.engine.engine", "Engine.start", "after"),
    Moment("request in", "pagemill.api.middleware", "RequestMiddleware.__call__", "before"),
    Moment("first step began", "pagemill.backends.gguf.backend", "GGUFBackend.execute", "before"),
    Moment("first step ended", "pagemill.backends.gguf.backend", "GGUFBackend.execute", "after"),
)
INTERPRETER = "interpreter up"


class Recorder(MetaPathFinder):
    """Finds the modules that moments are in, and wraps their functions. Owns the times."""

    def __init__(self) -> None:
        self.times_s = {INTERPRETER: time.perf_counter()}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        moments = [moment for moment in MOMENTS if moment.module == fullname]
        spec = PathFinder.find_spec(fullname, path, target) if moments else None
        if spec is not None and spec.origin is not None:
            spec.loader = _Wrapping(fullname, spec.origin, moments, self.times_s)
        return spec


class _Wrapping(SourceFileLoader):
    def __init__(self, name: str, path: str, moments: Sequence[Moment], times_s: dict[str, float]) -> None:
        super().__init__(name, path)
        self._moments = moments
        self._times_s = times_s

    def exec_module(self, module: ModuleType) -> None:
        super().exec_module(module)
        for moment in self._moments:
            *owner, attribute = moment.function.split(".")
            holder = attrgetter(".".join(owner))(module) if owner else module
            setattr(holder, attribute, self._noting(moment, getattr(holder, attribute)))

    def _noting(self, moment: Moment, function: Callable[..., Any]) -> Callable[..., Any]:
        def noting(*arguments: Any, **named: Any) -> Any:
            if moment.when == "before":
                self._times_s.setdefault(moment.name, time.perf_counter())
            result = function(*arguments, **named)
            if moment.when == "after":
                self._times_s.setdefault(moment.name, time.perf_counter())
            return result

        return noting


def main() -> int:
    """Serve; write the trace when the process ends."""
    recorder = Recorder()
    trace, *arguments = sys.argv[1:]
    sys.meta_path.insert(0, recorder)
    atexit.register(lambda: Path(trace).write_text(json.dumps(recorder.times_s)))
    from pagemill.cli.main import main as pagemill_main

    return pagemill_main(arguments)


if __name__ == "__main__":
    sys.exit(main())
