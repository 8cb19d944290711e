"""The endpoints of the OpenAI dialect. Owns no state. Each kind of completion is imported at its first request."""

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp

from pagemill.api.context import ApiContext
from pagemill.api.model_names import shown_names
from pagemill.api.openai.answer import respond
from pagemill.api.wire import read_json
from pagemill.errors import ModelNotFoundError
from pagemill.store.references import Reference


class OpenAIEndpoints:
    """Each from a request to a response."""

    def __init__(self, context: ApiContext) -> None:
        self._context = context

    async def create_chat_completion(self, request: Request) -> ASGIApp:
        from pagemill.api.openai.chat import ChatAnswer
        from pagemill.api.openai.chat_request import ChatCompletionRequest

        body = await read_json(request, ChatCompletionRequest)
        answer = ChatAnswer(body, max_tools=self._context.settings.max_tools)
        return await respond(self._context, request, body, answer)

    async def create_completion(self, request: Request) -> ASGIApp:
        from pagemill.api.openai.completion import CompletionAnswer
        from pagemill.api.openai.completion_request import CompletionRequest

        body = await read_json(request, CompletionRequest)
        return await respond(self._context, request, body, CompletionAnswer(body))

    async def create_response(self, request: Request) -> ASGIApp:
        from pagemill.api.openai.responses.endpoint import create_response

        return await create_response(self._context, request)

    async def invoke(self, request: Request) -> ASGIApp:
        """SageMaker's one route: either kind of completion, told apart by the body. What it says of types in headers is
        passed over: bodies are JSON, and streamed answers are what `stream` asks for.
        """
        from pagemill.api.openai.invocation import Invocation

        body = await read_json(request, Invocation)  # Starlette keeps the bytes for who reads them again
        if body.messages is None:
            return await self.create_completion(request)
        return await self.create_chat_completion(request)

    async def list_models(self, request: Request) -> Response:
        data = [
            self._model(name, reference)
            for reference in self._context.pool.references()
            for name in shown_names(reference, self._context.settings)
        ]
        return JSONResponse({"object": "list", "data": data})

    async def retrieve_model(self, request: Request) -> Response:
        name = request.path_params["model"]
        try:
            reference = self._context.pool.find(name)
        except ModelNotFoundError as error:
            raise ModelNotFoundError(f"The model {name!r} does not exist.", param="model") from error
        return JSONResponse(self._model(name, reference))

    def _model(self, name: str, reference: Reference) -> dict[str, Any]:
        loaded = [status.model for status in self._context.pool.loaded() if status.model.reference is reference]
        return {
            "id": name,
            "object": "model",
            "created": 0 if reference.modified_at is None else int(reference.modified_at.timestamp()),
            "owned_by": "pagemill",
            "root": reference.name,
            "parent": None,
            "max_model_len": loaded[0].engine.max_model_len if loaded else None,
        }
