"""The Ollama dialect: what Ollama's own clients speak, under `/api` and `/`. Imported at its first request."""

from functools import cache
from typing import TYPE_CHECKING

from starlette.routing import BaseRoute, Route

from pagemill.api.deferred import deferred

if TYPE_CHECKING:
    from pagemill.api.context import ApiContext
    from pagemill.api.ollama.endpoints import OllamaEndpoints
    from pagemill.api.ollama.store_endpoints import StoreEndpoints


def routes(context: "ApiContext") -> list[BaseRoute]:
    """All routes of the dialect."""

    @cache
    def endpoints() -> "OllamaEndpoints":
        from pagemill.api.ollama.endpoints import OllamaEndpoints

        return OllamaEndpoints(context)

    @cache
    def store() -> "StoreEndpoints":
        from pagemill.api.ollama.store_endpoints import StoreEndpoints

        return StoreEndpoints(context)

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
        Route("/api/pull", deferred(lambda: store().pull), methods=["POST"]),
        Route("/api/push", deferred(lambda: store().push), methods=["POST"]),
        Route("/api/create", deferred(lambda: store().create), methods=["POST"]),
        Route("/api/copy", deferred(lambda: store().copy), methods=["POST"]),
        Route("/api/delete", deferred(lambda: store().delete), methods=["DELETE"]),
        Route("/api/blobs/{digest}", deferred(lambda: store().blob), methods=["HEAD", "POST"]),
    ]
