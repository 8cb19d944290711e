"""Why a request can't run, now or ever, found before it is accepted. Owns no state; may not import backends."""

from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from typing import NamedTuple

from pagemill.engine.constraint import Constraint
from pagemill.engine.context_window import ContextWindow
from pagemill.engine.kv_cache import KVCache
from pagemill.errors import ContextLengthError, InvalidRequestError, StructuredOutputError
from pagemill.generation import ContextShift, GenerationRequest


def check_token_ids(request: GenerationRequest, vocab_size: int) -> None:
    """Raises InvalidRequestError, which names the field, for a token id that is not in the vocabulary."""
    sampling = request.sampling
    _check_ids("prompt", request.prompt_token_ids, vocab_size)
    _check_ids("logit_bias", (token_id for token_id, _bias in sampling.logit_bias), vocab_size)
    _check_ids("stop_token_ids", sampling.stop_token_ids, vocab_size)
    _check_ids("allowed_token_ids", sampling.allowed_token_ids or (), vocab_size)


def check_a_token_is_left(request: GenerationRequest, eos_token_ids: AbstractSet[int]) -> None:
    """Raises InvalidRequestError if `allowed_token_ids` has only tokens that `min_tokens` or the output's format forbid
    at its beginning, or if the format can't begin at all.
    """
    sampling = request.sampling
    allowed = sampling.allowed_token_ids
    if allowed is not None and sampling.min_tokens > 0 and sampling.end_token_ids(eos_token_ids).issuperset(allowed):
        raise InvalidRequestError(
            f"allowed_token_ids has only tokens that end the reply, which min_tokens {sampling.min_tokens} forbids",
            param="allowed_token_ids",
        )
    if request.constraint is not None and not _can_begin(request, eos_token_ids):
        field = None if allowed is None else "allowed_token_ids"
        raise InvalidRequestError(
            f"{field or 'the model'} has no token with which an output in the wanted format can begin", param=field
        )


class OutputRoom(NamedTuple):
    """What a request's sequences may have."""

    max_tokens: int
    window: ContextWindow | None = None  # if that is more than the context holds at once


def output_room(
    request: GenerationRequest, max_model_len: int, kv_cache: KVCache, *, max_shifted_contexts: int
) -> OutputRoom:
    """The most tokens that each of the request's sequences may get, and the context it may get them in. An output that
    shifts is at most `max_shifted_contexts` times as long as its context.

    Raises:
        ContextLengthError: the prompt leaves no room for a token (unless none is asked for), or with its output it
            does not fit the KV cache even alone.
    """
    num_prompt_tokens, wanted, shift = len(request.prompt_token_ids), request.sampling.max_tokens, request.shift
    length = max_model_len if shift is None else _shifting_length(shift, max_model_len, kv_cache)
    room = length - num_prompt_tokens
    if room < min(1, 1 if wanted is None else wanted):
        raise ContextLengthError(
            f"This model's maximum context length is {length} tokens. However, your prompt contains "
            f"{num_prompt_tokens} input tokens. Please reduce the length of the prompt.",
            param="prompt",
        )
    limit = room if shift is None else length * max_shifted_contexts
    max_tokens = limit if wanted is None else min(wanted, limit)
    if shift is not None and max_tokens > room:
        return OutputRoom(max_tokens, ContextWindow.of(shift, length))
    if num_prompt_tokens + max_tokens > kv_cache.max_sequence_tokens:
        raise ContextLengthError(
            f"{num_prompt_tokens} prompt tokens and {max_tokens} output tokens do not fit the KV cache",
            param="prompt",
        )
    return OutputRoom(max_tokens)


def _shifting_length(shift: ContextShift, max_model_len: int, kv_cache: KVCache) -> int:
    """How many tokens a context that shifts holds at once: as many as the request, the model and the KV cache allow."""
    length = min(max_model_len, kv_cache.max_sequence_tokens)
    return length if shift.context_length is None else min(length, shift.context_length)


def _can_begin(request: GenerationRequest, eos_token_ids: AbstractSet[int]) -> bool:
    assert request.constraint is not None
    try:
        return Constraint(request.constraint.matcher(), request.sampling, eos_token_ids).allowed is not None
    except StructuredOutputError:
        return False


def _check_ids(name: str, token_ids: Iterable[int], vocab_size: int) -> None:
    for token_id in token_ids:
        if not 0 <= token_id < vocab_size:
            message = f"{name} has token id {token_id}, which is out of vocabulary: it has {vocab_size} tokens"
            raise InvalidRequestError(message, param=name)
