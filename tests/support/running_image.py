"""An image run as a container engine would: its own entry point, environment and user, process 1 of a namespace, the
root file system read-only but for /tmp. By mounts and chroot, since there is no engine here; root only.
"""

import json
import shlex
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httpx
from images.workshop import Image

READY_WITHIN_S = 120.0
TOOLS = "/mnt"  # where `tools`, files of this machine, lie in the image


@dataclass(frozen=True, slots=True)
class RunningImage:
    """`process` is the one that made the namespace: it ends with the container's process and its exit code."""

    process: "subprocess.Popen[bytes]"
    log_file: Path

    @property
    def log(self) -> str:
        return self.log_file.read_text(errors="replace")

    def signal(self, number: int) -> None:
        """To the container's process, as `docker stop` and Kubernetes do."""
        (child,) = self._children()
        subprocess.run(["kill", f"-{number}", child], check=True)

    def kill(self) -> None:
        """The container's process, which all others in its namespace end with. To kill its parent is not enough: the
        kernel forgets `--kill-child` when the child becomes another user.
        """
        if self.process.poll() is None:
            subprocess.run(["kill", "-KILL", *(self._children() or [str(self.process.pid)])], check=False)
        self.process.wait(30)

    def _children(self) -> list[str]:
        return Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()

    def wait_ready(self, address: str) -> None:
        deadline = time.monotonic() + READY_WITHIN_S
        while not _is_ready(address):
            assert self.process.poll() is None, f"it ended: {self.log}"
            assert time.monotonic() < deadline, f"not ready: {self.log}"
            time.sleep(0.05)


def command_in(
    image: Image, command: Sequence[str], variables: Mapping[str, str], user: str, tools: Path | None
) -> list[str]:
    """The command, in a namespace of its own with the image's root."""
    root = shlex.quote(str(image.root))
    steps = [
        "set -e",
        f"mount --bind {root} {root}",
        f"mount -o remount,bind,ro {root}",
        f"mount -t proc proc {root}/proc",
        f"mount --rbind /dev {root}/dev",
        f"mount -t sysfs -o ro sysfs {root}/sys",
        f"mount -t tmpfs -o mode=1777 tmpfs {root}/tmp",
        *([f"mount --bind {shlex.quote(str(tools))} {root}{TOOLS}"] if tools else []),
    ]
    environment = [f"{name}={value}" for name, value in {**image.environment, **variables}.items()]
    inside = ["env", "--ignore-environment", f"--chdir={image.config['WorkingDir']}", *environment, *command]
    steps.append(f"exec chroot --userspec={user} {root} {shlex.join(inside)}")
    return ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", "\n".join(steps)]


@contextmanager
def running(
    image: Image,
    *arguments: str,
    log_file: Path,
    entrypoint: Sequence[str] | None = None,
    tools: Path | None = None,
    variables: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[RunningImage]:
    """The image's entry point, or another, with the arguments or else its own; killed with the block."""
    given = [*(image.config.get("Entrypoint", ()) if entrypoint is None else entrypoint)]
    command = [*given, *(arguments or image.config.get("Cmd") or ())]
    with log_file.open("wb") as log:
        process = subprocess.Popen(
            command_in(image, command, variables, image.config["User"], tools), stdout=log, stderr=log
        )
    container = RunningImage(process, log_file)
    try:
        yield container
    finally:
        container.kill()


def output_of(image: Image, *command: str, user: str | None = None, tools: Path | None = None) -> str:
    """What a command in the image prints; it must succeed."""
    full = command_in(image, command, {}, user or image.config["User"], tools)
    done = subprocess.run(full, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{command} ended with {done.returncode}: {done.stdout}{done.stderr}"
    return done.stdout


def stream_lines(response: httpx.Response) -> Iterator[dict[str, Any]]:
    """The messages of an OpenAI stream, up to [DONE], which must come."""
    for line in response.iter_lines():
        if line == "data: [DONE]":
            return
        if line.startswith("data: "):
            yield json.loads(line[6:])
    raise AssertionError("the stream was cut off")


def _is_ready(address: str) -> bool:
    try:
        return httpx.get(f"{address}/readyz", trust_env=False, timeout=10).status_code == 200
    except httpx.TransportError:
        return False
