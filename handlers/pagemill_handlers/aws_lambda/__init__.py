"""Pagemill as an AWS Lambda function. Which runtime loads what:

- a container image or custom runtime runs `python -m pagemill_handlers.aws_lambda`, a runtime of our own that streams;
- the managed Python runtime is given `pagemill_handlers.aws_lambda.managed.handler`, which buffers. `handler` here is
  the same without the load at import: its first call loads.

Importing this package loads nothing of Pagemill. The one state is the process's server, made at the first use.
"""

from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pagemill_handlers.aws_lambda.background import BackgroundServer


@cache
def process_server() -> "BackgroundServer":
    """This process's server, from the PAGEMILL_* variables; started at the first call.

    Raises:
        SettingsError, ModelNotFoundError, ModelLoadError: nothing can be served; says why.
    """
    from pagemill_handlers.aws_lambda.background import BackgroundServer

    server = BackgroundServer.from_environment()
    server.start()
    return server


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Answer one HTTP event (HTTP API, REST API, function URL, load balancer) with one buffered response."""
    return process_server().handle(event, context)
