"""The llama.cpp library: its import, its kernels, its one-time initialisation, and its log lines routed into `logging`.

Owns the process's llama.cpp log callback, which C keeps a pointer to: it must live as long as the process, so
`load_library` makes it once and never lets it go.
"""

import ctypes
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from logging import DEBUG, ERROR, getLogger
from types import ModuleType
from typing import NamedTuple

from pagemill.errors import ModelLoadError
from pagemill.partial_import import import_without_package

logger = getLogger(__name__)

# enum ggml_log_level -> ours; all else is DEBUG: its "info" is a screenful for each load, its warnings are advice.
LEVELS = {4: ERROR}
# Kinds of CPU with AVX2, as llama.cpp ranks its kernels for them: by their features, so the order is the same anywhere.
BEST_CPUS = (
    "sapphirerapids",
    "zen4",
    "cooperlake",
    "icelake",
    "cascadelake",
    "cannonlake",
    "skylakex",
    "alderlake",
    "haswell",
)
CONTINUATION = 5  # the text goes on from the last one


@dataclass(slots=True)
class LogRouter:
    """Takes llama.cpp's log lines. A thread that captures gets its own error lines instead of the log."""

    captures: dict[int, list[str]] = field(default_factory=dict)  # by thread id
    level: int = DEBUG  # of the last line

    def write(self, level: int, text: bytes | None, _user_data: object) -> None:
        """The callback. Called from C, also from llama.cpp's own threads: it may not raise."""
        if level != CONTINUATION:
            self.level = LEVELS.get(level, DEBUG)
        captured = self.captures.get(threading.get_ident())
        if captured is None and not logger.isEnabledFor(self.level):
            return
        line = " ".join((text or b"").decode("utf-8", errors="replace").split())
        if not line or line == ".":
            return
        if captured is not None and self.level == ERROR:
            captured.append(line)
        else:
            logger.log(self.level, "%s", line)


class Library(NamedTuple):
    """llama.cpp, ready to use. `c` is the module of its C functions (`c.llama_decode`, ...)."""

    c: ModuleType
    router: LogRouter
    callback: object  # the C function pointer of router.write; kept here so that it is never freed
    silence: object  # a C function pointer that does nothing

    def attempt(self, load: Callable[[], int | None]) -> tuple[int | None, list[str]]:
        """The pointer that `load` gives and, if it is null, the error lines that say why.

        llama.cpp writes a thousand lines while it loads, has no level to stop them, and for each of ours the GIL is
        taken, for which the imports beside the load compete: 10 to 20 ms of a cold start. So, unless the log shows
        them, nothing listens; if it fails, `load` is called again for the reason. A decode that fails meanwhile on
        another model's thread goes without its details.
        """
        if not logger.isEnabledFor(DEBUG):
            self._listen_with(self.silence)
            try:
                pointer = load()
            finally:
                self._listen_with(self.callback)
            if pointer:
                return pointer, []
        with self.captured_errors() as errors:
            return load(), errors

    @contextmanager
    def captured_errors(self) -> Iterator[list[str]]:
        """Collects the error lines that this thread's calls write, to put them into an exception."""
        lines: list[str] = []
        self.router.captures[threading.get_ident()] = lines
        try:
            yield lines
        finally:
            del self.router.captures[threading.get_ident()]

    def _listen_with(self, callback: object) -> None:
        self.c.llama_log_set(callback, ctypes.c_void_p(0))


@cache
def load_library() -> Library:
    """Import and initialise llama.cpp; later calls give the same.

    Raises:
        ModelLoadError: llama-cpp-python is not installed, its library doesn't load, or has no kernels for this CPU.
    """
    c = _import_binding()
    router = LogRouter()
    callback = c.llama_log_callback(router.write)
    # A function without parameters looks at no argument, and callers clean up: as a callback it is silence.
    silence = ctypes.cast(c.llama_supports_mmap, c.llama_log_callback)
    c.llama_log_set(callback, ctypes.c_void_p(0))
    load_kernels(c._lib)
    c.llama_backend_init()
    return Library(c, router, callback, silence)


def load_kernels(llama: ctypes.CDLL) -> None:
    """Load the kernels that suit this CPU best, if llama.cpp was built for a fleet (GGML_BACKEND_DL): they are then
    libraries of their own, beside libllama. Left alone, llama.cpp looks in the interpreter's and the working folder.

    It opens all fourteen to ask each whether it suits; trying the best first opens one or two, which saves 7 ms, or 25
    from a cold disk.

    Raises:
        ModelLoadError: there are none for this CPU.
    """
    if llama.ggml_backend_reg_count():  # built in
        return
    folder = os.path.dirname(llama._name)
    for kind in BEST_CPUS if _only_for_cpus(folder) else ():
        llama.ggml_backend_load(os.fsencode(f"{folder}/libggml-cpu-{kind}.so"))
        if llama.ggml_backend_reg_count():
            return
    llama.ggml_backend_load_all_from_path(os.fsencode(folder))
    if not llama.ggml_backend_reg_count():
        raise ModelLoadError(f"llama.cpp has no kernels for this CPU in {folder}")


def _only_for_cpus(folder: str) -> bool:
    """Whether the libraries there are for CPUs: no other device is passed over when the first that suits is taken."""
    backends = [name for name in os.listdir(folder) if name.startswith("libggml-")]
    return all(name.startswith(("libggml-cpu-", "libggml-base.")) for name in backends)


def _import_binding() -> ModuleType:
    """The module of C functions, without the high-level `Llama` class and its dependencies."""
    try:
        return import_without_package("llama_cpp.llama_cpp")
    except ModuleNotFoundError as error:
        if error.name == "llama_cpp":
            raise ModelLoadError("GGUF models need llama-cpp-python: pip install 'pagemill[gguf]'") from error
        raise ModelLoadError(f"llama-cpp-python can't be loaded: {error}") from error
    except (ImportError, OSError, RuntimeError) as error:
        raise ModelLoadError(f"llama-cpp-python can't be loaded: {error}") from error
