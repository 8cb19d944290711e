"""A scripted backend: no model, no memory, exact control. For tests and load tests of every room above it.

Its tokenizer is bytes with three special tokens. What a sequence says is a function of its prompt; the distribution
around that script (or without one) is a fixed pseudo-random one, a function of the last tokens, so sampling, penalties,
logprobs and seeds behave as with a model. It checks every plan against the laws of a step and fails loudly. May not
import another backend or anything heavy.
"""

import hashlib
import math
import random
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from pagemill.backends.base import ModelInfo
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
from pagemill.generation import SamplingParams, TokenLogprob, TokenLogprobs

BOS, EOS, IM_START = 256, 257, 258
SPECIAL_TOKENS = {BOS: "<|bos|>", EOS: "<|im_end|>", IM_START: "<|im_start|>"}
VOCAB_SIZE = 259
BLOCK_SIZE = 16
SCRIPT_LOGIT = 12.0  # of the token that the script says; others lie in [0, 8)

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
DEFAULT_REPLY = (*b"The quick brown fox jumps over the lazy dog.", EOS)


class FakeTokenizer:
    """One token a byte; special tokens by their names."""

    vocab_size = VOCAB_SIZE
    bos_token = SPECIAL_TOKENS[BOS]
    eos_token = SPECIAL_TOKENS[EOS]
    eos_token_ids = frozenset({EOS})

    def encode(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        token_ids = [BOS] if add_special else []
        while parse_special and text:
            found = min(
                ((text.find(name), token_id) for token_id, name in SPECIAL_TOKENS.items() if name in text), default=None
            )
            if found is None:
                break
            start, token_id = found
            token_ids += [*text[:start].encode(), token_id]
            text = text[start + len(SPECIAL_TOKENS[token_id]) :]
        return [*token_ids, *text.encode()]

    def token_bytes(self, token_id: int) -> bytes:
        return bytes([token_id]) if token_id < BOS else SPECIAL_TOKENS[token_id].encode()

    def is_special(self, token_id: int) -> bool:
        return token_id >= BOS


@dataclass(slots=True)
class _State:
    """What the backend keeps of a sequence between steps: what a sampler would."""

    prompt: tuple[int, ...]
    sampling: SamplingParams
    script: Sequence[int] | None
    random: random.Random
    outputs: list[int] = field(default_factory=list)

    @property
    def num_tokens(self) -> int:
        return len(self.prompt) + len(self.outputs)

    def tokens(self, start: int, end: int) -> list[int]:
        """Those at positions [start, end) of prompt and outputs; costs what it returns, not the whole sequence."""
        num_prompt = len(self.prompt)
        outputs = self.outputs[max(start - num_prompt, 0) : max(end - num_prompt, 0)]
        return [*self.prompt[start:end], *outputs]


class FakeBackend:
    """See the module. `reply` gives all that a sequence wants to say, from its prompt; after it comes EOS for ever.
    None for no script: the sequence follows the pseudo-random distribution alone.

    `step_delay_s` is how long a step takes. `fail_on` raises a BackendError for plans of which it returns a reason.
    `check_plans` off leaves the checks out, for load tests that time what stands above a backend.
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
    ) -> None:
        self.tokenizer = FakeTokenizer()
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
        self._states: dict[int, _State] = {}
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

    def execute(self, plan: StepPlan) -> StepResult:
        assert not self.closed, "a closed backend was asked to run"
        for sequence_id in plan.ended:
            del self._states[sequence_id]
        for start in plan.started:
            assert start.sequence_id not in self._states, f"sequence {start.sequence_id} started twice"
            self._states[start.sequence_id] = self._new_state(start)
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

    def close(self) -> None:
        self.closed = True

    def _new_state(self, start: SequenceStart) -> _State:
        prompt = start.prompt_token_ids
        return _State(prompt, start.sampling, self._reply(prompt), random.Random(start.sampling.seed))

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
        assert sum(len(chunk.token_ids) for chunk in plan.chunks) == plan.num_tokens <= self.max_num_batched_tokens
        assert len(plan.chunks) <= self.max_num_seqs
        for chunk in plan.chunks:
            state = self._states[chunk.sequence_id]
            end = chunk.start + len(chunk.token_ids)
            assert state.tokens(chunk.start, end) == list(chunk.token_ids), "the chunk's tokens are not its sequence's"
            assert chunk.sample == (end == state.num_tokens), "only the last token gives the next"
            assert self._kv == "resident" or len(chunk.placement) * BLOCK_SIZE >= end, "no room for the chunk's KV"

    def _sample(self, chunk: SequenceChunk) -> SampledToken:
        state = self._states[chunk.sequence_id]
        sampling = state.sampling
        wanted = self._wanted(state)
        logprobs = None
        if wanted is not None and _plain(sampling):
            token_id = wanted
        else:
            token_id = _choose(_adjusted(_logits(state, wanted), state), state)
        if sampling.logprobs is not None:
            logprobs = _token_logprobs(_logits(state, wanted), token_id, sampling.logprobs)
        state.outputs.append(token_id)
        return SampledToken(chunk.sequence_id, token_id, logprobs)

    def _wanted(self, state: _State) -> int | None:
        if state.script is None:
            return None
        position = len(state.outputs)
        return state.script[position] if position < len(state.script) else EOS

    def _prompt_logprobs(self, chunk: SequenceChunk) -> PromptLogprobs:
        state = self._states[chunk.sequence_id]
        end = min(chunk.start + len(chunk.token_ids), len(state.prompt) - 1)
        count = state.sampling.prompt_logprobs or 0
        entries = tuple(
            _token_logprobs(_hashed_logits(state.prompt[: i + 1]), state.prompt[i + 1], count)
            for i in range(chunk.start, end)
        )
        return PromptLogprobs(chunk.sequence_id, chunk.start, entries)


def _plain(sampling: SamplingParams) -> bool:
    """Whether the script's token wins without a look at the others."""
    adjusted = sampling.logit_bias or sampling.min_tokens or sampling.repetition_penalty != 1.0
    return sampling.greedy and not (adjusted or sampling.presence_penalty or sampling.frequency_penalty)


def _hashed_logits(tokens: Sequence[int]) -> list[float]:
    """A fixed pseudo-random logit in [0, 8) for every token of the vocabulary, by what stands before."""
    seed = hashlib.blake2b(repr(tuple(tokens[-8:])).encode(), digest_size=8).digest()
    source = random.Random(seed)
    return [source.random() * 8.0 for _ in range(VOCAB_SIZE)]


def _logits(state: _State, wanted: int | None) -> list[float]:
    logits = _hashed_logits([*state.prompt, *state.outputs])
    if wanted is not None:
        logits[wanted] = SCRIPT_LOGIT
    return logits


def _adjusted(logits: list[float], state: _State) -> list[float]:
    """Bias and penalties, as vLLM defines them; no end before `min_tokens`."""
    sampling = state.sampling
    for token_id, bias in sampling.logit_bias:
        logits[token_id] += bias
    window = [*state.prompt, *state.outputs]
    if sampling.penalty_last_n is not None:
        window = window[len(window) - min(sampling.penalty_last_n, len(window)) :]
    for token_id in set(window):
        value = logits[token_id]
        logits[token_id] = value / sampling.repetition_penalty if value > 0 else value * sampling.repetition_penalty
    for token_id, count in Counter(state.outputs).items():
        logits[token_id] -= sampling.presence_penalty + count * sampling.frequency_penalty
    if len(state.outputs) < sampling.min_tokens:
        for token_id in (EOS, *sampling.stop_token_ids):
            logits[token_id] = -math.inf
    return logits


def _choose(logits: list[float], state: _State) -> int:
    """Sample with temperature, top-k, typical, top-p and min-p, in llama.cpp's order."""
    sampling = state.sampling
    ranked = sorted(range(VOCAB_SIZE), key=lambda token_id: (-logits[token_id], token_id))
    if sampling.greedy:
        return ranked[0]
    if sampling.top_k:
        ranked = ranked[: sampling.top_k]
    if sampling.typical_p < 1.0:
        ranked = _typical(ranked, _softmax(logits, ranked), sampling.typical_p)
    probabilities = _softmax(logits, ranked)
    kept: list[int] = []
    total = 0.0
    for token_id in ranked:
        if kept and (total >= sampling.top_p or probabilities[token_id] < sampling.min_p * probabilities[ranked[0]]):
            break
        kept.append(token_id)
        total += probabilities[token_id]
    weights = _softmax([value / sampling.temperature for value in logits], kept)
    return state.random.choices(kept, [weights[token_id] for token_id in kept])[0]


def _typical(ranked: list[int], probabilities: Mapping[int, float], mass: float) -> list[int]:
    entropy = -sum(p * math.log(p) for p in probabilities.values() if p > 0)
    by_surprise = sorted(
        ranked, key=lambda t: abs(-math.log(probabilities[t]) - entropy) if probabilities[t] > 0 else math.inf
    )
    kept: list[int] = []
    total = 0.0
    for token_id in by_surprise:
        kept.append(token_id)
        total += probabilities[token_id]
        if total >= mass:
            break
    return sorted(kept, key=ranked.index)


def _softmax(logits: Sequence[float], token_ids: Sequence[int]) -> dict[int, float]:
    highest = max(logits[token_id] for token_id in token_ids)
    weights = {token_id: math.exp(logits[token_id] - highest) for token_id in token_ids}
    total = sum(weights.values())
    return {token_id: weight / total for token_id, weight in weights.items()}


def _token_logprobs(logits: Sequence[float], token_id: int, count: int) -> TokenLogprobs:
    highest = max(logits)
    normalizer = highest + math.log(sum(math.exp(value - highest) for value in logits))
    ranked = sorted(range(VOCAB_SIZE), key=lambda t: (-logits[t], t))[:count]
    top = tuple(TokenLogprob(t, logits[t] - normalizer) for t in ranked)
    return TokenLogprobs(token_id, logits[token_id] - normalizer, top)
