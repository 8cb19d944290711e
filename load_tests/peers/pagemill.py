"""The commands that start Pagemill itself, and the least program on its libraries. Owns no state."""

import sys
from pathlib import Path

from load_tests.servers import ServerCommand, model_name


def gguf_command(
    model: Path, *, num_slots: int, max_model_len: int, threads: int, flags: tuple[str, ...] = ()
) -> ServerCommand:
    """`pagemill serve` on a GGUF file. `flags`: further ones, for experiments."""
    return ServerCommand(
        name="pagemill",
        arguments=(
            *_serve(str(model)),
            *("--served-model-name", model_name(model)),
            *("--max-num-seqs", str(num_slots)),
            *("--max-model-len", str(max_model_len)),
            *("--threads", str(threads)),
            *flags,
        ),
        model=model_name(model),
        ready_path="/readyz",
    )


def paged_command(
    model: Path,
    *,
    num_slots: int,
    max_model_len: int,
    threads: int,
    kv_cache_bytes: int = 2**30,
    prefix_caching: bool = True,
    flags: tuple[str, ...] = (),
) -> ServerCommand:
    """`pagemill serve` on a Hugging Face folder, on the CPU."""
    return ServerCommand(
        name="pagemill-paged" if prefix_caching else "pagemill-paged-no-prefix-cache",
        arguments=(
            *_serve(str(model)),
            *("--served-model-name", model_name(model)),
            *("--device", "cpu", "--dtype", "bfloat16"),
            *("--max-num-seqs", str(num_slots)),
            *("--max-model-len", str(max_model_len)),
            *("--threads", str(threads)),
            *("--kv-cache-memory-bytes", str(kv_cache_bytes)),
            "--enable-prefix-caching" if prefix_caching else "--no-enable-prefix-caching",
            *flags,
        ),
        model=model_name(model),
        ready_path="/readyz",
    )


def several_command(folder: Path, *, memory_budget: int, threads: int, kv_cache_bytes: int) -> ServerCommand:
    """`pagemill serve` on all models in a folder, each loaded when it is asked for."""
    return ServerCommand(
        name="pagemill-several",
        arguments=(
            *(str(Path(sys.executable).with_name("pagemill")), "serve", "--models-dir", str(folder)),
            *("--port", "{port}", "--log-level", "info", "--device", "cpu"),
            *("--memory-budget-bytes", str(memory_budget), "--threads", str(threads)),
            *("--max-num-seqs", "8", "--max-model-len", "1024", "--kv-cache-memory-bytes", str(kv_cache_bytes)),
        ),
        model="",
        ready_path="/readyz",
    )


def fake_command(*, num_slots: int) -> ServerCommand:
    """Pagemill's server on the scripted backend, which computes nothing and never stops by itself."""
    program = (sys.executable, "-m", "load_tests.fake_server", "--port", "{port}")
    return ServerCommand("pagemill-fake", (*program, "--max-num-seqs", str(num_slots)), "fake", "/readyz")


def floor_command(model: Path, *, num_slots: int, max_model_len: int, threads: int) -> ServerCommand:
    """The least program on the same libraries."""
    return ServerCommand(
        name="floor",
        arguments=(
            *(sys.executable, "-m", "load_tests.floor_server", "--model", str(model), "--port", "{port}"),
            *("--max-num-seqs", str(num_slots), "--max-model-len", str(max_model_len), "--threads", str(threads)),
        ),
        model=model_name(model),
        ready_path="/",
    )


def demo_command(*, flags: tuple[str, ...] = ()) -> ServerCommand:
    """`pagemill serve` as a newcomer starts it: the demo model, all settings as they come."""
    return ServerCommand(
        name="pagemill-grist", arguments=(*_serve("grist"), *flags), model="grist", ready_path="/readyz"
    )


def _serve(model: str) -> tuple[str, ...]:
    program = Path(sys.executable).with_name("pagemill")
    return (str(program), "serve", model, "--port", "{port}", "--log-level", "warning")
