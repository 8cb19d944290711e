"""What transformers answers, for models that are compared with it."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

LENGTHS = (1, 7, 16, 33, 50, 64, 75, 90)


def random_texts(vocab_size: int, lengths: Sequence[int] = LENGTHS) -> list[list[int]]:
    """Always the same."""
    random = torch.Generator().manual_seed(1)
    return [torch.randint(0, vocab_size, (length,), generator=random).tolist() for length in lengths]


def expected_logits(module: Any, texts: Sequence[Sequence[int]]) -> list[Tensor]:
    """Each text's, `[num_tokens, vocab_size]`. Padded at the end, where no token of a causal model sees it."""
    width = max(map(len, texts))
    padded = torch.tensor([[*text, *([0] * (width - len(text)))] for text in texts])
    with torch.inference_mode():
        logits = module(padded, use_cache=False).logits
    return [rows[: len(text)] for rows, text in zip(logits, texts, strict=True)]


def expected_answers(module: Any, prompts: Sequence[Sequence[int]], num_tokens: int) -> list[list[int]]:
    """Greedy continuations, by `generate` on all prompts in one batch. None ends early."""
    width = max(map(len, prompts))
    padded = torch.tensor([[*([0] * (width - len(prompt))), *prompt] for prompt in prompts])
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    module.generation_config.eos_token_id = None
    with torch.inference_mode():
        output = module.generate(padded, attention_mask=mask, do_sample=False, max_new_tokens=num_tokens)
    answers: list[list[int]] = output[:, width:].tolist()
    return answers
