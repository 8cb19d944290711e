"""KV kept as whole sequences, one to a slot, found again by longest common prefix: how llama.cpp keeps it.

A slot is a stream of llama.cpp's context with room for `slot_tokens` tokens. It is either used (a running sequence owns
it) or idle; an idle one keeps what its last sequence computed until somebody needs the room. A new sequence takes the
longest common prefix from any slot: in place, by truncating an idle slot, or by copying from a slot that is running or
worth keeping. Between these it takes the way that forgets fewer tokens.

llama.cpp computes running sequences in neighbouring slots in one pass over the weights, and each gap costs a pass more.
So a sequence that does not continue in place starts beside the running ones; what an idle slot there remembers moves to
the slot that would have been overwritten.

total = free + cached + used: a used slot counts whole, an idle one with what it remembers. Owned by one scheduler. May
not import backends.
"""

from collections.abc import Sequence as ReadOnlySequence
from dataclasses import dataclass

from pagemill.engine.common_prefix import common_prefix_length
from pagemill.engine.kv_cache import Admission, KVCacheStats, PrefixMatch
from pagemill.engine.step import CopyKV, KVOperation, TruncateKV

MIN_COPY_TOKENS = 16  # copying moves a whole stream; for less than this, computing again costs no more


@dataclass(slots=True)
class Slot:
    """One slot. `token_ids[:num_computed]` is what its KV holds; `[:num_promised]` is what the owner will compute."""

    index: int
    owner: int | None = None
    token_ids: ReadOnlySequence[int] = ()
    num_computed: int = 0
    num_promised: int = 0
    num_kept: int = 0  # it can't be cut to fewer tokens, but for none
    last_used: int = 0  # the cache's clock when it was last released


