"""`POST /v1/responses`, from a request to a response. Owns no state."""

from starlette.requests import Request
from starlette.types import ASGIApp

from pagemill.api.context import ApiContext, find_model, request_id
from pagemill.api.model_defaults import sampling_of
from pagemill.api.openai.responses.input_items import template_messages
from pagemill.api.openai.responses.request import ResponsesRequest
from pagemill.api.openai.responses.response import ResponseWriter
from pagemill.api.openai.responses.tools import read_use
from pagemill.api.prompting import thinking_variables
from pagemill.api.single_answer import Chat, respond
from pagemill.api.wire import read_json


async def create_response(context: ApiContext, request: Request) -> ASGIApp:
    """Everything that can be wrong with the request is raised before the response starts."""
    body = await read_json(request, ResponsesRequest)
    model = find_model(context, request.scope, body.model, body.safety_identifier or body.user)
    body.check_limits(context.settings)
    chat = Chat(
        model=model,
        messages=template_messages(body.instructions, body.input),
        messages_field="input",
        tools=read_use(body.tools, body.tool_choice, body.parallel_tool_calls, context.settings.max_tools),
        content=body.output_format(),
        variables=thinking_variables(body.think),
        thinking_field="reasoning.effort" if body.think else None,
        drops_oldest=body.truncation == "auto",
    )
    number = request_id(request.scope)
    sampling = body.sampling(sampling_of(context.pool.find(model)))
    writer = ResponseWriter(number, model, body)
    return await respond(
        context, request, chat, sampling, writer, answer_id=f"resp_{number}", streamed=bool(body.stream)
    )
