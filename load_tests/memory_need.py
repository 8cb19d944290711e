"""What models take of memory, beside what is estimated from their files before they are loaded.

    python -m load_tests.memory_need --models 88M 88M:Q4_K_M 88M:folder 0.6B

Each model is loaded by a process of its own, which then computes sequences that fill its KV cache, and closes it:

    measured = the most resident memory that there ever was - resident memory before the load
    left = resident memory after the close - resident memory before the load

What belongs to the process and not to the model (PyTorch, llama.cpp's library) is loaded before.
"""

import argparse
import asyncio
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from load_tests.memory import status_bytes
from pagemill.settings import Settings

if TYPE_CHECKING:
    from pagemill.pool import LoadedModel

MIB = 2**20
PLENTY = 2**36  # a budget that limits nothing
FIRST_TOKEN = 259  # in the random models' vocabularies those before it are bytes and special


@dataclass(frozen=True, slots=True)
class MemoryTaken:
    """In bytes."""

    estimated: int
    measured: int
    left: int  # by the second of two loads: the first leaves modules and caches, which the second finds

    @property
    def ratio(self) -> float:
        return self.estimated / self.measured


def measure(path: Path, **settings: object) -> MemoryTaken:
    """In a process of its own; `settings` are Pagemill's."""
    command = [sys.executable, "-m", "load_tests.memory_need", "--probe", str(path), json.dumps(settings)]
    root = Path(__file__).parent.parent
    done = subprocess.run(command, capture_output=True, text=True, cwd=root, timeout=600, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"the process that loads {path.name} failed:\n{done.stderr}")
    return MemoryTaken(**json.loads(done.stdout))


def probe(path: str, settings: Settings) -> MemoryTaken:
    """In this process."""
    from pagemill.backend_choice import backend_kind, estimate_memory
    from pagemill.machine import release_freed_memory, resident_bytes
    from pagemill.store.references import resolve_local

    reference = resolve_local(path)
    if backend_kind(reference.format, settings) == "gguf":
        from pagemill.backends.gguf.library import load_library

        load_library()
    estimated = estimate_memory(reference, settings, lambda device: PLENTY).total  # this imports PyTorch for a folder
    before = resident_bytes()
    Path("/proc/self/clear_refs").write_text("5")  # forgets the high-water mark
    highest = left = 0
    for _ in range(2):
        started = resident_bytes()
        asyncio.run(_use(path, settings))
        highest = highest or status_bytes(Path("/proc/self/status").read_text(), "VmHWM")  # of the first load
        release_freed_memory()
        left = resident_bytes() - started
    return MemoryTaken(estimated, highest - before, left)


async def _use(path: str, settings: Settings) -> None:
    """Load it, have it compute all that it can hold, close it."""
    from pagemill.bootstrap import load_model
    from pagemill.store.references import resolve_local

    model = await load_model(resolve_local(path), settings)
    await (_embed(model) if model.embeds else _generate(model))
    await model.engine.close()


async def _generate(model: "LoadedModel") -> None:
    from pagemill.engine.engine import Engine
    from pagemill.generation import GenerationRequest, SamplingParams

    engine = model.engine
    assert isinstance(engine, Engine)
    num_words = model.tokenizer.vocab_size - FIRST_TOKEN

    async def one(number: int) -> None:
        places = range(engine.max_model_len - 9)
        request = GenerationRequest(
            request_id=f"r{number}",
            prompt_token_ids=tuple(FIRST_TOKEN + (number * 7 + place * 3) % num_words for place in places),
            sampling=SamplingParams(max_tokens=8, seed=number, top_p=0.9, ignore_eos=True),
        )
        with engine.generate(request) as stream:
            async for _ in stream:
                pass

    await asyncio.gather(*(one(number) for number in range(engine.max_num_seqs)))


async def _embed(model: "LoadedModel") -> None:
    from pagemill.backends.embedder import EmbeddingInput

    engine = model.embedding_engine
    assert engine is not None
    token_ids = (*engine.surroundings.before, *[300] * (engine.max_model_len - 8), *engine.surroundings.after)
    await engine.embed([EmbeddingInput(token_ids)] * 16)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print and save."""
    from load_tests.model_folders import model_folder
    from load_tests.models import find_model
    from load_tests.report import save, table

    parser = argparse.ArgumentParser(description="estimated and measured memory of models")
    parser.add_argument("--models", nargs="+", default=["88M", "88M:Q4_K_M", "88M:folder"], help="%(default)s")
    parser.add_argument("--max-num-seqs", type=int, default=8, help="%(default)s")
    parser.add_argument("--max-model-len", type=int, default=1024, help="%(default)s")
    parser.add_argument("--folder-kv-mib", type=int, default=96, help="of a folder, which the sequences should fill")
    parser.add_argument("--no-save", action="store_true", help="print only")
    options = parser.parse_args(arguments)
    taken = {}
    for model in options.models:
        size, _, kind = model.partition(":")
        path = model_folder(size) if kind == "folder" else find_model(model)
        settings = {"max_num_seqs": options.max_num_seqs, "max_model_len": options.max_model_len, "device": "cpu"}
        if kind == "folder":
            settings["kv_cache_memory_bytes"] = options.folder_kv_mib * MIB
        taken[model] = measure(path, **settings)
    rows = [
        (name, *(f"{size / MIB:.0f}" for size in (item.estimated, item.measured, item.left)), f"{item.ratio:.2f}")
        for name, item in taken.items()
    ]
    print(table(("model", "estimated, MiB", "measured", "left when closed", "estimated / measured"), rows))
    if not options.no_save:
        saved = {name: asdict(item) for name, item in taken.items()}
        print("saved", save("memory-need", {"options": vars(options), "bytes": saved}))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--probe"]:
        print(json.dumps(asdict(probe(sys.argv[2], Settings(**json.loads(sys.argv[3]))))))
    else:
        main()
