"""AWS's runtime interface emulator, which AWS ships inside the PyPI package aws-sam-cli.

It is fetched when first needed and kept in a folder that git ignores: the binary is AWS's, not ours to distribute.
"""

import os
import platform
import shlex
import shutil
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO

import httpx

from support.served_process import clean_environment

PACKAGE = "aws-sam-cli==1.170.0"
CACHE = Path(__file__).parent.parent / "handlers/aws_lambda/.cache"
ARCHITECTURE = "arm64" if platform.machine() in ("aarch64", "arm64") else "x86_64"
BINARY = f"aws-lambda-rie-{ARCHITECTURE}"
INVOKE = "/2015-03-31/functions/function/invocations"
STARTED_WITHIN_S = 20.0


def emulator() -> Path:
    """The binary; downloaded by pip from wherever this machine takes its packages, if it is not there yet."""
    path = CACHE / f"{PACKAGE}-{BINARY}"
    if path.is_file():
        return path
    CACHE.mkdir(exist_ok=True)
    with TemporaryDirectory(dir=CACHE) as folder:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        subprocess.run([*pip, PACKAGE, "--dest", folder], check=True, timeout=240)
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            fetched = Path(archive.extract(f"samcli/local/rapid/{BINARY}", folder))
        fetched.chmod(0o755)
        os.replace(fetched, path)  # at once: test workers run side by side
    return path


@dataclass
class RunningEmulator:
    """An emulator that runs the function; its log, with the function's, is read after its end."""

    url: str
    log_file: Path

    def invoke(self, event: Any) -> httpx.Response:
        with httpx.Client(timeout=60, trust_env=False, verify=False) as client:
            return client.post(self.url + INVOKE, json=event)

    @property
    def log(self) -> str:
        return self.log_file.read_text(encoding="utf-8", errors="replace")


def managed_instances_possible() -> bool:
    """Whether this process may start one with mounts of its own, as root may: see `managed_instance`."""
    probe = ["unshare", "--mount", "mount", "-t", "tmpfs", "none", "/var"]
    return shutil.which("unshare") is not None and subprocess.run(probe, capture_output=True).returncode == 0


@contextmanager
def running_emulator(folder: Path, *arguments: str, **variables: str) -> Iterator[RunningEmulator]:
    """The emulator around Python with the arguments; SIGTERM ends both with the block."""
    port, api_port = _free_port(), _free_port()
    environment = _environment(variables)
    command = [*_emulator_command(port, api_port), sys.executable, *arguments]
    log_file = folder / "emulator.log"
    with log_file.open("wb") as log, _ending(command, environment, log) as process:
        _wait_listening(process, port)
        yield RunningEmulator(f"http://127.0.0.1:{port}", log_file)


@contextmanager
def managed_instance(
    folder: Path, max_concurrency: int, *arguments: str, **variables: str
) -> Iterator[RunningEmulator]:
    """The emulator as a Managed Instance, beside Python with the arguments.

    In that role it runs nothing but the script /var/task/bootstrap, as a user that may not be able to read this
    Python: so it gets a /var of its own with a script that sleeps, and the function is started here.
    """
    port, api_port = _free_port(), _free_port()
    environment = _environment({"AWS_LAMBDA_MAX_CONCURRENCY": str(max_concurrency), **variables})
    setup = (
        "mount -t tmpfs none /var && mkdir /var/task && "
        "printf '#!/bin/sh\\nexec sleep 600\\n' > /var/task/bootstrap && chmod 755 /var/task/bootstrap && "
    )
    command = [*_emulator_command(port, api_port), "/var/task/bootstrap"]
    isolated = ["unshare", "--mount", "sh", "-c", setup + "exec " + shlex.join(command)]
    function = [sys.executable, *arguments]
    log_file = folder / "emulator.log"
    with log_file.open("wb") as log, _ending(isolated, environment, log) as process:
        _wait_listening(process, api_port)
        with _ending(function, {**environment, "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{api_port}"}, log):
            _wait_listening(process, port)
            yield RunningEmulator(f"http://127.0.0.1:{port}", log_file)


def _environment(variables: dict[str, str]) -> dict[str, str]:
    return clean_environment(**{"PAGEMILL_MODEL": "fake", "AWS_LAMBDA_FUNCTION_TIMEOUT": "30", **variables})


def _emulator_command(port: int, api_port: int) -> list[str]:
    return [
        str(emulator()),
        *("--runtime-interface-emulator-address", f"127.0.0.1:{port}"),
        *("--runtime-api-address", f"127.0.0.1:{api_port}"),
    ]


@contextmanager
def _ending(command: list[str], environment: dict[str, str], log: BinaryIO) -> Iterator["subprocess.Popen[bytes]"]:
    """The process, ended with the block."""
    process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)
            raise


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_listening(process: "subprocess.Popen[bytes]", port: int) -> None:
    deadline = time.monotonic() + STARTED_WITHIN_S
    while True:
        assert process.poll() is None, f"the emulator ended with {process.returncode}"
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert time.monotonic() < deadline, "the emulator did not start"
        time.sleep(0.02)
