"""llama-server, built from the source distribution of the installed llama-cpp-python: the same llama.cpp as ours.

`python -m load_tests.peers.llama_server` builds it (about ten minutes on two cores). State: the cache folder.
"""

import argparse
import os
import subprocess
import sys
import tarfile
from importlib.metadata import version
from pathlib import Path

from load_tests.models import CACHE
from load_tests.servers import ServerCommand, model_name

# As the python package builds its own copy (Release, native instructions, OpenMP), less what a benchmark does not need:
# the web UI (would fetch assets from the network), TLS, tests.
CMAKE_OPTIONS = (
    "-DCMAKE_BUILD_TYPE=Release",
    "-DBUILD_SHARED_LIBS=ON",
    "-DGGML_NATIVE=ON",
    "-DLLAMA_BUILD_TESTS=OFF",
    "-DLLAMA_BUILD_EXAMPLES=OFF",
    "-DLLAMA_BUILD_TOOLS=ON",
    "-DLLAMA_BUILD_SERVER=ON",
    "-DLLAMA_BUILD_APP=OFF",
    "-DLLAMA_BUILD_UI=OFF",
    "-DLLAMA_USE_PREBUILT_UI=OFF",
    "-DLLAMA_OPENSSL=OFF",
)


def variants() -> dict[str, tuple[str, ...]]:
    """The settings it is tried with: where the KV lives, and whether idle prompts are also copied to a cache in RAM."""
    return {
        "streams": ("--no-kv-unified",),
        "unified": ("--kv-unified",),
        "streams-no-ram-cache": ("--no-kv-unified", "--cache-ram", "0"),
        "unified-no-ram-cache": ("--kv-unified", "--cache-ram", "0"),
    }


def command(model: Path, *, num_slots: int, max_model_len: int, threads: int, variant: str) -> ServerCommand:
    """llama-server with the given number of slots, each with a context of `max_model_len` (unified: on average)."""
    return ServerCommand(
        name=f"llama-server-{variant}",
        arguments=(
            str(binary()),
            *("--model", str(model), "--alias", model_name(model)),
            *("--host", "127.0.0.1", "--port", "{port}"),
            *("--parallel", str(num_slots), "--ctx-size", str(num_slots * max_model_len)),
            *("--threads", str(threads), "--threads-batch", str(threads)),
            *("--flash-attn", "on", "--cont-batching", "--cache-prompt"),
            *variants()[variant],
        ),
        model=model_name(model),
        ready_path="/health",
    )


def binary() -> Path:
    """The built program. Raises FileNotFoundError that says how to build it."""
    path = _build_folder() / "bin" / "llama-server"
    if not path.exists():
        raise FileNotFoundError(f"no {path}; build it with: python -m load_tests.peers.llama_server")
    return path


def build(source: Path | None = None, *, jobs: int = 2) -> Path:
    """Fetch the source (or take `source`, an unpacked source distribution), configure and build. Once per release."""
    folder = _build_folder()
    if (folder / "bin" / "llama-server").exists():
        return binary()
    source = source or _unpacked_source()
    llama_cpp = source / "vendor" / "llama.cpp"
    generator = ("-G", "Ninja") if _has_ninja() else ()
    subprocess.run(["cmake", "-S", str(llama_cpp), "-B", str(folder), *generator, *CMAKE_OPTIONS], check=True)
    build_command = ["cmake", "--build", str(folder), "--target", "llama-server", f"-j{jobs}"]
    subprocess.run(build_command, check=True, preexec_fn=lambda: os.nice(10))
    return binary()


def _release() -> str:
    return version("llama-cpp-python")


def _build_folder() -> Path:
    return CACHE / f"llama-server-{_release()}"


def _unpacked_source() -> Path:
    folder = CACHE / f"llama_cpp_python-{_release()}"
    if folder.exists():
        return folder
    requirement = f"llama-cpp-python=={_release()}"
    options = ("--no-deps", "--no-binary", "llama-cpp-python", "--dest", str(CACHE))
    CACHE.mkdir(exist_ok=True)
    subprocess.run([sys.executable, "-m", "pip", "download", *options, requirement], check=True)
    with tarfile.open(CACHE / f"llama_cpp_python-{_release()}.tar.gz") as archive:
        archive.extractall(CACHE, filter="data")
    return folder


def _has_ninja() -> bool:
    try:
        return subprocess.run(["ninja", "--version"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


def main() -> None:
    """Build it and say where it is."""
    parser = argparse.ArgumentParser(description="build llama-server from llama-cpp-python's source distribution")
    parser.add_argument("--source", type=Path, help="an unpacked source distribution (default: download it)")
    parser.add_argument("--jobs", type=int, default=2, help="compilers at once (default: %(default)s)")
    options = parser.parse_args()
    print(build(options.source, jobs=options.jobs))


if __name__ == "__main__":
    main()
