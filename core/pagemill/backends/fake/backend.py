"""A scripted backend: no model, no memory, exact control. For tests and load tests of every room above it.

Its tokenizer is bytes with a few special tokens. What a sequence says is a function of its prompt; the distribution
around that script (or without one) is a fixed pseudo-random one, a function of the context's length and last tokens, so
sampling, penalties, logprobs, seeds and context shifts behave as with a model. It checks every plan against the laws of
a step and fails loudly. May not import another backend or anything heavy.
"""

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pagemill.backends.base import ModelInfo, StepInFlight
from pagemill.backends.fake.distribution import (
    SequenceState,
    adjusted,
    choose,
    hashed_logits,
    is_plain,
    raw_logits,
    token_logprobs,
)
from pagemill.backends.fake.tokenizer import EOS, VOCAB_SIZE, FakeTokenizer
from pagemill.engine.block_kv_cache import BlockKVCache
from pagemill.engine.kv_cache import KVCache
from pagemill.engine.resident_kv_cache import ResidentKVCache
from pagemill.engine.step import (
    CopyKV,
    PromptLogprobs,
    SampledToken,
    SequenceChunk,
    SequenceStart,
    StepPlan,
    StepResult,
)
from pagemill.errors import BackendError

BLOCK_SIZE = 16

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
DEFAULT_REPLY = (*b"The quick brown fox jumps over the lazy dog.", EOS)


@dataclass(frozen=True, slots=True)
class EndedStep:
    """What a launched step gave, or how it failed."""

    outcome: StepResult | None
    error: BackendError | None

    def result(self) -> StepResult:
        if self.outcome is None:
            raise self.error or BackendError("a step without a result")
        return self.outcome


