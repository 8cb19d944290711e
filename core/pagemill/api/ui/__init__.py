"""The chat page at `/ui/`: static files of this package, which talk to the OpenAI dialect from the browser.

Owns no state but the files, read at the first request. `page` serves them, `files` holds them.
"""

from functools import cache
from typing import TYPE_CHECKING

from starlette.routing import BaseRoute, Route

from pagemill.api.deferred import deferred

if TYPE_CHECKING:
    from pagemill.api.context import ApiContext
    from pagemill.api.ui.page import Page


def routes(context: "ApiContext") -> list[BaseRoute]:
    """The page's routes; none if the settings turn it off."""
    if not context.settings.ui:
        return []

    @cache
    def page() -> "Page":
        from pagemill.api.ui.page import Page

        return Page()

    return [
        Route("/ui", deferred(lambda: page().redirect), methods=["GET"]),
        Route("/ui/", deferred(lambda: page().serve), methods=["GET"]),
        Route("/ui/{name}", deferred(lambda: page().serve), methods=["GET"]),
    ]
