"""What every route shares: the pool, the settings, and the record of the exchange that it serves.

`ApiContext` is made once, by `create_app`. An `Exchange` lives as long as one request; the request middleware owns it
and puts it into the ASGI scope, the error middleware and the routes read it. Imports no dialect.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from starlette.types import Scope

from pagemill.errors import InvalidRequestError, ModelNotFoundError
from pagemill.settings import Settings

if TYPE_CHECKING:
    from pagemill.api.request_limits import RequestLimits
    from pagemill.api.tracing import Tracing
    from pagemill.pool import ModelPool
    from pagemill.store.registry.quantizing import Quantizer

EXCHANGE_KEY = "pagemill.exchange"


class ApiContext(NamedTuple):
    """What the routes of all dialects are built from."""

    pool: "ModelPool"
    settings: Settings
    limits: "RequestLimits | None" = None  # if requests are limited
    tracing: "Tracing | None" = None  # if they are traced
    make_quantizer: "Callable[[], Quantizer] | None" = None  # if models can be quantized


@dataclass(slots=True)
class Exchange:
    """One request and its response, for the access log and the error middleware."""

    request_id: str
    status: int | None = None  # None until the response has started
    model: str | None = None  # a route sets it once it knows
    key_id: str | None = None  # of the API key that it came with
    user: str | None = None  # the client's own name for its end user, from the body


def exchange(scope: Scope) -> Exchange:
    """The exchange of this scope. Every HTTP request has one: the outermost middleware makes it."""
    found = scope[EXCHANGE_KEY]
    assert isinstance(found, Exchange)
    return found


def request_id(scope: Scope) -> str:
    """The id of this request, as the X-Request-Id header of the response carries it."""
    return exchange(scope).request_id


def find_model(context: ApiContext, scope: Scope, name: str | None, user: str | None) -> str:
    """The name of the model that a request is for, if it gives none the default's. The exchange notes it, and what the
    client calls its end user.

    Raises:
        ModelNotFoundError: there is no such model.
        InvalidRequestError: it gives none, and there is no default.
    """
    record = exchange(scope)
    record.user = user
    if name is None:
        name = default_model(context.pool)
    try:
        context.pool.find(name)
    except ModelNotFoundError as error:
        raise ModelNotFoundError(f"The model {name!r} does not exist.", param="model") from error
    record.model = name
    return name


def default_model(pool: "ModelPool") -> str:
    """The name of the model of requests that give none.

    Raises:
        InvalidRequestError: there is no such model.
    """
    if pool.default is None:
        raise InvalidRequestError("model is required: this server has several, and none that goes first", param="model")
    return pool.default.name


def is_anthropic(scope: Scope) -> bool:
    """Whether the request is in the Anthropic dialect: by its path, or as its clients say of all their requests."""
    path = route_path(scope)
    if path == "/v1/messages" or path.startswith("/v1/messages/"):
        return True
    return any(name == b"anthropic-version" for name, _value in scope["headers"])


def route_path(scope: Scope) -> str:
    """The path as the routes know it, without the prefix (`root_path`) that a proxy put before it."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    if root and path.startswith(root) and path[len(root) : len(root) + 1] in ("", "/"):
        return path[len(root) :]
    return path
