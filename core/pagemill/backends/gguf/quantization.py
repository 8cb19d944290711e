"""Quantizes a GGUF file by llama.cpp, in a process of its own: it can be stopped at any moment, which llama.cpp itself
can't be, and a file that makes llama.cpp abort ends that process only.

Owns the processes that it starts. May not import llama_cpp, HTTP or asyncio.
"""

import os
import select
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryFile
from threading import Event
from typing import IO, NamedTuple

from pagemill.backends.gguf.metadata import read_header
from pagemill.errors import InvalidRequestError, ModelLoadError
from pagemill.machine import num_usable_cores

PROCESS = "pagemill.backends.gguf.quantization_process"
TICK_S = 0.1
READ_BYTES = 2**16
MAX_REASON = 500  # characters

# enum llama_ftype; those that need no importance matrix.
FILE_TYPES: Mapping[str, int] = {
    "F32": 0,
    "F16": 1,
    "BF16": 32,
    "Q8_0": 7,
    "Q6_K": 18,
    "Q5_K_M": 17,
    "Q5_K_S": 16,
    "Q5_1": 9,
    "Q5_0": 8,
    "Q4_K_M": 15,
    "Q4_K_S": 14,
    "Q4_1": 3,
    "Q4_0": 2,
    "Q3_K_L": 13,
    "Q3_K_M": 12,
    "Q3_K_S": 11,
    "Q2_K": 10,
}
ALIASES = {"Q6_K_M": "Q6_K", "Q5_K": "Q5_K_M", "Q4_K": "Q4_K_M", "Q3_K": "Q3_K_M"}
FLOATS = {0: "F32", 1: "F16", 30: "BF16"}  # enum ggml_type


class GGUFQuantizer(NamedTuple):
    """`buffer_bytes`: of tensors' rows that are held at once. Names of types are those that `/api/show` has."""

    threads: int | None = None  # None: the cores of this machine
    buffer_bytes: int = 2**28

    def type_named(self, text: str) -> str:
        """The type that a client calls so, in whatever letters.

        Raises:
            InvalidRequestError: there is none; lists all.
        """
        name = text.upper()
        name = ALIASES.get(name, name)
        if name not in FILE_TYPES:
            known = ", ".join(FILE_TYPES)
            raise InvalidRequestError(
                f"unsupported quantization type {text} - supported types are {known}", param="quantize"
            )
        return name

    def type_of(self, source: Path) -> str:
        """Of a file that can be quantized. Reads its header.

        Raises:
            InvalidRequestError: it is quantized already.
            ModelLoadError: it can't be read, or is no GGUF.
        """
        header = read_header(source)
        sizes: dict[int, int] = {}
        for tensor in header.tensors:
            sizes[tensor.kind] = sizes.get(tensor.kind, 0) + tensor.num_bytes
        if not sizes or not sizes.keys() <= FLOATS.keys():
            found = header.values.get("general.file_type")
            name = next((name for name, number in FILE_TYPES.items() if number == found), "of another type")
            raise InvalidRequestError(
                f"quantization is only supported for F16, F32 and BF16 models, this one is {name}", param="quantize"
            )
        return FLOATS[max(sizes, key=lambda kind: sizes[kind])]

    def quantize(self, source: Path, target: Path, kind: str, report: Callable[[int], None], stopped: Event) -> None:
        """Write `target`, which is whole only when this returns. Blocks until it is, or until `stopped` is set: then it
        returns early. `report` is told how many bytes of the source are done.

        Raises:
            ModelLoadError: it failed; names the source, the type and the reason.
        """
        sizes = {tensor.name: tensor.num_bytes for tensor in read_header(source).tensors}
        with TemporaryFile() as errors:
            process = self._start(source, target, kind, errors)
            try:
                _follow(process, sizes, report, stopped)
            finally:
                process.kill()
                process.communicate()
            if process.returncode and not stopped.is_set():
                raise ModelLoadError(f"can't quantize {source} to {kind}: {_reason(process.returncode, errors)}")

    def _start(self, source: Path, target: Path, kind: str, errors: IO[bytes]) -> subprocess.Popen[bytes]:
        threads = self.threads or num_usable_cores()
        numbers = [str(number) for number in (FILE_TYPES[kind], threads, self.buffer_bytes)]
        command = [sys.executable, "-P", "-m", PROCESS, str(source), str(target), *numbers]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        try:
            return subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, env=environment
            )
        except OSError as error:
            reason = f"no process can be started: {error.strerror}"
            raise ModelLoadError(f"can't quantize {source} to {kind}: {reason}") from error


def _follow(
    process: subprocess.Popen[bytes], sizes: Mapping[str, int], report: Callable[[int], None], stopped: Event
) -> None:
    """Until the process has ended, or is to be stopped. Of each tensor that it begins it writes the name."""
    assert process.stdout is not None
    done_bytes, begun_bytes, line = 0, 0, b""
    while not stopped.is_set():
        if not select.select([process.stdout], [], [], TICK_S)[0]:
            continue
        data = os.read(process.stdout.fileno(), READ_BYTES)
        if not data:
            process.wait()
            return
        *names, line = (line + data).split(b"\n")
        for name in names:
            done_bytes, begun_bytes = done_bytes + begun_bytes, sizes.get(name.decode(), 0)
        report(done_bytes)


def _reason(returncode: int, errors: IO[bytes]) -> str:
    """The last line that the process left."""
    errors.seek(0)
    lines = [line for line in errors.read().decode("utf-8", "replace").splitlines() if line.strip()]
    said = lines[-1][:MAX_REASON] if lines else "no reason given"
    return f"llama.cpp was ended by signal {-returncode}: {said}" if returncode < 0 else said
