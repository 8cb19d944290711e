"""`/tokenize` and `/detokenize`, in vLLM's shapes: what the model's tokenizer and chat template make of a text.

Owns no state. A request holds a lease while it is answered, so a model that was unloaded is loaded for it.
"""

from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from pagemill.api.context import default_model, exchange
from pagemill.api.model_defaults import opened
from pagemill.api.prompting import encode, render_messages
from pagemill.api.wire import WireModel, read_json, shown
from pagemill.backends.base import decode
from pagemill.errors import InvalidRequestError, UnsupportedParameterError

if TYPE_CHECKING:
    from pagemill.api.context import ApiContext
    from pagemill.pool import LoadedModel

CHAT_FIELDS = ("add_generation_prompt", "tools", "chat_template_kwargs")  # they say how messages are rendered


class TokenizeRequest(WireModel):
    """A text (`prompt`), or a conversation to be rendered by the model's chat template (`messages`)."""

    model: str | None = None
    prompt: str | None = None
    messages: list[dict[str, Any]] | None = None
    add_special_tokens: bool | None = None  # default: with a prompt yes, with messages no (templates write their own)
    add_generation_prompt: bool = True
    tools: list[dict[str, Any]] | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    return_token_strs: bool = False

    def check_together(self) -> None:
        if (self.prompt is None) == (self.messages is None):
            raise InvalidRequestError("give either prompt or messages", param="prompt")
        if self.prompt is not None:
            for name in CHAT_FIELDS:
                if name in self.given_fields:
                    message = f"{name} goes with messages, not with prompt, got {shown(getattr(self, name))}"
                    raise UnsupportedParameterError(message, param=name)


class DetokenizeRequest(WireModel):
    """Token ids to turn back into text."""

    model: str | None = None
    tokens: list[int]


class Tokenization:
    """The two routes."""

    def __init__(self, context: "ApiContext") -> None:
        self._pool = context.pool
        self._settings = context.settings

    async def tokenize(self, request: Request) -> Response:
        body = await read_json(request, TokenizeRequest)
        async with self._pool.lease(self._name(request, body.model)) as model:
            token_ids = await self._encode(model, body)
            strings = [decode(model.tokenizer, (token,)) for token in token_ids] if body.return_token_strs else None
            return JSONResponse(
                {
                    "count": len(token_ids),
                    "max_model_len": model.engine.max_model_len,
                    "tokens": token_ids,
                    "token_strs": strings,
                }
            )

    async def detokenize(self, request: Request) -> Response:
        body = await read_json(request, DetokenizeRequest)
        async with self._pool.lease(self._name(request, body.model)) as model:
            vocab_size = model.tokenizer.vocab_size
            for token_id in body.tokens:
                if not 0 <= token_id < vocab_size:
                    message = f"tokens: {token_id} is not in the vocabulary (0 to {vocab_size - 1})"
                    raise InvalidRequestError(message, param="tokens")
            return JSONResponse({"prompt": decode(model.tokenizer, body.tokens)})

    async def _encode(self, model: "LoadedModel", body: TokenizeRequest) -> tuple[int, ...]:
        if body.prompt is not None:
            return await encode(model.tokenizer, body.prompt, add_special=body.add_special_tokens is not False)
        messages = body.messages or []
        if len(messages) > self._settings.max_messages:
            message = (
                f"messages has {len(messages)} entries, at most {self._settings.max_messages} (setting max_messages)"
            )
            raise InvalidRequestError(message, param="messages")
        text = await render_messages(
            model,
            opened(model, messages),
            tools=body.tools,
            add_generation_prompt=body.add_generation_prompt,
            template_kwargs=body.chat_template_kwargs,
        )
        return await encode(model.tokenizer, text, add_special=body.add_special_tokens is True)

    def _name(self, request: Request, given: str | None) -> str:
        name = default_model(self._pool) if given is None else given
        exchange(request.scope).model = name
        return name
