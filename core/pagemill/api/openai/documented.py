"""What the OpenAPI document says of the OpenAI dialect. Owns no state."""

from pagemill.api.documentation import (
    ANY_REQUEST,
    JSON,
    SSE,
    Answer,
    Dialect,
    Operation,
    Parameter,
    answered,
    any_of,
    ref,
)
from pagemill.api.openai.answer_schemas import SCHEMAS
from pagemill.api.openai.chat_request import ChatCompletionRequest
from pagemill.api.openai.completion_request import CompletionRequest
from pagemill.api.openai.responses.answer_schemas import SCHEMAS as RESPONSE_SCHEMAS
from pagemill.api.openai.responses.request import ResponsesRequest

MESSAGES = [{"role": "user", "content": "Hello!"}]
EITHER, EITHER_CHUNK = (
    any_of(ref(f"openai.ChatCompletion{part}"), ref(f"openai.Completion{part}")) for part in ("", "Chunk")
)
VERSION = Parameter("anthropic-version", "header", "Asks for the answer that Anthropic's clients know.")
MODEL = Parameter("model", "path", "The model's name, which may have slashes.")
PAGE = (
    Parameter("limit", "query", "How many models at most, 1 to 1000; if `anthropic-version` is given."),
    Parameter("after_id", "query", "The models after this one; likewise."),
    Parameter("before_id", "query", "The models before this one; likewise."),
)

OPENAI = Dialect(
    "openai",
    "What OpenAI's clients speak, with vLLM's further fields.",
    {
        "POST /v1/chat/completions": Operation(
            "Answer a conversation",
            answered("openai.ChatCompletion", {SSE: ref("openai.ChatCompletionChunk")}),
            body=ChatCompletionRequest,
            example={"messages": MESSAGES, "max_tokens": 50},
        ),
        "POST /v1/completions": Operation(
            "Continue texts",
            answered("openai.Completion", {SSE: ref("openai.CompletionChunk")}),
            body=CompletionRequest,
            example={"prompt": "Once upon a time", "max_tokens": 50},
        ),
        "POST /v1/responses": Operation(
            "Answer a conversation, of which nothing is stored",
            answered("openai.Response", {SSE: ref("openai.ResponseEvent")}),
            body=ResponsesRequest,
            example={"input": "Hello!", "max_output_tokens": 50},
        ),
        "POST /invocations": Operation(
            "Either kind of completion, by SageMaker's name for both",
            {200: Answer("The whole answer, or a stream of it.", {JSON: EITHER, SSE: EITHER_CHUNK})},
            body=(ChatCompletionRequest, CompletionRequest),
            example={"messages": MESSAGES, "max_tokens": 50},
        ),
        "GET /v1/models": Operation(
            "The models that there are",
            {200: Answer("All of them, or a page.", {JSON: any_of(ref("openai.Models"), ref("anthropic.Models"))})},
            errors=ANY_REQUEST,
            parameters=(VERSION, *PAGE),
            has_other_errors=True,
        ),
        "GET /v1/models/{model:path}": Operation(
            "One model",
            {200: Answer("The model.", {JSON: any_of(ref("openai.Model"), ref("anthropic.Model"))})},
            errors=(*ANY_REQUEST, 404),
            parameters=(MODEL, VERSION),
            has_other_errors=True,
        ),
    },
    {**SCHEMAS, **RESPONSE_SCHEMAS},
)
