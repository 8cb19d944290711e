"""The OpenAI dialect: `/v1/chat/completions`, `/v1/completions` and `/v1/models`, with vLLM's extra fields;
`/invocations`, which is SageMaker's name for the first two; and `/v1/responses`, in a folder of its own.

One noun per file: what a request says (`fields`, `chat_request`, `completion_request`, `messages`), what runs (`run`,
`batch`), what is said back (`envelope`, `usage`, `choice`, `logprobs`, `chunks`), and the endpoints. Imported at the
dialect's first request.
"""

from functools import cache
from typing import TYPE_CHECKING

from starlette.routing import BaseRoute, Route

from pagemill.api.deferred import deferred

if TYPE_CHECKING:
    from pagemill.api.context import ApiContext
    from pagemill.api.openai.endpoints import OpenAIEndpoints


def routes(context: "ApiContext") -> list[BaseRoute]:
    """All routes of this dialect."""

    @cache
    def endpoints() -> "OpenAIEndpoints":
        from pagemill.api.openai.endpoints import OpenAIEndpoints

        return OpenAIEndpoints(context)

    return [
        Route("/v1/chat/completions", deferred(lambda: endpoints().create_chat_completion), methods=["POST"]),
        Route("/v1/responses", deferred(lambda: endpoints().create_response), methods=["POST"]),
        Route("/v1/completions", deferred(lambda: endpoints().create_completion), methods=["POST"]),
        Route("/invocations", deferred(lambda: endpoints().invoke), methods=["POST"]),
        Route("/v1/models", deferred(lambda: endpoints().list_models), methods=["GET"]),
        Route("/v1/models/{model:path}", deferred(lambda: endpoints().retrieve_model), methods=["GET"]),
    ]
