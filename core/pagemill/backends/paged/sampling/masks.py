"""Masks of allowed tokens, applied to the logits of a batch on the device. Owns no state.

They travel packed, a bit a token, in one copy for all rows; nothing waits for the device.
"""

from collections.abc import Sequence as ReadOnlySequence

import torch
from torch import Tensor

from pagemill.backends.paged.sampling.transfer import bytes_to_device, to_device


def keep_only(logits: Tensor, masks: ReadOnlySequence[bytes | None]) -> None:
    """Make all tokens impossible but those of each row's mask (`SequenceChunk.allowed`), where there is one. Changes
    `[num_rows, vocab_size]` in place.
    """
    rows = [row for row, mask in enumerate(masks) if mask is not None]
    if not rows:
        return
    packed = bytes_to_device(b"".join(mask for mask in masks if mask is not None), logits.device)
    banned = _unpacked(packed.view(len(rows), -1))[:, : logits.shape[1]] == 0
    if len(rows) == len(masks):
        logits.masked_fill_(banned, -torch.inf)
        return
    indices = to_device(rows, torch.int64, logits.device)
    logits.index_copy_(0, indices, logits.index_select(0, indices).masked_fill_(banned, -torch.inf))


def _unpacked(packed: Tensor) -> Tensor:
    """The bits `[num_rows, 8 * n]`, lowest first, of bytes `[num_rows, n]`."""
    bits = torch.arange(8, dtype=torch.uint8, device=packed.device)
    return (packed.unsqueeze(-1) >> bits & 1).flatten(1)
