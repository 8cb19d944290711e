"""Changes to the logits of a batch that do not depend on what was said: bias, allowed tokens, `min_tokens`.

`Adjustments` owns the device's copy of them, for the rows of one batch: it is used as long as the batch stays the same.
"""

from collections.abc import Iterable
from collections.abc import Sequence as ReadOnlySequence

import torch
from torch import Tensor

from pagemill.backends.paged.sampling.transfer import to_device
from pagemill.generation import SamplingParams


class Adjustments:
    """Those of a batch of rows. `banned` has the tokens that may not come now, by row."""

    def __init__(
        self,
        samplings: ReadOnlySequence[SamplingParams],
        banned: Iterable[tuple[int, ReadOnlySequence[int]]],
        vocab_size: int,
        device: torch.device,
    ) -> None:
        biases: dict[int, float] = {}
        allowed: list[int] = []
        allowed_rows: list[int] = []
        for row, sampling in enumerate(samplings):
            for token_id, bias in sampling.logit_bias:
                place = row * vocab_size + token_id
                biases[place] = biases.get(place, 0.0) + bias
            if sampling.allowed_token_ids is not None:
                allowed_rows.append(row)
                allowed.extend(row * vocab_size + token_id for token_id in sampling.allowed_token_ids)
        bans = [row * vocab_size + token_id for row, token_ids in banned for token_id in token_ids]
        self._biased = _places(list(biases), device)
        self._biases = to_device(list(biases.values()), torch.float32, device)
        self._allowed_rows = _places(allowed_rows, device)
        self._allowed = _places(allowed, device)
        self._banned = _places(bans, device)

    def apply(self, logits: Tensor) -> None:
        """Change `[num_rows, vocab_size]`, contiguous, in place."""
        flat = logits.view(-1)
        if len(self._biased):
            flat.index_add_(0, self._biased, self._biases)
        if len(self._allowed_rows):
            kept = flat[self._allowed]
            logits.index_fill_(0, self._allowed_rows, -torch.inf)
            flat[self._allowed] = kept
        if len(self._banned):
            flat.index_fill_(0, self._banned, -torch.inf)


def _places(indices: list[int], device: torch.device) -> Tensor:
    return to_device(indices, torch.int64, device)
