"""The process that quantizes one file: `SOURCE TARGET TYPE THREADS BUFFER_BYTES`, the type as a number of llama.cpp's.

Writes the name of each tensor that it begins to standard output, and why it failed to standard error. Ends when its
standard input does, which is when whoever started it has ended: nothing is left of it then, not even the target.
"""

import ctypes
import os
import re
import sys
import threading
from contextlib import suppress
from pathlib import Path

from pagemill.backends.gguf.library import LEVELS, Library, load_library
from pagemill.backends.gguf.model import reason_of
from pagemill.errors import ModelLoadError

TENSOR = re.compile(rb"\[\s*\d+/\s*\d+\]\s+(\S+)\s+- \[")  # how llama.cpp begins a line about one
CANNOT_WRITE = "iostream error"  # all that a C++ stream says
NICENESS = 10  # whoever is served goes first


class Listener:
    """Takes llama.cpp's log lines."""

    def __init__(self) -> None:
        self.errors: list[str] = []

    def write(self, level: int, text: bytes | None, _user_data: object) -> None:
        """The callback. Called from C: it may not raise."""
        if level in LEVELS:
            self.errors.append((text or b"").decode("utf-8", "replace").strip())
        elif found := TENSOR.match(text or b""):
            with suppress(OSError):  # nobody reads any more: our input has ended, too
                os.write(1, found[1] + b"\n")


def main(arguments: list[str]) -> int:
    source, target = arguments[:2]
    file_type, threads, buffer_bytes = map(int, arguments[2:])
    threading.Thread(target=_end_with_input, args=(Path(target),), daemon=True).start()
    os.nice(NICENESS)
    try:
        library = load_library()
        quantize(library, source, target, file_type, threads, buffer_bytes)
    except ModelLoadError as error:
        os.write(2, str(error).encode())
        return 1
    return 0


def quantize(library: Library, source: str, target: str, file_type: int, threads: int, buffer_bytes: int) -> None:
    """
    Raises:
        ModelLoadError: llama.cpp's reason.
    """
    c, listener = library.c, Listener()
    callback = c.llama_log_callback(listener.write)
    c.llama_log_set(callback, ctypes.c_void_p(0))
    params = c.llama_model_quantize_default_params()
    params.ftype, params.nthread, params.max_buf_size = file_type, threads, buffer_bytes
    failed = c.llama_model_quantize(os.fsencode(source), os.fsencode(target), ctypes.byref(params))
    c.llama_log_set(library.callback, ctypes.c_void_p(0))  # ours is freed now
    if failed:
        reason = reason_of(listener.errors).removeprefix("failed to quantize: ")
        raise ModelLoadError(f"{target} can't be written; is the disk full?" if CANNOT_WRITE in reason else reason)


def _end_with_input(target: Path) -> None:
    while os.read(0, 1):
        pass
    target.unlink(missing_ok=True)
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
