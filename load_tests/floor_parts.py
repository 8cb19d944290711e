"""The floor of a cold start by arithmetic: imports + the model's bytes / bandwidth + the first evaluation.

    python -m load_tests.floor_parts --model MODEL.gguf --max-num-seqs N --max-model-len N --threads N

Imports: what the floor program imports, with nothing beside it. Bandwidth: `page_cache.py`. The evaluation is of the
same prompt, by a process that has run it once before, so that weights, context and threads are there: run as a program,
this prints how long it took. Owns no state.
"""

import argparse
import json
import subprocess
import sys
import time
from concurrent.futures import Future
from pathlib import Path
from typing import NamedTuple

from load_tests.first_token import MESSAGE
from load_tests.floor_model import PROMPT, Loaded, add_load_arguments, load, next_piece, tokenize
from load_tests.servers import ROOT, environment

IMPORTS = """
import gc, time
gc.disable()
from load_tests.floor_model import load_library
load_library()
import load_tests.floor_app
print(time.perf_counter())
"""


class FloorParts(NamedTuple):
    """Seconds, and their sum's terms as they were measured in one state of the page cache."""

    imports: float
    reading: float  # the model's bytes / bandwidth
    evaluation: float

    @property
    def total(self) -> float:
        return sum(self)


def import_seconds() -> float:
    """From before an interpreter is started until all that the floor program imports is imported."""
    began = time.perf_counter()
    command = [sys.executable, "-c", IMPORTS]
    ended = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, check=True).stdout
    return float(ended) - began


def evaluation_seconds(model: Path, *, num_slots: int, max_model_len: int, threads: int) -> float:
    """The least of some evaluations of the first request's prompt, in a process of its own."""
    command = [sys.executable, "-m", "load_tests.floor_parts", "--model", str(model)]
    for name, value in (("max-num-seqs", num_slots), ("max-model-len", max_model_len), ("threads", threads)):
        command += [f"--{name}", str(value)]
    printed = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, check=True).stdout
    seconds: float = json.loads(printed)["evaluation_s"]
    return seconds


def main() -> None:
    """Load as the floor program does, evaluate the prompt, and again; print how long the second time took."""
    parser = argparse.ArgumentParser(description="how long the evaluation of the first prompt takes")
    add_load_arguments(parser)
    options = parser.parse_args()
    future: Future[Loaded] = Future()
    load(options, future)
    loaded = future.result()
    ids = tokenize(loaded, PROMPT.format(MESSAGE))
    seconds = []
    for _ in range(4):
        began = time.perf_counter()
        next_piece(loaded, ids)
        seconds.append(time.perf_counter() - began)
        loaded.c.llama_memory_clear(loaded.c.llama_get_memory(loaded.context), False)
    print(json.dumps({"evaluation_s": min(seconds[1:])}))


if __name__ == "__main__":
    main()