class ResidentKVCache:
    """Bookkeeping for `num_slots` sequences of up to `slot_tokens` tokens.

    `can_truncate` says whether the memory can forget the tail of a sequence (attention can, recurrent states can't:
    they are reused only when nothing has to be forgotten, and never copied). `can_truncate_restored` says the same of
    a prefix that was restored: of layers with a sliding window only the end of it is saved.
    """

    def __init__(
        self,
        num_slots: int,
        slot_tokens: int,
        *,
        can_truncate: bool = True,
        can_truncate_restored: bool = True,
        enable_prefix_caching: bool = True,
    ) -> None:
        self.num_slots = num_slots
        self.slot_tokens = self.max_sequence_tokens = slot_tokens
        self._can_truncate = can_truncate
        self._can_truncate_restored = can_truncate_restored
        self._enable_prefix_caching = enable_prefix_caching
        self._slots = [Slot(index) for index in range(num_slots)]
        self._slot_of: dict[int, Slot] = {}  # by sequence
        self._clock = 0

    def match(self, token_ids: ReadOnlySequence[int]) -> PrefixMatch:
        _source, num_cached = self._best_source(token_ids)
        num_pending = num_cached
        if self._enable_prefix_caching and self._can_truncate:
            for slot in self._slots:
                if slot.owner is not None:
                    num_pending = max(num_pending, self._reusable(slot, token_ids, slot.num_promised))
        return PrefixMatch(num_cached, num_pending)

    def admit(
        self, sequence_id: int, token_ids: ReadOnlySequence[int], num_new_tokens: int, *, reuse: bool = True
    ) -> Admission | None:
        victim = self._least_valuable_idle()
        if victim is None:
            return None
        source, num_cached = self._best_source(token_ids) if reuse else (None, 0)
        operations: list[KVOperation] = []
        copy = False
        if source is not None and self._in_place(source, victim, num_cached):
            destination = source
        else:
            destination = self._beside_running(victim)
            operations += self._move(destination, victim)
            if source is None or num_cached < MIN_COPY_TOKENS or not self._can_truncate:
                num_cached = 0
            elif source is not destination:
                copy = True
                operations.append(CopyKV(source.index, destination.index, num_cached))
        if not copy and (num_cached == 0 or destination.num_computed > num_cached):
            operations.append(TruncateKV(destination.index, num_cached))
        num_kept = source.num_kept if source is not None and num_cached > 0 else 0
        self._give(destination, sequence_id, token_ids, num_cached, num_kept)
        return Admission(num_cached, tuple(operations))

    def restore(self, sequence_id: int, token_ids: ReadOnlySequence[int]) -> bool:
        slot = self._least_valuable_idle()
        if slot is None or slot.num_computed > 0 or len(token_ids) > self.slot_tokens:
            return False
        self._give(slot, sequence_id, token_ids, 0, 0 if self._can_truncate_restored else len(token_ids))
        return True

    def extend(self, sequence_id: int, num_tokens: int) -> bool:
        return num_tokens <= self.slot_tokens

    def commit(self, sequence_id: int, num_computed: int) -> None:
        self._slot_of[sequence_id].num_computed = num_computed

    def release(self, sequence_id: int, *, forget: bool = False) -> None:
        slot = self._slot_of.pop(sequence_id)
        self._clock += 1
        slot.owner = None
        if forget:
            slot.num_computed = slot.num_kept = 0
        slot.token_ids = tuple(slot.token_ids[: slot.num_computed])
        slot.num_promised = 0
        slot.last_used = self._clock

    def placement(self, sequence_id: int) -> tuple[int, ...]:
        return (self._slot_of[sequence_id].index,)

    def stats(self) -> KVCacheStats:
        total = self.num_slots * self.slot_tokens
        used = len(self._slot_of) * self.slot_tokens
        cached = sum(slot.num_computed for slot in self._slots if slot.owner is None)
        return KVCacheStats(
            total_tokens=total,
            free_tokens=total - used - cached,
            cached_tokens=cached,
            used_tokens=used,
            unfilled_tokens=used - sum(slot.num_computed for slot in self._slot_of.values()),
        )

    def check_integrity(self) -> None:
        owners = {slot.owner: slot for slot in self._slots if slot.owner is not None}
        assert owners == self._slot_of, "slots and sequences disagree about who owns what"
        for slot in self._slots:
            assert 0 <= slot.num_computed <= self.slot_tokens, f"slot {slot.index} holds more than it can"
            assert slot.num_computed <= len(slot.token_ids), f"slot {slot.index} computed tokens that nobody has"
            assert slot.num_kept <= len(slot.token_ids), f"slot {slot.index} keeps tokens that nobody has"
            if slot.owner is None:
                assert len(slot.token_ids) == slot.num_computed, f"idle slot {slot.index} remembers uncomputed tokens"
        stats = self.stats()
        assert stats.free_tokens + stats.cached_tokens + stats.used_tokens == stats.total_tokens
        assert min(stats.free_tokens, stats.cached_tokens, stats.used_tokens) >= 0

    def _give(
        self, slot: Slot, sequence_id: int, token_ids: ReadOnlySequence[int], num_computed: int, num_kept: int
    ) -> None:
        slot.owner = sequence_id
        slot.token_ids = token_ids
        slot.num_computed = num_computed
        slot.num_promised = len(token_ids)
        slot.num_kept = num_kept
        self._slot_of[sequence_id] = slot

    def _least_valuable_idle(self) -> Slot | None:
        """The idle slot to overwrite: an empty one, the lowest first, else the least recently used."""
        idle = [slot for slot in self._slots if slot.owner is None]
        return min(idle, key=lambda slot: (slot.num_computed > 0, slot.last_used, slot.index), default=None)

    def _beside_running(self, victim: Slot) -> Slot:
        """The idle slot with the most running neighbours; of equal ones the victim, which costs no move."""

        def rank(slot: Slot) -> tuple[int, bool, bool, int, int]:
            beside = (slot.index - 1, slot.index + 1)
            num_running = sum(self._slots[i].owner is not None for i in beside if 0 <= i < self.num_slots)
            return (-num_running, slot is not victim, self._worth_moving(slot), slot.last_used, slot.index)

        # A recurrent state is never copied, so nor is it moved.
        candidates = (
            slot
            for slot in self._slots
            if slot.owner is None and (slot is victim or self._can_truncate or not self._worth_moving(slot))
        )
        return min(candidates, key=rank)

    def _move(self, slot: Slot, victim: Slot) -> list[KVOperation]:
        """Let the victim remember what `slot` does, whose content is then free to be overwritten."""
        if slot is victim or not self._worth_moving(slot):
            return []
        victim.token_ids, victim.num_computed, victim.last_used = slot.token_ids, slot.num_computed, slot.last_used
        victim.num_kept = slot.num_kept
        return [CopyKV(slot.index, victim.index, slot.num_computed)]

    def _worth_moving(self, slot: Slot) -> bool:
        return self._enable_prefix_caching and slot.num_computed >= MIN_COPY_TOKENS

    def _best_source(self, token_ids: ReadOnlySequence[int]) -> tuple[Slot | None, int]:
        """The slot with the longest usable prefix; of equal ones an idle one, then the least recently used."""
        best: tuple[int, bool, int, int] = (0, False, 0, 0)
        source: Slot | None = None
        if self._enable_prefix_caching:
            for slot in self._slots:
                length = self._reusable(slot, token_ids, slot.num_computed)
                rank = (length, slot.owner is None, -slot.last_used, -slot.index)
                if length > 0 and (source is None or rank > best):
                    source, best = slot, rank
        return source, best[0]

    def _reusable(self, slot: Slot, token_ids: ReadOnlySequence[int], num_held: int) -> int:
        """How many of the slot's first `num_held` tokens the new sequence could take. One token is left to compute."""
        length = common_prefix_length(slot.token_ids, token_ids, min(num_held, len(token_ids) - 1))
        if length < slot.num_kept:
            return 0
        if self._can_truncate or (length == num_held and slot.owner is None):
            return length
        return 0

    def _in_place(self, source: Slot, victim: Slot, num_cached: int) -> bool:
        """Whether to truncate the source rather than copy from it: what each way forgets decides."""
        if source.owner is not None:
            return False
        return source is victim or source.num_computed - num_cached <= victim.num_computed
