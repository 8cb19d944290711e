"""From what a client sends to what a model embeds: texts to tokens, too long ones cut or refused. Owns no state."""

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pagemill.api.prompting import LONG_TEXT, encode
from pagemill.backends.embedder import EmbeddingInput
from pagemill.errors import ContextLengthError, InvalidRequestError, UnsupportedParameterError

if TYPE_CHECKING:
    from pagemill.backends.embedder import EmbeddingTask
    from pagemill.engine.embedding_engine import EmbeddingEngine
    from pagemill.pool import LoadedModel

Text = str | tuple[int, ...]


def engine_for(model: "LoadedModel", task: "EmbeddingTask | None") -> "EmbeddingEngine":
    """The engine of a model that can do this; None: either task.

    Raises:
        UnsupportedParameterError: it can't, in Ollama's words.
    """
    engine = model.embedding_engine
    if engine is None or (task is not None and engine.task != task):
        what = "embeddings" if task == "embed" else "scores"
        raise UnsupportedParameterError(f'"{model.name}" does not support {what}', param="model")
    return engine


async def single(engine: "EmbeddingEngine", text: Text, keep: int | None, path: str) -> EmbeddingInput:
    """A text, behind the model's prompt, cut to `keep` tokens with those that the model wants around it. None: it is
    refused if it is too long.

    Raises:
        ContextLengthError: it is longer than the model's inputs may be.
        InvalidRequestError: it comes to no token at all.
    """
    if isinstance(text, str):
        text = await encode(engine.tokenizer, engine.prompt + text, add_special=True, parse_special=False)
    if not text:
        raise InvalidRequestError(f"{path} must not be empty", param=path.partition("[")[0])
    if keep is not None:
        text = engine.surroundings.cut(text, keep)
    _check_length(engine, len(text), path)
    return EmbeddingInput(text)


async def pair(engine: "EmbeddingEngine", first: str, second: str, keep: int | None, path: str) -> EmbeddingInput:
    """Two texts as one input; of the second as much as `keep` tokens leave room for.

    Raises:
        ContextLengthError: they are too long together, or the first alone is for `keep`.
    """
    make = engine.pairs.encode
    short = len(first) + len(second) < LONG_TEXT
    whole = make(first, second, keep) if short else await asyncio.to_thread(make, first, second, keep)
    if whole is None:
        raise ContextLengthError(f"{path}: the other text leaves no room for it in {keep} tokens", param=path)
    _check_length(engine, len(whole.token_ids), path)
    return whole


def kept_tokens(engine: "EmbeddingEngine", truncate_prompt_tokens: int | None) -> int | None:
    """What vLLM's field asks for: -1 is as much as the model takes.

    Raises:
        InvalidRequestError: it is more than the model takes.
    """
    limit = engine.max_model_len
    if truncate_prompt_tokens is None:
        return None
    if truncate_prompt_tokens > limit:
        message = f"truncate_prompt_tokens must be at most {limit}, got {truncate_prompt_tokens}"
        raise InvalidRequestError(message, param="truncate_prompt_tokens")
    return limit if truncate_prompt_tokens == -1 else truncate_prompt_tokens


def num_tokens(inputs: Sequence[EmbeddingInput]) -> int:
    """Of all together."""
    return sum(len(item.token_ids) for item in inputs)


def _check_length(engine: "EmbeddingEngine", length: int, path: str) -> None:
    if length > engine.max_model_len:
        raise ContextLengthError(
            f"This model's maximum context length is {engine.max_model_len} tokens. However, {path} contains "
            f"{length} tokens. Please reduce its length, or ask for it to be truncated.",
            param=path.partition("[")[0],
        )
