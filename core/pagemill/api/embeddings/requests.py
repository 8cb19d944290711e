"""The bodies of requests for embeddings (OpenAI's), scores and rankings (vLLM's, which are Jina's and Cohere's).

Owns no state. A text may be given as token ids where a model embeds it; pairs are of texts.
"""

from typing import Annotated, Any, Literal

from pagemill.api.embeddings.inputs import Text
from pagemill.api.wire import WireModel, check_count, shown
from pagemill.errors import InvalidRequestError
from pagemill.settings import Settings
from pagemill.validated import After

TEXT = {"type": "string", "minLength": 1}
TOKEN_IDS = {"type": "array", "items": {"type": "integer"}, "minItems": 1}
ONE_OR_MANY = {"anyOf": [TEXT, TOKEN_IDS, {"type": "array", "items": {"anyOf": (TEXT, TOKEN_IDS)}, "minItems": 1}]}
STRINGS = {"anyOf": [TEXT, {"type": "array", "items": TEXT, "minItems": 1}]}
DOCUMENT = {"anyOf": [TEXT, {"type": "object", "properties": {"text": TEXT}, "required": ["text"]}]}
DOCUMENTS = {"type": "array", "items": DOCUMENT, "minItems": 1}


def _texts(value: Any, name: str) -> list[Text]:
    """One or many, each a text or token ids."""
    if isinstance(value, str) or _is_token_ids(value):
        return [_text(value, name)]
    if not isinstance(value, list) or not value:
        message = f"{name} must be a text, token ids, or a list of either, got {shown(value)}"
        raise InvalidRequestError(message, param=name)
    return [_text(item, f"{name}[{index}]") for index, item in enumerate(value)]


def _text(value: Any, path: str) -> Text:
    if isinstance(value, str) and value:
        return value
    if _is_token_ids(value):
        return tuple(value)
    message = f"{path} must be a text that is not empty, or token ids, got {shown(value)}"
    raise InvalidRequestError(message, param=path.partition("[")[0])


def _is_token_ids(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(type(item) is int for item in value)


def _strings(value: Any, name: str) -> list[str]:
    """One text or several."""
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list) or not values or not all(isinstance(item, str) and item for item in values):
        message = f"{name} must be a text that is not empty, or a list of them, got {shown(value)}"
        raise InvalidRequestError(message, param=name)
    return values


def _documents(value: Any, name: str) -> list[str]:
    """Texts, or objects with one."""
    if not isinstance(value, list) or not value:
        raise InvalidRequestError(f"{name} must be a list of texts, got {shown(value)}", param=name)
    return [_document(item, f"{name}[{index}]", name) for index, item in enumerate(value)]


def _document(value: Any, path: str, name: str) -> str:
    text = value.get("text") if isinstance(value, dict) else value
    if not isinstance(text, str) or not text:
        message = f"{path} must be a text that is not empty, or an object with one in text, got {shown(value)}"
        raise InvalidRequestError(message, param=name)
    return text


class PoolingFields(WireModel):
    """What all of them take."""

    model: str | None = None
    user: str | None = None
    truncate_prompt_tokens: int | None = None

    def check_together(self) -> None:
        keep = self.truncate_prompt_tokens
        if keep is not None and keep < 1 and keep != -1:
            message = f"truncate_prompt_tokens must be at least 1, or -1, got {keep}"
            raise InvalidRequestError(message, param="truncate_prompt_tokens")


class EmbeddingRequest(PoolingFields):
    """POST /v1/embeddings."""

    input: Annotated[Any, After(_texts, ONE_OR_MANY)]  # list[Text]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = None

    def check_limits(self, settings: Settings) -> None:
        """Raises InvalidRequestError: too many texts."""
        check_count("input", len(self.input), settings.max_embedding_inputs, "max_embedding_inputs")


class ScoreRequest(PoolingFields):
    """POST /v1/score: how well each of `text_2` answers to `text_1`, one for all or each its own."""

    text_1: Annotated[Any, After(_strings, STRINGS)]  # list[str]
    text_2: Annotated[Any, After(_strings, STRINGS)]  # list[str]

    def pairs(self) -> list[tuple[str, str]]:
        """Raises InvalidRequestError: they don't match."""
        first, second = self.text_1, self.text_2
        if len(first) not in (1, len(second)):
            message = f"text_1 must be one text, or as many as text_2 ({len(second)}), got {len(first)}"
            raise InvalidRequestError(message, param="text_1")
        return list(zip(first * (len(second) // len(first)), second, strict=True))

    def check_limits(self, settings: Settings) -> None:
        """Raises InvalidRequestError: too many texts."""
        check_count("text_2", len(self.text_2), settings.max_embedding_inputs, "max_embedding_inputs")


class RerankRequest(PoolingFields):
    """POST /v1/rerank: the documents in order of how well they answer to the query."""

    query: str
    documents: Annotated[Any, After(_documents, DOCUMENTS)]  # list[str]
    top_n: int | None = None
    return_documents: bool | None = None

    def check_together(self) -> None:
        super().check_together()
        if not self.query:
            raise InvalidRequestError("query must not be empty", param="query")
        if self.top_n is not None and self.top_n < 0:
            raise InvalidRequestError(f"top_n must be at least 0, got {self.top_n}", param="top_n")

    def check_limits(self, settings: Settings) -> None:
        """Raises InvalidRequestError: too many documents."""
        check_count("documents", len(self.documents), settings.max_embedding_inputs, "max_embedding_inputs")
