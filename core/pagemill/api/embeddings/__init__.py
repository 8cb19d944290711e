"""Embeddings, scores and rankings: `/v1/embeddings`, `/v1/score`, `/v1/rerank`, and what `/api/embed` is made of.

Imported at the first request that asks for them. Owns no state.
"""

from functools import cache
from typing import TYPE_CHECKING

from starlette.routing import BaseRoute, Route

from pagemill.api.deferred import deferred

if TYPE_CHECKING:
    from pagemill.api.context import ApiContext
    from pagemill.api.embeddings.endpoints import EmbeddingEndpoints


def routes(context: "ApiContext") -> list[BaseRoute]:
    """All routes; scores and rankings also by the names that vLLM gives them without `/v1`."""

    @cache
    def endpoints() -> "EmbeddingEndpoints":
        from pagemill.api.embeddings.endpoints import EmbeddingEndpoints

        return EmbeddingEndpoints(context)

    return [
        Route("/v1/embeddings", deferred(lambda: endpoints().create_embeddings), methods=["POST"]),
        *(Route(path, deferred(lambda: endpoints().score), methods=["POST"]) for path in ("/v1/score", "/score")),
        *(Route(path, deferred(lambda: endpoints().rerank), methods=["POST"]) for path in ("/v1/rerank", "/rerank")),
    ]
