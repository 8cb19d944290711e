"""The protocol between the scheduler and whatever keeps keys and values: pages of the paged backend, whole sequences of
llama.cpp. Only bookkeeping: it decides where KV lives and what can be reused; the backend moves the bytes.

Laws, checked by `check_integrity` after every step in tests:
- free + cached + used = total;
- reference counts equal what the sequences' placements say;
- a released sequence owns nothing (what it computed may stay cached, for others to reuse).

One scheduler owns a KVCache; nothing else may call it.
"""

from collections.abc import Sequence as ReadOnlySequence
from typing import NamedTuple, Protocol

from pagemill.engine.step import KVOperation


class PrefixMatch(NamedTuple):
    """How much of a sequence's tokens need not be computed. At least one token is always left to compute.

    `num_cached` could be reused now. `num_pending` (>= num_cached) could be, once what the running sequences are
    computing is done: a scheduler may let the sequence wait for it rather than compute it twice.
    """

    num_cached: int
    num_pending: int


class Admission(NamedTuple):
    """A sequence has been given room: `num_cached` of its tokens are there once `operations` have run."""

    num_cached: int
    operations: tuple[KVOperation, ...] = ()


class KVCacheStats(NamedTuple):
    """Units are tokens. total = free + cached + used; `used` counts room that sequences own, filled or not; `unfilled`
    is the part of it that holds nothing.
    """

    total_tokens: int
    free_tokens: int
    cached_tokens: int
    used_tokens: int
    unfilled_tokens: int


class KVCache(Protocol):
    """Room for the keys and values of many sequences. See the module's laws."""

    def match(self, token_ids: ReadOnlySequence[int]) -> PrefixMatch:
        """How long a prefix of these tokens is cached or being computed. Mutates nothing."""
        ...

    def admit(
        self, sequence_id: int, token_ids: ReadOnlySequence[int], num_new_tokens: int, *, reuse: bool = True
    ) -> Admission | None:
        """Give a new (or preempted) sequence the longest cached prefix of `token_ids` and room for up to
        `num_new_tokens` of those after it. None, and nothing changed, if there is no room now. Without
        `reuse` it starts from nothing.

        `token_ids` is the sequence's own list: it may be kept, and grows as the sequence does, but never changes.
        """
        ...

    def restore(self, sequence_id: int, token_ids: ReadOnlySequence[int]) -> bool:
        """Give room to a prefix whose KV comes from outside, as to a sequence, without taking any from what is cached.
        False, and nothing changed, if there is no such room. `commit` once the KV is there, and then `release`, leave
        the prefix as cache, for others to reuse and, in its turn, to evict.
        """
        ...

    def extend(self, sequence_id: int, num_tokens: int) -> bool:
        """Make sure there is room for the sequence's first `num_tokens`. False, and nothing changed, if there is none.

        Room that was given is kept until `release`.
        """
        ...

    def commit(self, sequence_id: int, num_computed: int) -> None:
        """The KV of the sequence's first `num_computed` tokens is computed, and may be reused."""
        ...

    def release(self, sequence_id: int, *, forget: bool = False) -> None:
        """The sequence ended or is preempted. What it committed may stay as cache, unless `forget` says that it
        can't be trusted (the step failed); all else is free.
        """
        ...

    def placement(self, sequence_id: int) -> tuple[int, ...]:
        """Where the sequence's KV lives: block ids in order of position, or the one slot."""
        ...

    @property
    def max_sequence_tokens(self) -> int:
        """The longest sequence that fits when it is alone."""
        ...

    def stats(self) -> KVCacheStats:
        """The present counts."""
        ...

    def check_integrity(self) -> None:
        """Raises AssertionError if a law is broken."""
        ...
