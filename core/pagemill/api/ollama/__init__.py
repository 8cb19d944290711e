"""The Ollama dialect: what Ollama's own clients speak, under `/api` and `/`. Imported at its first request."""

from functools import cache
from typing import TYPE_CHECKING

from starlette.routing import BaseRoute, Route

from pagemill.api.deferred import deferred

if TYPE_CHECKING:
    from pagemill.api.context import ApiContext
    from pagemill.api.ollama.endpoints import OllamaEndpoints


def routes(context: "ApiContext") -> list[BaseRoute]:
    """All routes of the dialect."""

    @cache
    def endpoints() -> "OllamaEndpoints":
        from pagemill.api.ollama.endpoints import OllamaEndpoints

        return OllamaEndpoints(context)

    return [
        Route("/", deferred(lambda: endpoints().root), methods=["GET"]),
        Route("/api/version", deferred(lambda: endpoints().version), methods=["GET"]),
        Route("/api/tags", deferred(lambda: endpoints().tags), methods=["GET"]),
        Route("/api/ps", deferred(lambda: endpoints().processes), methods=["GET"]),
        Route("/api/show", deferred(lambda: endpoints().show), methods=["POST"]),
        Route("/api/generate", deferred(lambda: endpoints().generate), methods=["POST"]),
        Route("/api/embed", deferred(lambda: endpoints().embed), methods=["POST"]),
        Route("/api/embeddings", deferred(lambda: endpoints().embeddings), methods=["POST"]),
        Route("/api/chat", deferred(lambda: endpoints().chat), methods=["POST"]),
    ]