class FakeBackend:
    """See the module. `reply` gives all that a sequence wants to say, from its prompt; after it comes EOS for ever.
    None for no script: the sequence follows the pseudo-random distribution alone.

    `step_delay_s` is how long a step takes. `fail_on` raises a BackendError for plans of which it returns a reason.
    `check_plans` off leaves the checks out, for load tests that time what stands above a backend. `pipelined` has the
    next step launched before this one's result is taken. `infill` gives it the tokens for filling in the middle.
    """

    def __init__(
        self,
        *,
        reply: Callable[[tuple[int, ...]], Sequence[int] | None] | None = None,
        max_model_len: int = 4096,
        max_num_seqs: int = 64,
        max_num_batched_tokens: int = 2048,
        step_delay_s: float = 0.0,
        kv: Literal["block", "resident"] = "block",
        num_blocks: int | None = None,
        chat_template: str | None = CHATML,
        fail_on: Callable[[StepPlan], str | None] | None = None,
        check_plans: bool = True,
        pipelined: bool = False,
        infill: bool = False,
    ) -> None:
        self.pipelined = pipelined
        self.tokenizer = FakeTokenizer(infill=infill)
        self.max_model_len = max_model_len
        self.max_num_seqs = max_num_seqs
        self.max_num_batched_tokens = max_num_batched_tokens
        self.closed = False
        self._reply = reply or (lambda prompt: DEFAULT_REPLY)
        self._step_delay_s = step_delay_s
        self._kv = kv
        self._num_blocks = num_blocks or max_num_seqs * -(-max_model_len // BLOCK_SIZE)
        self._fail_on = fail_on
        self._check_plans = check_plans
        self._states: dict[int, SequenceState] = {}
        self._resident: dict[int, int] = {}  # tokens held, by slot
        self.info = ModelInfo(
            architecture="fake",
            num_parameters=0,
            quantization="none",
            format="fake",
            size_bytes=0,
            memory_bytes=0,
            vocab_size=VOCAB_SIZE,
            context_length=max_model_len,
            embedding_length=0,
            chat_template=chat_template,
        )

    @property
    def num_sequences(self) -> int:
        """Sequences that the backend was told of and that have not ended."""
        return len(self._states)

    def new_kv_cache(self, *, enable_prefix_caching: bool = True) -> KVCache:
        if self._kv == "resident":
            return ResidentKVCache(self.max_num_seqs, self.max_model_len, enable_prefix_caching=enable_prefix_caching)
        return BlockKVCache(self._num_blocks, BLOCK_SIZE, enable_prefix_caching=enable_prefix_caching)

    def kv_identity(self) -> Mapping[str, str | int]:
        return {"layout": self._kv, "block_size": BLOCK_SIZE}

    def save_kv(self, placement: tuple[int, ...], num_tokens: int) -> memoryview:
        assert self._kv == "block" or self._resident[placement[0]] == num_tokens, "saved KV that is not there"
        return memoryview(_saved_kv(num_tokens))

    def load_kv(self, placement: tuple[int, ...], num_tokens: int, data: memoryview) -> None:
        if data != _saved_kv(num_tokens):
            raise BackendError(f"this is not the KV of {num_tokens} tokens")
        if self._kv == "resident":
            self._resident[placement[0]] = num_tokens

    def execute(self, plan: StepPlan) -> StepResult:
        assert not self.closed, "a closed backend was asked to run"
        for sequence_id in plan.ended:
            del self._states[sequence_id]
        for start in plan.started:
            assert start.sequence_id not in self._states, f"sequence {start.sequence_id} started twice"
            self._states[start.sequence_id] = self._new_state(start)
        for shift in plan.shifted:
            del self._states[shift.sequence_id].context[shift.num_kept : shift.num_kept + shift.num_dropped]
        reason = self._fail_on(plan) if self._fail_on else None
        if reason is not None:
            raise BackendError(reason)
        if self._kv == "resident":
            self._move_kv(plan)
        if self._check_plans:
            self._check(plan)
        if self._step_delay_s and plan.chunks:
            time.sleep(self._step_delay_s)
        return StepResult(
            sampled=tuple(self._sample(chunk) for chunk in plan.chunks if chunk.sample),
            prompt_logprobs=tuple(self._prompt_logprobs(chunk) for chunk in plan.chunks if chunk.prompt_logprobs),
        )

    def launch(self, plan: StepPlan) -> StepInFlight:
        """A device runs steps in the order of their launches: so this one runs now, and is looked at later."""
        try:
            return EndedStep(self.execute(plan), None)
        except BackendError as error:
            return EndedStep(None, error)

    def close(self) -> None:
        self.closed = True

    def _new_state(self, start: SequenceStart) -> SequenceState:
        prompt = start.prompt_token_ids
        return SequenceState(prompt, start.sampling, self._reply(prompt), random.Random(start.sampling.seed))

    def _move_kv(self, plan: StepPlan) -> None:
        for operation in plan.kv_operations:
            if isinstance(operation, CopyKV):
                assert self._resident.get(operation.source, 0) >= operation.num_tokens, "copied KV that is not there"
                self._resident[operation.destination] = operation.num_tokens
            else:
                assert self._resident.get(operation.slot, 0) >= operation.num_tokens, "kept KV that is not there"
                self._resident[operation.slot] = operation.num_tokens
        for chunk in plan.chunks:
            slot = chunk.placement[0]
            assert self._resident.get(slot, 0) == chunk.start, f"slot {slot} does not end where the chunk starts"
            self._resident[slot] = chunk.start + len(chunk.token_ids)

    def _check(self, plan: StepPlan) -> None:
        assert sum(chunk.num_tokens for chunk in plan.chunks) == plan.num_tokens <= self.max_num_batched_tokens
        assert len(plan.chunks) <= self.max_num_seqs
        for chunk in plan.chunks:
            state = self._states[chunk.sequence_id]
            end = chunk.start + chunk.num_tokens
            known = not chunk.follows
            own = state.context[chunk.start : end]
            assert own == list(chunk.token_ids) or not known, "not the sequence's own tokens"
            assert known or (self.pipelined and chunk.token_ids == [] and chunk.sample), "only a decode may follow"
            assert chunk.sample == (end == len(state.context)), "only the last token gives the next"
            assert chunk.allowed is None or (chunk.sample and known), "a format's tokens depend on all that was said"
            assert self._kv == "resident" or len(chunk.placement) * BLOCK_SIZE >= end, "no room for the chunk's KV"

    def _sample(self, chunk: SequenceChunk) -> SampledToken:
        state = self._states[chunk.sequence_id]
        sampling = state.sampling
        wanted = self._wanted(state)
        logprobs = None
        if wanted is not None and chunk.allowed is None and is_plain(sampling):
            token_id = wanted
        else:
            token_id = choose(adjusted(raw_logits(state, wanted), state, chunk.allowed), state)
        if sampling.logprobs is not None:
            logprobs = token_logprobs(raw_logits(state, wanted), token_id, sampling.logprobs)
        state.say(token_id)
        return SampledToken(chunk.sequence_id, token_id, logprobs)

    def _wanted(self, state: SequenceState) -> int | None:
        if state.script is None:
            return None
        position = len(state.outputs)
        return state.script[position] if position < len(state.script) else EOS

    def _prompt_logprobs(self, chunk: SequenceChunk) -> PromptLogprobs:
        state = self._states[chunk.sequence_id]
        end = min(chunk.start + len(chunk.token_ids), len(state.prompt) - 1)
        count = state.sampling.prompt_logprobs or 0
        entries = tuple(
            token_logprobs(hashed_logits(state.prompt[: i + 1]), state.prompt[i + 1], count)
            for i in range(chunk.start, end)
        )
        return PromptLogprobs(chunk.sequence_id, chunk.start, entries)


def _saved_kv(num_tokens: int) -> bytes:
    """What stands for the KV of so many tokens."""
    return f"the KV of {num_tokens} tokens".encode()
