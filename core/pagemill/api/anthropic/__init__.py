"""The Anthropic dialect: `/v1/messages`, `/v1/messages/count_tokens`, and `/v1/models` for its clients.

One noun per file: what a request says (`requests`, `blocks`, `messages`, `tools`), what is said back (`message`,
`models`), and the endpoints. Imported at the dialect's first request.
"""

from functools import cache
from typing import TYPE_CHECKING

from starlette.routing import BaseRoute, Match, Route
from starlette.types import Scope

from pagemill.api.context import is_anthropic
from pagemill.api.deferred import deferred

if TYPE_CHECKING:
    from pagemill.api.anthropic.endpoints import AnthropicEndpoints
    from pagemill.api.context import ApiContext


class SharedRoute(Route):
    """A path that the OpenAI dialect has, too: this one is for Anthropic's clients."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        return super().matches(scope) if scope["type"] == "http" and is_anthropic(scope) else (Match.NONE, {})


def routes(context: "ApiContext") -> list[BaseRoute]:
    """All routes of this dialect. They come before those of the OpenAI one."""

    @cache
    def endpoints() -> "AnthropicEndpoints":
        from pagemill.api.anthropic.endpoints import AnthropicEndpoints

        return AnthropicEndpoints(context)

    return [
        Route("/v1/messages", deferred(lambda: endpoints().create_message), methods=["POST"]),
        Route("/v1/messages/count_tokens", deferred(lambda: endpoints().count_tokens), methods=["POST"]),
        SharedRoute("/v1/models", deferred(lambda: endpoints().list_models), methods=["GET"]),
        SharedRoute("/v1/models/{model:path}", deferred(lambda: endpoints().retrieve_model), methods=["GET"]),
    ]
