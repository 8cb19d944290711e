"""The endpoints of the Anthropic dialect. Owns no state. The error middleware gives errors their shape."""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp

from pagemill.api.anthropic import models
from pagemill.api.anthropic.message import MessageWriter
from pagemill.api.anthropic.messages import continued_text, template_messages
from pagemill.api.anthropic.requests import CountTokensRequest, MessagesRequest, PromptFields
from pagemill.api.anthropic.tools import read_use
from pagemill.api.context import ApiContext, find_model, request_id
from pagemill.api.model_defaults import sampling_of
from pagemill.api.prompting import thinking_variables
from pagemill.api.single_answer import Chat, render_chat, respond
from pagemill.api.streaming import until_disconnect
from pagemill.api.wire import read_json


class AnthropicEndpoints:
    """Each from a request to a response."""

    def __init__(self, context: ApiContext) -> None:
        self._context = context

    async def create_message(self, request: Request) -> ASGIApp:
        body = await read_json(request, MessagesRequest)
        user = None if body.metadata is None else body.metadata.user_id
        chat = self._chat(body, request, user)
        message_id = f"msg_{request_id(request.scope)}"
        writer = MessageWriter(message_id, chat.model, body, request_id(request.scope))
        return await respond(
            self._context,
            request,
            chat,
            body.sampling(sampling_of(self._context.pool.find(chat.model))),
            writer,
            answer_id=message_id,
            streamed=bool(body.stream),
        )

    async def count_tokens(self, request: Request) -> Response:
        body = await read_json(request, CountTokensRequest)
        return await until_disconnect(self._count(self._chat(body, request, None)), request.receive)

    async def _count(self, chat: Chat) -> Response:
        async with self._context.pool.lease(chat.model) as model:
            _text, token_ids = await render_chat(model, chat)
            return JSONResponse({"input_tokens": len(token_ids)})

    def _chat(self, body: PromptFields, request: Request, user: str | None) -> Chat:
        """Raises InvalidRequestError for all that is wrong with a request, as far as can be told without the model."""
        model = find_model(self._context, request.scope, body.model, user)
        settings = self._context.settings
        body.check_limits(settings)
        messages = template_messages(body.system, body.messages)
        budget = None if body.thinking is None else body.thinking.budget_tokens
        told = {} if budget is None else {"thinking_budget": budget}  # as Seed-OSS's template calls it
        return Chat(
            model=model,
            messages=messages,
            messages_field="messages",
            tools=read_use(body.tools, body.tool_choice, settings.max_tools),
            content=body.output_format(),
            variables={**thinking_variables(body.think), **told},
            continued=continued_text(messages),
            thinking_field=body.thinking_field,
            shows_reasoning=body.thinking is None or body.thinking.display != "omitted",
        )

    async def list_models(self, request: Request) -> Response:
        return JSONResponse(models.listing(self._context, request.query_params))

    async def retrieve_model(self, request: Request) -> Response:
        name = find_model(self._context, request.scope, request.path_params["model"], None)
        return JSONResponse(models.model(self._context, name, self._context.pool.find(name)))
