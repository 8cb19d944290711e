"""The routes of the Ollama dialect. Each reads its request, asks the room that knows, and answers.

Owns no state. Errors are raised; the error middleware gives them Ollama's shape.
"""

import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp

from pagemill import __version__
from pagemill.api.context import ApiContext, exchange, request_id
from pagemill.api.errors import ollama_error
from pagemill.api.model_defaults import options_of
from pagemill.api.ollama import generation, models
from pagemill.api.ollama.generation import Generation
from pagemill.api.ollama.lines import Lines, Said, error_line
from pagemill.api.ollama.prompt import Prompt, chat_prompt, generate_prompt
from pagemill.api.ollama.requests import ChatRequest, GenerateRequest, ModelRequest, ShowRequest
from pagemill.api.streaming import NDJSON_MEDIA_TYPE, ItemStream, until_disconnect
from pagemill.api.tools import read_tool_use, read_tools
from pagemill.api.wire import read_json
from pagemill.errors import InvalidRequestError, PagemillError
from pagemill.ollama_options import Options, read_options
from pagemill.pool import LoadedModel, parse_keep_alive

if TYPE_CHECKING:
    from pagemill.api.ollama.embed import EmbedRequest


class OllamaEndpoints:
    """The handlers. Holds what `create_app` hands in."""

    def __init__(self, context: ApiContext) -> None:
        self._pool = context.pool
        self._settings = context.settings

    async def root(self, request: Request) -> Response:
        return PlainTextResponse("Pagemill is running")

    async def version(self, request: Request) -> Response:
        return JSONResponse({"version": __version__})

    async def tags(self, request: Request) -> Response:
        return JSONResponse(await models.tags(self._pool))

    async def processes(self, request: Request) -> Response:
        return JSONResponse(await models.processes(self._pool))

    async def show(self, request: Request) -> Response:
        body = await read_json(request, ShowRequest)
        name = body.model or body.name
        self._find(name, request)
        return await until_disconnect(self._show(name, body.verbose is True), request.receive)

    async def _show(self, name: str, verbose: bool) -> Response:
        async with self._pool.lease(name) as model:
            return JSONResponse(await models.show(model, verbose=verbose))

    async def generate(self, request: Request) -> ASGIApp:
        started = time.perf_counter()
        body = await read_json(request, GenerateRequest)
        options = self._check(body, request)
        lines = Lines(body.model, chat=False)
        if not body.prompt and not body.suffix:
            return await until_disconnect(self._load_or_unload(body, lines), request.receive)
        prompt = partial(generate_prompt, body, options, shifts=body.shifts(self._settings))
        asked = self._generation(body, request, options, started, lines, prompt)
        return await self._answer(body, request, asked)

    async def chat(self, request: Request) -> ASGIApp:
        started = time.perf_counter()
        body = await read_json(request, ChatRequest)
        options = self._check(body, request)
        lines = Lines(body.model, chat=True)
        if not body.messages:
            return await until_disconnect(self._load_or_unload(body, lines), request.receive)
        if len(body.messages) > self._settings.max_messages:
            message = f"messages has {len(body.messages)} entries, at most {self._settings.max_messages} are allowed"
            raise InvalidRequestError(message, param="messages")
        tools = read_tools(body.tools, self._settings.max_tools)
        tool_use = read_tool_use(tools, body.tool_choice, body.parallel_tool_calls)
        prompt = partial(chat_prompt, body, options, tool_use, shifts=body.shifts(self._settings))
        asked = self._generation(body, request, options, started, lines, prompt)
        return await self._answer(body, request, asked)

    async def embed(self, request: Request) -> Response:
        from pagemill.api.ollama.embed import EmbedRequest

        body = await read_json(request, EmbedRequest)
        return JSONResponse(await self._embedded(body, request))

    async def embeddings(self, request: Request) -> Response:
        from pagemill.api.ollama.embed import EmbeddingsRequest

        body = await read_json(request, EmbeddingsRequest)
        vectors = (await self._embedded(body.as_embed(), request))["embeddings"]
        return JSONResponse({"embedding": vectors[0] if vectors else []})

    async def _embedded(self, body: "EmbedRequest", request: Request) -> dict[str, Any]:
        from pagemill.api.ollama import embed

        embed.find(self._pool, body.model)
        exchange(request.scope).model = body.model
        options = read_options(body.options, max_stop=self._settings.max_stop)
        return await until_disconnect(embed.embed(self._pool, body, options, self._settings), request.receive)

    def _find(self, name: str, request: Request) -> None:
        if not name:
            raise InvalidRequestError("model is required", param="model")
        self._pool.find(name)
        exchange(request.scope).model = name

    def _check(self, body: ModelRequest, request: Request) -> Options:
        """Everything that can be checked before a model is loaded."""
        self._find(body.model, request)
        body.refuse_unsupported()
        body.num_logprobs(self._settings)
        _keep_alive(body)
        defaults = options_of(self._pool.find(body.model))
        return read_options(body.options, max_stop=self._settings.max_stop, defaults=defaults)

    def _generation(
        self,
        body: ModelRequest,
        request: Request,
        options: Options,
        started: float,
        lines: Lines,
        prompt: Callable[[LoadedModel], Awaitable[Prompt]],
    ) -> Generation:
        return Generation(
            request_id=request_id(request.scope),
            model=body.model,
            keep_alive_s=_keep_alive(body),
            options=options,
            logprobs=body.num_logprobs(self._settings),
            prompt=prompt,
            lines=lines,
            gives_context=isinstance(body, GenerateRequest) and not body.raw and not body.suffix,
            started=started,
        )

    async def _answer(self, body: ModelRequest, request: Request, asked: Generation) -> ASGIApp:
        if not body.streamed:
            content = await until_disconnect(generation.complete(self._pool, asked), request.receive)
            return Response(content, media_type="application/json")
        lines = generation.stream(self._pool, asked)
        return ItemStream(lines, media_type=NDJSON_MEDIA_TYPE, render_error=_render_error)

    async def _load_or_unload(self, body: ModelRequest, lines: Lines) -> Response:
        """A request that asks for nothing loads the model, or with keep_alive 0 unloads it."""
        keep_alive_s = _keep_alive(body)
        if keep_alive_s == 0:
            await self._pool.unload(body.model)
            return Response(lines.last(Said(), {"done_reason": "unload"}), media_type="application/json")
        async with self._pool.lease(body.model, keep_alive_s):
            return Response(lines.last(Said(), {"done_reason": "load"}), media_type="application/json")


def _keep_alive(body: ModelRequest) -> float | None:
    return None if body.keep_alive is None else parse_keep_alive(body.keep_alive)


def _render_error(error: PagemillError) -> bytes:
    return error_line(ollama_error(error))
