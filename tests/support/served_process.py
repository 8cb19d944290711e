"""`pagemill serve` as a process of its own: started, waited for, and ended by its id."""

import os
import queue
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pagemill.cli.container import RUNPOD_VARIABLE, VARIABLES

SLOW_PAGEMILL = Path(__file__).parent / "slow_pagemill.py"
READY_WITHIN_S = 60.0
FULL_REPLY = "The quick brown fox jumps over the lazy dog."


def clean_environment(**variables: str) -> dict[str, str]:
    """This process's environment without any setting of Pagemill's, or of a platform's that it would heed."""
    foreign = {*VARIABLES, RUNPOD_VARIABLE}
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith("PAGEMILL_") and name not in foreign
    }
    return kept | variables


@dataclass
class ServedProcess:
    """A running `pagemill serve`, with what it logged so far."""

    process: "subprocess.Popen[str]"
    address: str = ""
    lines: list[str] = field(default_factory=list)
    _incoming: "queue.Queue[str]" = field(default_factory=queue.Queue)

    @property
    def log(self) -> str:
        while not self._incoming.empty():
            self.lines.append(self._incoming.get())
        return "".join(self.lines)

    def pump(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self._incoming.put(line)

    def wait_ready(self) -> None:
        deadline = time.monotonic() + READY_WITHIN_S
        while not (found := re.search(r"serving .+ at (\S+): ", self.log)):
            assert self.process.poll() is None, f"the server ended: {self.log}"
            assert time.monotonic() < deadline, f"the server did not get ready: {self.log}"
            time.sleep(0.02)
        self.address = found[1]

    def wait(self) -> int:
        """Wait for the end; the exit code."""
        return self.process.wait(READY_WITHIN_S)


@contextmanager
def served_process(
    *arguments: str,
    step_delay_s: float | None = 0.0,
    load_delay_s: float = 0.0,
    wait_ready: bool = True,
    **variables: str,
) -> Iterator[ServedProcess]:
    """`pagemill serve` with the arguments; ends with the block. On the fake backend, unless `step_delay_s` is None."""
    slow = [str(SLOW_PAGEMILL), str(step_delay_s), str(load_delay_s)]
    program = ["-m", "pagemill"] if step_delay_s is None else slow
    process = subprocess.Popen(
        [sys.executable, *program, "serve", *arguments],
        stderr=subprocess.PIPE,
        text=True,
        env=clean_environment(**variables),
    )
    served = ServedProcess(process)
    pump = threading.Thread(target=served.pump)
    pump.start()
    try:
        if wait_ready:
            served.wait_ready()
        yield served
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait(READY_WITHIN_S)
        pump.join()
        assert process.stderr is not None
        process.stderr.close()
