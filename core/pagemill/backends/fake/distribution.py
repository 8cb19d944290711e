"""What the fake backend says: a script, and a pseudo-random distribution around it, sampled in plain Python.

`SequenceState` is what the backend keeps of a sequence between steps; its owner is the backend.
"""

import hashlib
import math
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pagemill.backends.fake.tokenizer import EOS, VOCAB_SIZE
from pagemill.generation import SamplingParams, TokenLogprob, TokenLogprobs

SCRIPT_LOGIT = 12.0  # of the token that the script says; others lie in [0, 8)


@dataclass(slots=True)
class SequenceState:
    """What the backend keeps of a sequence between steps: what a sampler would."""

    prompt: tuple[int, ...]
    sampling: SamplingParams
    script: Sequence[int] | None
    random: random.Random
    outputs: list[int] = field(default_factory=list)
    context: list[int] = field(init=False)  # prompt and outputs, but for what was dropped from it

    def __post_init__(self) -> None:
        self.context = list(self.prompt)

    def say(self, token_id: int) -> None:
        self.outputs.append(token_id)
        self.context.append(token_id)

    @property
    def num_tokens(self) -> int:
        return len(self.prompt) + len(self.outputs)

    def tokens(self, start: int, end: int) -> list[int]:
        """Those at positions [start, end) of prompt and outputs; costs what it returns, not the whole sequence."""
        num_prompt = len(self.prompt)
        outputs = self.outputs[max(start - num_prompt, 0) : max(end - num_prompt, 0)]
        return [*self.prompt[start:end], *outputs]


def is_plain(sampling: SamplingParams) -> bool:
    """Whether the script's token wins without a look at the others."""
    masked = sampling.allowed_token_ids is not None or sampling.min_tokens > 0
    return sampling.greedy and not (masked or sampling.logit_bias or sampling.has_penalties)


def hashed_logits(tokens: Sequence[int]) -> list[float]:
    """A fixed pseudo-random logit in [0, 8) for every token of the vocabulary, by what stands before."""
    seed = hashlib.blake2b(repr((len(tokens), *tokens[-8:])).encode(), digest_size=8).digest()
    source = random.Random(seed)
    return [source.random() * 8.0 for _ in range(VOCAB_SIZE)]


def raw_logits(state: SequenceState, wanted: int | None) -> list[float]:
    logits = hashed_logits(state.context)
    if wanted is not None:
        logits[wanted] = SCRIPT_LOGIT
    return logits


def adjusted(logits: list[float], state: SequenceState, mask: bytes | None) -> list[float]:
    """Bias and penalties, as vLLM defines them; only allowed tokens, also by the mask, no end before `min_tokens`."""
    sampling = state.sampling
    for token_id, bias in sampling.logit_bias:
        logits[token_id] += bias
    last_n = state.num_tokens if sampling.penalty_last_n is None else sampling.penalty_last_n
    start = max(0, state.num_tokens - last_n)
    for token_id in set(state.tokens(start, state.num_tokens)):
        value = logits[token_id]
        logits[token_id] = value / sampling.repetition_penalty if value > 0 else value * sampling.repetition_penalty
    for token_id, count in Counter(state.tokens(max(start, len(state.prompt)), state.num_tokens)).items():
        logits[token_id] -= sampling.presence_penalty + count * sampling.frequency_penalty
    banned = sampling.end_token_ids({EOS}) if len(state.outputs) < sampling.min_tokens else frozenset()
    allowed = range(VOCAB_SIZE) if sampling.allowed_token_ids is None else sampling.allowed_token_ids
    kept = set(allowed) - banned
    if mask is not None:
        kept = {token_id for token_id in kept if mask[token_id >> 3] >> (token_id & 7) & 1}
    return [value if token_id in kept else -math.inf for token_id, value in enumerate(logits)]


def choose(logits: list[float], state: SequenceState) -> int:
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


def token_logprobs(logits: Sequence[float], token_id: int, count: int) -> TokenLogprobs:
    highest = max(logits)
    normalizer = highest + math.log(sum(math.exp(value - highest) for value in logits))
    ranked = sorted(range(VOCAB_SIZE), key=lambda t: (-logits[t], t))[:count]
    top = tuple(TokenLogprob(t, logits[t] - normalizer) for t in ranked)
    return TokenLogprobs(token_id, logits[token_id] - normalizer, top)
