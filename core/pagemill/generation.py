"""The words that all rooms share: what a generation request asks for, and what comes back.

Owns no state. Imports only `pagemill.errors`. Values are checked once, when they are made: a `SamplingParams` that
exists is valid, so the rooms below need no checks of their own.
"""

import math
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple, Protocol

from pagemill.errors import InvalidRequestError

MAX_SEED = 2**63 - 1
MAX_LOGIT_BIAS = 100.0
MAX_REPETITION_PENALTY = 100.0  # or that much of a reward: near 0, logits would become infinite
MIN_TEMPERATURE = 1e-5  # below it only ties are drawn from, and further below float32 has no numbers to divide by


class FinishReason(StrEnum):
    """Why a sequence ended. Every admitted sequence ends in exactly one of these."""

    STOP = "stop"  # end-of-sequence token, stop token or stop string
    LENGTH = "length"  # max_tokens or the context (if it does not shift) is used up
    ABORT = "abort"  # the client went away, or asked to stop
    ERROR = "error"  # the backend failed; the delta's `error` says how


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    """How to choose tokens and when to stop. Neutral defaults: plain sampling from the model's distribution.

    Raises:
        InvalidRequestError: a value is out of its range; names the field and the value.
    """

    max_tokens: int | None = None  # None: as many as the context holds, or if it shifts as the engine allows
    min_tokens: int = 0  # no end-of-sequence, stop token or stop string before this many tokens
    temperature: float = 1.0  # below MIN_TEMPERATURE: greedy
    top_k: int = 0  # 0: off
    top_p: float = 1.0
    min_p: float = 0.0
    typical_p: float = 1.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    penalty_last_n: int | None = None  # tokens (prompt and output) that penalties look back on; None: all
    logit_bias: tuple[tuple[int, float], ...] = ()  # (token id, added logit)
    allowed_token_ids: tuple[int, ...] | None = None  # no other token is ever sampled; None: all are allowed
    seed: int | None = None  # None: not reproducible
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    include_stop_str_in_output: bool = False
    ignore_eos: bool = False
    skip_special_tokens: bool = True  # special tokens add no text
    shown_special_tokens: frozenset[int] = frozenset()  # but for these, by which a parser of the text goes
    logprobs: int | None = None  # None: none; k: the sampled token's and the k most likely, of the raw distribution
    prompt_logprobs: int | None = None  # likewise for each prompt token

    def __post_init__(self) -> None:
        _require(self.max_tokens is None or self.max_tokens >= 0, "max_tokens", self.max_tokens, "at least 0")
        _require(self.min_tokens >= 0, "min_tokens", self.min_tokens, "at least 0")
        _require(
            self.max_tokens is None or self.min_tokens <= self.max_tokens,
            "min_tokens",
            self.min_tokens,
            f"at most max_tokens ({self.max_tokens})",
        )
        _require(_within(self.temperature, 0.0, 100.0), "temperature", self.temperature, "between 0 and 100")
        _require(self.top_k >= 0, "top_k", self.top_k, "at least 0 (0 turns it off)")
        _require(_within(self.top_p, 0.0, 1.0) and self.top_p > 0, "top_p", self.top_p, "in (0, 1]")
        _require(_within(self.min_p, 0.0, 1.0), "min_p", self.min_p, "in [0, 1]")
        _require(_within(self.typical_p, 0.0, 1.0) and self.typical_p > 0, "typical_p", self.typical_p, "in (0, 1]")
        _require(
            _within(self.repetition_penalty, 1 / MAX_REPETITION_PENALTY, MAX_REPETITION_PENALTY),
            "repetition_penalty",
            self.repetition_penalty,
            f"between {1 / MAX_REPETITION_PENALTY} and {MAX_REPETITION_PENALTY}",
        )
        _require(
            _within(self.presence_penalty, -2.0, 2.0), "presence_penalty", self.presence_penalty, "between -2 and 2"
        )
        _require(
            _within(self.frequency_penalty, -2.0, 2.0), "frequency_penalty", self.frequency_penalty, "between -2 and 2"
        )
        _require(
            self.penalty_last_n is None or self.penalty_last_n >= 0, "repeat_last_n", self.penalty_last_n, "at least 0"
        )
        _require(self.seed is None or -(2**63) <= self.seed <= MAX_SEED, "seed", self.seed, "a 64-bit signed integer")
        for text in self.stop:
            _require(text != "", "stop", text, "not empty")
        for token_id, bias in self.logit_bias:
            _require(_within(bias, -MAX_LOGIT_BIAS, MAX_LOGIT_BIAS), f"logit_bias.{token_id}", bias, "in [-100, 100]")
        allowed = self.allowed_token_ids
        _require(allowed is None or len(allowed) > 0, "allowed_token_ids", allowed, "null or not empty")
        for name, count in (("logprobs", self.logprobs), ("prompt_logprobs", self.prompt_logprobs)):
            _require(count is None or count >= 0, name, count, "at least 0")

    @property
    def greedy(self) -> bool:
        """Whether the most likely token is always taken."""
        return self.temperature < MIN_TEMPERATURE or self.top_k == 1

    def end_token_ids(self, eos_token_ids: AbstractSet[int]) -> frozenset[int]:
        """The tokens that end a reply, and so may not come before `min_tokens`."""
        return frozenset(self.stop_token_ids) | (frozenset() if self.ignore_eos else frozenset(eos_token_ids))

    @property
    def has_penalties(self) -> bool:
        """Whether any penalty can change a token's probability."""
        penalties = (self.repetition_penalty, self.presence_penalty, self.frequency_penalty)
        return penalties != (1.0, 0.0, 0.0) and self.penalty_last_n != 0


