"""Our one decoder against transformers' own definition of every architecture, in float32."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from support.model_zoo import CONTEXT, DECODERS
from support.paged_driver import PagedDriver
from torch import Tensor

from pagemill.backends.paged.attention.torch_attention import TorchAttention
from pagemill.backends.paged.checkpoint import Checkpoint
from pagemill.backends.paged.decoder import Decoder
from pagemill.backends.paged.decoder_loading import load_decoder
from pagemill.backends.paged.ops.torch_ops import TorchOps

LENGTHS = (1, 7, 16, 33, 50, 64, 75, 90)


class Pair(NamedTuple):
    """The same weights in both."""

    ours: Decoder
    theirs: Any


@pytest.fixture(scope="module", params=DECODERS)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    tiny = DECODERS[request.param]
    folder = tiny.write(tmp_path_factory.mktemp(request.param))
    max_model_len = 256 if "longrope" in str(tiny.overrides) else CONTEXT
    return Pair(load(folder, max_model_len), tiny.model())


def load(folder: Path, max_model_len: int) -> Decoder:
    with Checkpoint.open(folder) as checkpoint:
        return load_decoder(
            checkpoint,
            dtype=torch.float32,
            device=torch.device("cpu"),
            ops=TorchOps(),
            attention=TorchAttention(),
            max_model_len=max_model_len,
        )


def texts(vocab_size: int, lengths: tuple[int, ...] = LENGTHS) -> list[list[int]]:
    random = torch.Generator().manual_seed(1)
    return [torch.randint(0, vocab_size, (length,), generator=random).tolist() for length in lengths]


def their_logits(model: Any, tokens: list[list[int]]) -> list[Tensor]:
    """Padded at the end, where no token of a causal model sees it."""
    width = max(map(len, tokens))
    padded = torch.tensor([row + [0] * (width - len(row)) for row in tokens])
    with torch.inference_mode():
        logits = model(padded, use_cache=False).logits
    return [rows[: len(row)] for rows, row in zip(logits, tokens, strict=True)]


def their_answers(model: Any, prompts: list[list[int]], num_tokens: int) -> list[list[int]]:
    width = max(map(len, prompts))
    padded = torch.tensor([[0] * (width - len(prompt)) + prompt for prompt in prompts])
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    model.generation_config.eos_token_id = None
    with torch.inference_mode():
        output = model.generate(padded, attention_mask=mask, do_sample=False, max_new_tokens=num_tokens)
    answers: list[list[int]] = output[:, width:].tolist()
    return answers


def test_logits_of_whole_prompts_are_those_of_transformers(pair: Pair) -> None:
    tokens = texts(pair.ours.vocab_size)
    logits = PagedDriver(pair.ours).step(list(enumerate(tokens)))
    for ours, theirs in zip(logits, their_logits(pair.theirs, tokens), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)


def test_logits_of_chunks_mixed_with_decodes_are_those_of_transformers(pair: Pair) -> None:
    tokens = texts(pair.ours.vocab_size)
    logits = PagedDriver(pair.ours).teacher_forced(tokens, chunk=16, budget=40)
    for ours, theirs in zip(logits, their_logits(pair.theirs, tokens), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)


def test_greedy_answers_of_a_mixed_batch_are_those_of_generate(pair: Pair) -> None:
    prompts = texts(pair.ours.vocab_size)
    assert PagedDriver(pair.ours).greedy(prompts, 64) == their_answers(pair.theirs, prompts, 64)
