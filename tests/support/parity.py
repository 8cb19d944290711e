"""The three comparisons that hold a `PagedModel` to transformers' own definition with the same weights, in float32."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from pagemill.backends.paged.model import PagedModel
from support.paged_driver import PagedDriver
from support.transformers_oracle import expected_answers, expected_logits, random_texts

TOLERANCE = 1e-4
NUM_TOKENS = 64


@contextmanager
def one_thread() -> Iterator[None]:
    """For tiny models threads wait for each other longer than they compute, the longer the busier the machine."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(num_threads)


def assert_whole_prompts_have_the_logits_of(theirs: Any, ours: PagedModel) -> None:
    texts = random_texts(ours.vocab_size)
    _assert_close(PagedDriver(ours).step(list(enumerate(texts))), expected_logits(theirs, texts))


def assert_chunks_mixed_with_decodes_have_the_logits_of(theirs: Any, ours: PagedModel) -> None:
    texts = random_texts(ours.vocab_size)
    _assert_close(PagedDriver(ours).teacher_forced(texts, chunk=16, budget=40), expected_logits(theirs, texts))


def assert_greedy_answers_are_those_of(theirs: Any, ours: PagedModel) -> None:
    prompts = random_texts(ours.vocab_size)
    assert PagedDriver(ours).greedy(prompts, NUM_TOKENS) == expected_answers(theirs, prompts, NUM_TOKENS)


def _assert_close(ours: list[Tensor], theirs: list[Tensor]) -> None:
    for our_logits, their_logits in zip(ours, theirs, strict=True):
        torch.testing.assert_close(our_logits, their_logits, atol=TOLERANCE, rtol=0)