def _within(value: float, low: float, high: float) -> bool:
    return math.isfinite(value) and low <= value <= high


def _require(condition: bool, name: str, value: object, rule: str) -> None:
    if not condition:
        raise InvalidRequestError(f"{name} must be {rule}, got {value!r}", param=name)


class InfillTokens(NamedTuple):
    """The special tokens by which a model is asked for the text between two others (fill in the middle)."""

    prefix: int  # stands before the text before the gap
    suffix: int  # before the text after it
    middle: int | None  # before the answer; None: the suffix comes first, and the answer goes on from the prefix
    ends: tuple[int, ...]  # end the answer, beside the tokens that end any; those above are among them


class TokenMatcher(Protocol):
    """Follows one sequence's output and says which tokens may come next. Used by one thread at a time.

    Raises:
        StructuredOutputError: from `allowed` and `advance`; the output can't be held to its format any longer.
    """

    @property
    def may_end(self) -> bool:
        """Whether the output so far is a whole one."""
        ...

    def allowed(self) -> bytes:
        """Which tokens may come next: token i may if bit i % 8 of byte i // 8 is set. If the output may end, tokens
        that end a reply are among them.
        """
        ...

    def advance(self, token_id: int) -> None:
        """Go on by a token of the output, one of those allowed."""
        ...


class TokenConstraint(Protocol):
    """What outputs have to look like, compiled for a model."""

    def matcher(self) -> TokenMatcher:
        """One for a new output, at its beginning."""
        ...


class ContextShift(NamedTuple):
    """That an answer goes on beyond its context: whenever that is full, the older half of what comes after the first
    `num_keep` tokens is dropped from it.
    """

    num_keep: int = 4  # fewer, if it were half of the context or more; at least 1
    context_length: int | None = None  # tokens; None: as many as the model may have


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationRequest:
    """One prompt and how to continue it, `n` times.

    `prompt_token_ids` is never empty. A smaller `priority` is scheduled earlier; equal ones in order of arrival.
    """

    request_id: str
    prompt_token_ids: tuple[int, ...]
    sampling: SamplingParams = field(default_factory=SamplingParams)
    n: int = 1
    priority: int = 0
    constraint: TokenConstraint | None = None  # None: any output
    shift: ContextShift | None = None  # None: the output ends where the context is full

    def __post_init__(self) -> None:
        _require(len(self.prompt_token_ids) > 0, "prompt", "", "at least one token long")
        _require(self.n >= 1, "n", self.n, "at least 1")


class TokenLogprob(NamedTuple):
    """One token with its natural-log probability under the model's raw distribution.

    A NamedTuple, as are the other per-token records: made for every token, it costs a third of a frozen dataclass.
    """

    token_id: int
    logprob: float


class TokenLogprobs(NamedTuple):
    """The logprob of the token at one position, and of the most likely ones there (descending)."""

    token_id: int
    logprob: float
    top: tuple[TokenLogprob, ...]


class Usage(NamedTuple):
    """Token counts of one sequence so far. `cached_tokens` of the prompt were not computed again."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int


class Timings(NamedTuple):
    """How long the stages of one sequence took, in seconds."""

    queue_s: float  # arrival to first scheduled
    prefill_s: float  # first scheduled to first token
    decode_s: float  # first token to last


class Delta(NamedTuple):
    """What one step added to one of a request's sequences.

    `text` may lag `token_ids`: text that could be the start of a stop string or of an unfinished UTF-8 character is
    held back; with `finish_reason` all is out but a character that was cut off. `prompt_logprobs` comes once, with the
    first delta; its first entry is None, since nothing predicts the first token.
    """

    choice_index: int  # which of the request's n sequences
    text: str
    token_ids: tuple[int, ...]
    usage: Usage
    logprobs: tuple[TokenLogprobs, ...] = ()
    prompt_logprobs: tuple[TokenLogprobs | None, ...] | None = None
    finish_reason: FinishReason | None = None
    stop_reason: str | int | None = None  # the stop string, or the stop token id, that ended it
    timings: Timings | None = None  # with finish_reason
    error: str | None = None  # with FinishReason.ERROR
