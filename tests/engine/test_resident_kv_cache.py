"""The resident cache's laws, held against simulated slots that do what llama.cpp would be told to do."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pagemill.engine.resident_kv_cache import MIN_COPY_TOKENS, ResidentKVCache
from pagemill.engine.step import CopyKV, TruncateKV


class ResidentCacheMachine(RuleBasedStateMachine):
    """Random sequences with common prefixes come, compute, generate and go; `memory` is what each slot really holds."""

    @initialize(can_truncate=st.booleans(), can_truncate_restored=st.booleans())
    def start(self, can_truncate: bool, can_truncate_restored: bool) -> None:
        self.can_truncate = can_truncate
        self.can_truncate_restored = can_truncate_restored
        self.cache = ResidentKVCache(3, 64, can_truncate=can_truncate, can_truncate_restored=can_truncate_restored)
        self.memory: list[list[int]] = [[], [], []]
        self.kept = [0, 0, 0]  # tokens below which a restored slot has holes
        self.tokens: dict[int, list[int]] = {}
        self.computed: dict[int, int] = {}
        self.next_id = 0

    @rule(prefix=st.integers(0, 40), tail=st.lists(st.integers(0, 1), min_size=1, max_size=8), reuse=st.booleans())
    def admit(self, prefix: int, tail: list[int], reuse: bool) -> None:
        sequence_id, self.next_id = self.next_id, self.next_id + 1
        tokens = [7] * prefix + tail
        admission = self.cache.admit(sequence_id, tokens, len(tokens), reuse=reuse)
        if admission is None:
            assert len(self.tokens) == 3
            return
        assert reuse or admission.num_cached == 0
        assert admission.num_cached < len(tokens)
        for operation in admission.operations:
            if isinstance(operation, CopyKV):
                assert self.can_truncate
                assert operation.num_tokens >= self.kept[operation.source]
                self.memory[operation.destination] = self.memory[operation.source][: operation.num_tokens]
                self.kept[operation.destination] = self.kept[operation.source]
            elif isinstance(operation, TruncateKV):
                assert operation.num_tokens == 0 or (
                    self.can_truncate and operation.num_tokens >= self.kept[operation.slot]
                )
                del self.memory[operation.slot][operation.num_tokens :]
                self.kept[operation.slot] *= operation.num_tokens > 0
        self.tokens[sequence_id], self.computed[sequence_id] = tokens, admission.num_cached
        assert self.memory[self.cache.placement(sequence_id)[0]] == tokens[: admission.num_cached]

    @rule(prefix=st.integers(0, 40), tail=st.lists(st.integers(0, 1), min_size=1, max_size=8), loads=st.booleans())
    def restore(self, prefix: int, tail: list[int], loads: bool) -> None:
        sequence_id, self.next_id = self.next_id, self.next_id + 1
        tokens = [7] * prefix + tail
        before = self.cache.stats()
        if not self.cache.restore(sequence_id, tokens):
            assert self.cache.stats() == before
            return
        assert self.cache.stats().cached_tokens == before.cached_tokens
        slot = self.cache.placement(sequence_id)[0]
        self.memory[slot] = list(tokens) if loads else [99]
        self.kept[slot] = 0 if self.can_truncate_restored else len(tokens)
        if loads:
            self.cache.commit(sequence_id, len(tokens))
        self.cache.release(sequence_id, forget=not loads)

    @precondition(lambda self: self.tokens)
    @rule(data=st.data(), num_new=st.integers(1, 30))
    def compute(self, data: st.DataObject, num_new: int) -> None:
        sequence_id = data.draw(st.sampled_from(sorted(self.tokens)))
        tokens, start = self.tokens[sequence_id], self.computed[sequence_id]
        end = min(start + num_new, len(tokens))
        assert self.cache.extend(sequence_id, end)
        self.memory[self.cache.placement(sequence_id)[0]] += tokens[start:end]
        self.computed[sequence_id] = end
        self.cache.commit(sequence_id, end)
        if end == len(tokens) < 60:
            tokens.append(data.draw(st.integers(0, 1)))

    @precondition(lambda self: self.tokens)
    @rule(data=st.data(), forget=st.booleans())
    def release(self, data: st.DataObject, forget: bool) -> None:
        sequence_id = data.draw(st.sampled_from(sorted(self.tokens)))
        if forget:  # a failed step leaves anything behind
            self.memory[self.cache.placement(sequence_id)[0]].append(99)
        self.cache.release(sequence_id, forget=forget)
        del self.tokens[sequence_id], self.computed[sequence_id]

    @invariant()
    def laws_hold(self) -> None:
        self.cache.check_integrity()

    @invariant()
    def every_slot_holds_its_sequence(self) -> None:
        for sequence_id, tokens in self.tokens.items():
            slot = self.cache.placement(sequence_id)[0]
            assert self.memory[slot] == tokens[: self.computed[sequence_id]]


ResidentCacheMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestResidentCache = ResidentCacheMachine.TestCase


def run(cache: ResidentKVCache, sequence_id: int, tokens: list[int]) -> int:
    """Admit, compute and end a sequence; returns how many tokens were cached."""
    admission = cache.admit(sequence_id, tokens, len(tokens))
    assert admission is not None
    cache.commit(sequence_id, len(tokens))
    cache.release(sequence_id)
    return admission.num_cached


def test_a_conversation_continues_in_its_own_slot() -> None:
    cache = ResidentKVCache(2, 256)
    run(cache, 0, [1] * 50)
    admission = cache.admit(1, [1] * 50 + [2] * 10, 60)
    assert admission is not None
    assert admission.num_cached == 50
    assert admission.operations == ()
    assert cache.placement(1) == (0,)


def test_a_long_conversation_is_copied_rather_than_cut_when_a_slot_is_empty() -> None:
    cache = ResidentKVCache(2, 256)
    run(cache, 0, [1] * 40 + [2] * 100)
    admission = cache.admit(1, [1] * 40 + [3] * 5, 45)
    assert admission is not None
    assert admission.operations == (CopyKV(source=0, destination=1, num_tokens=40),)
    assert cache.match([1] * 40 + [2] * 100 + [4]).num_cached == 140


def test_a_prefix_is_copied_from_a_running_sequence() -> None:
    cache = ResidentKVCache(2, 256)
    cache.admit(0, [1] * 50, 50)
    cache.commit(0, 32)
    match = cache.match([1] * 50 + [2])
    assert (match.num_cached, match.num_pending) == (32, 50)
    admission = cache.admit(1, [1] * 50 + [2], 51)
    assert admission is not None
    assert admission.operations == (CopyKV(source=0, destination=1, num_tokens=32),)


def test_a_short_prefix_is_not_worth_a_copy() -> None:
    cache = ResidentKVCache(2, 256)
    cache.admit(0, [1] * 50, 50)
    cache.commit(0, 50)
    short = [1] * (MIN_COPY_TOKENS - 1) + [2]
    admission = cache.admit(1, short, len(short))
    assert admission is not None
    assert admission.num_cached == 0


def test_a_sequence_starts_beside_the_running_ones_and_what_was_there_moves() -> None:
    cache = ResidentKVCache(4, 100)
    conversations = [[index] * 30 for index in range(4)]
    for index, tokens in enumerate(conversations):
        assert cache.admit(index, tokens, 30) is not None
        cache.commit(index, 30)
    cache.release(1)
    cache.release(3)
    cache.release(2)
    admission = cache.admit(4, [9] * 30, 30)  # slot 1 is the least recently used, 0 runs: it is beside already
    assert admission is not None
    assert admission.operations == (TruncateKV(1, 0),)
    admission = cache.admit(5, [8] * 30, 30)  # slot 3 is the next least recently used, and 2 is beside
    assert admission is not None
    assert admission.operations == (CopyKV(2, 3, 30), TruncateKV(2, 0))
    assert cache.placement(5) == (2,)
    cache.check_integrity()
    assert cache.match([*conversations[2], 5]).num_cached == 30  # now in slot 3
    assert cache.match([*conversations[3], 5]).num_cached == 0


def test_no_idle_slot_means_no_admission() -> None:
    cache = ResidentKVCache(1, 16)
    cache.admit(0, [1, 2], 2)
    assert cache.admit(1, [1, 2], 2) is None


def test_without_prefix_caching_nothing_is_reused() -> None:
    cache = ResidentKVCache(1, 64, enable_prefix_caching=False)
    run(cache, 0, [1] * 30)
    assert run(cache, 1, [1] * 31) == 0


def restore(cache: ResidentKVCache, sequence_id: int, tokens: list[int]) -> None:
    assert cache.restore(sequence_id, tokens)
    cache.commit(sequence_id, len(tokens))
    cache.release(sequence_id)


def test_a_restored_prefix_serves_all_who_come_at_once() -> None:
    cache = ResidentKVCache(3, 64)
    restore(cache, 0, [1] * 30)
    assert cache.stats().cached_tokens == 30
    admissions = [cache.admit(index, [1] * 30 + [index + 2], 31) for index in (1, 2, 3)]
    assert [admission and admission.num_cached for admission in admissions] == [30, 30, 30]
    assert [admission and admission.operations for admission in admissions] == [
        (),
        (CopyKV(0, 1, 30),),
        (CopyKV(1, 2, 30),),
    ]


def test_a_prefix_is_restored_into_an_empty_slot_only() -> None:
    cache = ResidentKVCache(2, 64)
    restore(cache, 0, [1] * 30)
    restore(cache, 1, [2] * 30)
    assert not cache.restore(2, [3] * 30)
    assert cache.match([1] * 31).num_cached == 30


def test_a_prefix_longer_than_a_slot_is_not_restored() -> None:
    assert not ResidentKVCache(2, 64).restore(0, [1] * 65)


def test_a_restored_prefix_that_has_holes_is_used_whole_or_not_at_all() -> None:
    cache = ResidentKVCache(2, 64, can_truncate_restored=False)
    restore(cache, 0, [1] * 30)
    assert cache.match([1] * 29 + [2, 2]).num_cached == 0
    assert run(cache, 1, [1] * 30 + [2] * 5) == 30
    assert cache.match([1] * 30 + [2, 2, 3]).num_cached == 32  # what came after it is whole
    assert cache.match([1] * 29 + [3, 3]).num_cached == 0
