"""`/openapi.json`: what this server's routes take and answer. The document is made at its first request.

Owns the document. `document` puts it together, `body_schemas` reads the classes that check bodies; each dialect says in
its `documented` what only it knows.
"""

from functools import cache
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from pagemill.api.context import ApiContext

PATH = "/openapi.json"


def routes(context: "ApiContext") -> list[BaseRoute]:
    """The one route."""
    settings = context.settings

    @cache
    def content(app: "Starlette") -> bytes:
        from pagemill.api.openapi.document import as_json

        return as_json(app.routes, needs_key=settings.needs_key)

    async def respond(request: Request) -> Response:
        return Response(content(request.app), media_type="application/json")

    return [Route(PATH, respond, methods=["GET"])]
