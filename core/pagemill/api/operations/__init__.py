"""Routes for whoever operates a server: probes, version, metrics, load, and the tokenizer.

Owns no state but the metrics registry, made at the first scrape. Imports no other dialect; prometheus-client only
when it is scraped, the tokenizer's wire models at their first request.
"""

from functools import cache
from typing import TYPE_CHECKING

from starlette.routing import BaseRoute, Route

from pagemill.api.deferred import deferred
from pagemill.api.operations.probes import Probes
from pagemill.api.operations.scrape import MetricsScrape

if TYPE_CHECKING:
    from pagemill.api.context import ApiContext
    from pagemill.api.operations.tokenization import Tokenization


def routes(context: "ApiContext") -> list[BaseRoute]:
    """All routes of this dialect."""
    probes = Probes(context)

    @cache
    def tokenization() -> "Tokenization":
        from pagemill.api.operations.tokenization import Tokenization

        return Tokenization(context)

    return [
        Route("/livez", probes.livez),
        Route("/readyz", probes.readyz),
        Route("/health", probes.readyz),
        Route("/ping", probes.ping, methods=["GET", "POST"]),
        Route("/version", probes.version),
        Route("/load", probes.load),
        Route("/metrics", MetricsScrape(context).respond),
        Route("/tokenize", deferred(lambda: tokenization().tokenize), methods=["POST"]),
        Route("/detokenize", deferred(lambda: tokenization().detokenize), methods=["POST"]),
    ]
