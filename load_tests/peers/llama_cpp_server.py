"""`llama_cpp.server`, the Python server that llama-cpp-python has as an extra, in a virtual environment of its own.

That environment gets only the extra's own packages; llama_cpp itself comes from ours through a .pth file, so nothing
is compiled again and both run the same library. State: the environment, in the cache folder.
"""

import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

from load_tests.models import CACHE
from load_tests.servers import ServerCommand, model_name

REQUIREMENTS = ("fastapi", "uvicorn", "pydantic-settings", "sse-starlette", "starlette-context<0.4", "PyYAML")


def command(model: Path, *, max_model_len: int, threads: int) -> ServerCommand:
    """It has one slot: it serves one request at a time."""
    return ServerCommand(
        name="llama-cpp-server",
        arguments=(
            str(interpreter()),
            *("-m", "llama_cpp.server", "--model", str(model), "--model_alias", model_name(model)),
            *("--host", "127.0.0.1", "--port", "{port}"),
            *("--n_ctx", str(max_model_len), "--n_threads", str(threads), "--n_threads_batch", str(threads)),
            *("--flash_attn", "true"),
        ),
        model=model_name(model),
        ready_path="/v1/models",
    )


def interpreter() -> Path:
    """Python of the environment, which is made now if it is not in the cache."""
    folder = CACHE / "llama-cpp-server-venv"
    python = folder / "bin" / "python"
    finished = folder / "finished"
    if not finished.exists():
        venv.create(folder, with_pip=True, clear=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *REQUIREMENTS], check=True)
        [packages] = folder.glob("lib/python*/site-packages")
        # Paths in a .pth file come last, so the environment's own packages win over ours.
        (packages / "pagemill-environment.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
        subprocess.run([python, "-c", "import llama_cpp.server.app"], check=True)
        finished.touch()
    return python


if __name__ == "__main__":
    print(interpreter(), file=sys.stderr)
