"""Embeddings and scores on a pretended GPU are those of the CPU."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pagemill.backends.embedder import EmbeddingInput
from pagemill.backends.paged.embedder_loading import load_embedder
from pagemill.backends.paged.options import PagedOptions
from support.encoder_folders import BERT, POSITIONS, save, write_reranker
from support.pretend_cuda_runtime import Runtime

LONG = {**BERT, "max_position_embeddings": POSITIONS}
MPNET = {**LONG, "relative_attention_num_buckets": 32}
WRITERS: dict[str, Callable[[Path], Any]] = {
    "bert": lambda folder: save("Bert", LONG, folder),
    "roberta": lambda folder: save("Roberta", {**LONG, "pad_token_id": 1}, folder),
    "mpnet": lambda folder: save("MPNet", MPNET, folder),
    "electra": lambda folder: save("Electra", {**LONG, "embedding_size": 16}, folder, "ForMaskedLM"),
    "cross-encoder": lambda folder: save("Bert", LONG, folder, "ForSequenceClassification", num_labels=1),
    "decoder": lambda folder: save("Qwen3", {**LONG, "num_key_value_heads": 2, "head_dim": 8}, folder),
    "reranker": lambda folder: write_reranker(folder, "ForCausalLM"),
}
TEXTS = [EmbeddingInput(tuple(range(5, 5 + length))) for length in (1, 7, 30, 7, 41, 2)]


def rows(folder: Path, **options: Any) -> list[list[float]]:
    embedder = load_embedder(folder, PagedOptions(threads=1, **options))
    return [list(row) for row in embedder.embed(TEXTS)]


@pytest.mark.parametrize("kind", WRITERS)
def test_rows_are_those_of_the_cpu(gpu: Runtime, kind: str, tmp_path: Path) -> None:
    WRITERS[kind](tmp_path)
    expected = rows(tmp_path, device="cpu", attention_backend="torch")
    with gpu.device:
        actual = rows(tmp_path, device="cuda")
    torch.testing.assert_close(torch.tensor(actual), torch.tensor(expected), atol=1e-5, rtol=0)
