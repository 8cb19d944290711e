"""Which tokens may come next in one sequence whose output is held to a format.

A `Constraint` puts together what the format's matcher says and what the request does: tokens that end a reply, also its
own `stop_token_ids`, are allowed when the output may end, not with `ignore_eos` and not before `min_tokens`; and
`allowed_token_ids` hold too. Owned by the sequence, so it survives preemptions. May not import backends.
"""

from collections.abc import Iterable
from collections.abc import Set as AbstractSet

from pagemill.errors import StructuredOutputError
from pagemill.generation import SamplingParams, TokenMatcher


class Constraint:
    """See the module. `allowed` is the mask for the next token, as `TokenMatcher.allowed` has it; None: the output is
    complete, and nothing can follow.

    Raises:
        StructuredOutputError: no token can come next, though the output is not complete.
    """

    __slots__ = ("_allowed_ids", "_end_ids", "_eos_ids", "_matcher", "_min_tokens", "allowed")

    def __init__(self, matcher: TokenMatcher, sampling: SamplingParams, eos_token_ids: AbstractSet[int]) -> None:
        self._matcher = matcher
        self._eos_ids = tuple(eos_token_ids)
        self._end_ids = tuple(sampling.end_token_ids(eos_token_ids))
        self._allowed_ids = sampling.allowed_token_ids
        self._min_tokens = sampling.min_tokens
        self.allowed: bytes | None = self._mask(0)

    def advance(self, token_id: int, num_output_tokens: int) -> None:
        """Go on by a sampled token that does not end the reply. Mutates `allowed`."""
        self._matcher.advance(token_id)
        self.allowed = self._mask(num_output_tokens)

    def _mask(self, num_output_tokens: int) -> bytes | None:
        mask, may_end = self._matcher.allowed(), self._matcher.may_end
        if may_end:
            mask = _without(mask, self._eos_ids)
            if _is_empty(mask):
                return None
            if num_output_tokens >= self._min_tokens:
                mask = _with(mask, self._end_ids)
        if self._allowed_ids is not None:
            mask = _only(mask, self._allowed_ids)
        if not _is_empty(mask):
            return mask
        if may_end:
            return None
        raise StructuredOutputError("no token that may be sampled continues the output in its format")


def _is_empty(mask: bytes) -> bool:
    return mask == bytes(len(mask))


def _without(mask: bytes, token_ids: Iterable[int]) -> bytes:
    changed = bytearray(mask)
    for token_id in token_ids:
        changed[token_id >> 3] &= ~(1 << (token_id & 7))
    return bytes(changed)


def _with(mask: bytes, token_ids: Iterable[int]) -> bytes:
    changed = bytearray(mask)
    for token_id in token_ids:
        changed[token_id >> 3] |= 1 << (token_id & 7)
    return bytes(changed)


def _only(mask: bytes, token_ids: Iterable[int]) -> bytes:
    return _with(bytes(len(mask)), (token_id for token_id in token_ids if mask[token_id >> 3] >> (token_id & 7) & 1))
