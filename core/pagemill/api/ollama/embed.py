"""Ollama's `/api/embed` and its older `/api/embeddings`. Owns no state. Imported at the first such request."""

import time
from typing import TYPE_CHECKING, Any

from pagemill.api.embeddings.inputs import engine_for, num_tokens, single
from pagemill.api.wire import WireModel, check_count, shown
from pagemill.errors import ContextLengthError, InvalidRequestError, ModelNotFoundError
from pagemill.pool import parse_keep_alive
from pagemill.settings import Settings

if TYPE_CHECKING:
    from pagemill.backends.embedder import EmbeddingInput
    from pagemill.engine.embedding_engine import EmbeddingEngine
    from pagemill.ollama_options import Options
    from pagemill.pool import ModelPool

TOO_LONG = "the input length exceeds the context length"  # Ollama's words


class EmbedRequest(WireModel):
    """POST /api/embed."""

    model: str = ""
    input: Any = None
    truncate: bool | None = None
    dimensions: int | None = None
    keep_alive: str | int | float | None = None
    options: dict[str, Any] | None = None

    def texts(self, settings: Settings) -> list[str]:
        """Raises InvalidRequestError: the input is no text or list of texts, or too long a one."""
        if self.input in (None, ""):
            return []
        texts = [self.input] if isinstance(self.input, str) else self.input
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            message = f"invalid input type: input must be a text or a list of texts, got {shown(self.input)}"
            raise InvalidRequestError(message, param="input")
        check_count("input", len(texts), settings.max_embedding_inputs, "max_embedding_inputs")
        return texts


class EmbeddingsRequest(WireModel):
    """POST /api/embeddings: one text."""

    model: str = ""
    prompt: str | None = None
    keep_alive: str | int | float | None = None
    options: dict[str, Any] | None = None

    def as_embed(self) -> EmbedRequest:
        """The same in the newer form."""
        return EmbedRequest(model=self.model, input=self.prompt or "", keep_alive=self.keep_alive, options=self.options)


def find(pool: "ModelPool", name: str) -> None:
    """Raises ModelNotFoundError, InvalidRequestError: in Ollama's words, which differ here from those for chats."""
    if not name:
        raise InvalidRequestError("model is required", param="model")
    try:
        pool.find(name)
    except ModelNotFoundError as error:
        raise ModelNotFoundError(f'model "{name}" not found, try pulling it first', param="model") from error


async def embed(pool: "ModelPool", body: EmbedRequest, options: "Options", settings: Settings) -> dict[str, object]:
    """The answer to `/api/embed`: vectors of length 1. Too long a text is cut, unless `truncate` is false."""
    started = time.perf_counter()
    texts = body.texts(settings)
    keep_alive_s = None if body.keep_alive is None else parse_keep_alive(body.keep_alive)
    async with pool.lease(body.model, keep_alive_s) as model:
        engine = engine_for(model, "embed")
        loaded = time.perf_counter()
        limit = options.context_length(engine.max_model_len)
        inputs = await _inputs(engine, texts, limit, cut=body.truncate is not False)
        vectors = await engine.embed(inputs)
    return {
        "model": body.model,
        "embeddings": _normalized(vectors, body.dimensions),
        "total_duration": round((time.perf_counter() - started) * 1e9),
        "load_duration": round((loaded - started) * 1e9),
        "prompt_eval_count": num_tokens(inputs),
    }


async def _inputs(engine: "EmbeddingEngine", texts: list[str], limit: int, *, cut: bool) -> "list[EmbeddingInput]":
    keep = limit if cut else None
    try:
        inputs = [await single(engine, text, keep, f"input[{index}]") for index, text in enumerate(texts)]
    except ContextLengthError as error:
        raise ContextLengthError(TOO_LONG, param="input") from error
    if any(len(item.token_ids) > limit for item in inputs):
        raise ContextLengthError(TOO_LONG, param="input")
    return inputs


def _normalized(vectors: list[Any], dimensions: int | None) -> list[list[float]]:
    if not vectors:
        return []
    from pagemill.api.embeddings.vectors import as_numbers, normalized

    return as_numbers(normalized(vectors, dimensions))
