"""The `/metrics` route. Owns the registry, made at the first scrape so that start-up does not pay for it."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from pagemill.api.context import ApiContext
    from pagemill.engine.statistics import EngineStats


class MetricsScrape:
    """Renders the engines' statistics in the format that the scraper accepts (Prometheus text or OpenMetrics)."""

    def __init__(self, context: "ApiContext") -> None:
        self._pool = context.pool
        self._limits = context.limits
        self._registry: CollectorRegistry | None = None

    async def respond(self, request: Request) -> Response:
        from prometheus_client.exposition import choose_encoder

        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(self._registry_once()), headers={"content-type": content_type})

    def _registry_once(self) -> "CollectorRegistry":
        if self._registry is None:
            from prometheus_client import CollectorRegistry, ProcessCollector

            from pagemill.api.operations.metrics import EngineCollector, RefusalCollector
            from pagemill.api.operations.model_metrics import ModelCollector

            self._registry = CollectorRegistry()
            self._registry.register(EngineCollector(self._snapshots))
            self._registry.register(ModelCollector(self._pool))
            if self._limits is not None:
                self._registry.register(RefusalCollector(self._limits.num_refused))
            ProcessCollector(registry=self._registry)
        return self._registry

    def _snapshots(self) -> "Iterable[tuple[str, EngineStats]]":
        return [(status.model.name, status.model.engine.stats()) for status in self._pool.loaded()]
