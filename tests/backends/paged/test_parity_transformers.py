"""transformers' own definitions with our attention over pages against the same definitions with theirs."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
import torch

from pagemill.backends.paged.attention.torch_attention import TorchAttention
from pagemill.backends.paged.checkpoint import Checkpoint
from pagemill.backends.paged.transformers_model import TransformersModel, load_transformers_model
from support.model_zoo import FOREIGN
from support.parity import (
    assert_chunks_mixed_with_decodes_have_the_logits_of,
    assert_greedy_answers_are_those_of,
    assert_whole_prompts_have_the_logits_of,
    one_thread,
)


class Pair(NamedTuple):
    """The same weights in both."""

    ours: TransformersModel
    theirs: Any


@pytest.fixture(scope="module", params=FOREIGN)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    tiny = FOREIGN[request.param]
    folder = tiny.write(tmp_path_factory.mktemp(request.param) / "model")
    with Checkpoint.open(folder) as checkpoint:
        ours = load_transformers_model(
            checkpoint,
            dtype=torch.float32,
            device=torch.device("cpu"),
            attention=TorchAttention(),
            max_model_len=None,
        )
    with one_thread():
        yield Pair(ours, tiny.model())


def test_logits_of_whole_prompts_are_those_of_transformers(pair: Pair) -> None:
    assert_whole_prompts_have_the_logits_of(pair.theirs, pair.ours)


def test_logits_of_chunks_mixed_with_decodes_are_those_of_transformers(pair: Pair) -> None:
    assert_chunks_mixed_with_decodes_have_the_logits_of(pair.theirs, pair.ours)


def test_greedy_answers_of_a_mixed_batch_are_those_of_generate(pair: Pair) -> None:
    assert_greedy_answers_are_those_of(pair.theirs, pair.ours)
