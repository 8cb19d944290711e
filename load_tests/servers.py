"""Start a server process on a free port, wait until it serves, stop it by its pid.

State: the process, owned by `RunningServer`. What it prints goes to a log file in the cache folder, shown on failure.
"""

import json
import os
import random
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from load_tests.client import Target
from load_tests.models import CACHE

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True, slots=True)
class ServerCommand:
    """How to start a server. `{port}` in an argument stands for the port it gets."""

    name: str
    arguments: tuple[str, ...]
    model: str  # what requests call the model
    ready_path: str  # answers 200 when requests would be served
    environment: Mapping[str, str] = field(default_factory=dict)

    def at(self, port: int) -> list[str]:
        """The arguments for that port."""
        return [argument.replace("{port}", str(port)) for argument in self.arguments]

    def described(self) -> str:
        """For reports: programs and files by name only, so that no path of this machine gets into them."""
        return " ".join(Path(argument).name if argument.startswith("/") else argument for argument in self.arguments)


class ServerFailedError(Exception):
    """The server ended, or did not become ready in time; carries the end of its log."""


class RunningServer:
    """A context manager: a started server process."""

    def __init__(self, command: ServerCommand, *, wait_ready_s: float = 300.0) -> None:
        self.command = command
        self.port = 0
        self.started_s = 0.0  # perf_counter just before the process was started
        self._wait_ready_s = wait_ready_s  # 0: don't wait
        self._process: subprocess.Popen[bytes] | None = None
        self.log_path = CACHE / "logs" / f"{command.name}.log"

    def __enter__(self) -> Self:
        self.port = free_port()
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        with self.log_path.open("wb") as log:
            self.started_s = time.perf_counter()
            self._process = subprocess.Popen(
                self.command.at(self.port),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment() | dict(self.command.environment),
                cwd=ROOT,
            )
        try:
            if self._wait_ready_s:
                self._wait_until_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def target(self) -> Target:
        return Target(port=self.port, model=self.command.model)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def check_alive(self) -> None:
        """Raises ServerFailedError if the process has ended."""
        assert self._process is not None
        if self._process.poll() is not None:
            raise ServerFailedError(f"{self.command.name} ended with {self._process.returncode}:\n{self.log_end()}")

    def log_end(self, num_bytes: int = 2000) -> str:
        return self.log_path.read_bytes()[-num_bytes:].decode(errors="replace")

    def get(self, path: str, timeout_s: float = 5.0) -> str:
        """The body of a GET. Raises urllib.error.URLError."""
        return self._open(urllib.request.Request(self._url(path)), timeout_s)

    def post(self, path: str, body: object, timeout_s: float = 30.0) -> str:
        """The body that answers a POST of JSON. Raises urllib.error.URLError."""
        headers = {"Content-Type": "application/json"}
        return self._open(urllib.request.Request(self._url(path), json.dumps(body).encode(), headers), timeout_s)

    def _url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def _open(self, request: urllib.request.Request, timeout_s: float) -> str:
        with urllib.request.urlopen(request, timeout=timeout_s) as response:
            body: bytes = response.read()
        return body.decode()

    def stop(self) -> None:
        """Ask the process to end; kill it when it has not after 10 s, and the children that it left. Idempotent."""
        if self._process is None or self._process.poll() is not None:
            return
        children = psutil.Process(self._process.pid).children(recursive=True)
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for child in children:
            with suppress(psutil.NoSuchProcess):
                child.kill()  # psutil checks that it is still the same process

    def _wait_until_ready(self) -> None:
        deadline = time.perf_counter() + self._wait_ready_s
        while time.perf_counter() < deadline:
            self.check_alive()
            try:
                self.get(self.command.ready_path)
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                time.sleep(0.05)
            else:
                return
        raise ServerFailedError(f"{self.command.name} not ready after {self._wait_ready_s} s:\n{self.log_end()}")


def environment() -> dict[str, str]:
    """Ours, for servers. As installed packages have their bytecode on disk, Python may write it: else every start would
    compile again what has been edited since.
    """
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def free_port() -> int:
    """A port of 127.0.0.1 that is free now.

    Below the range from which the kernel takes the ports of outgoing connections, so that none of a test's many clients
    can take it before the server binds it.
    """
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port


def model_name(path: Path) -> str:
    """What a server is told to call a model file."""
    return path.stem
