"""The OpenAPI document, put together from the routes that a server has and what their dialects say of them.

Owns no state. A route that no dialect documents is left out here; a test refuses it.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from starlette.routing import BaseRoute, Route

from pagemill import __version__
from pagemill.api.anthropic.documented import ANTHROPIC
from pagemill.api.documentation import BYTES, JSON, TEXT, Answer, Dialect, Operation, Parameter, Schema, any_of, ref
from pagemill.api.embeddings.documented import EMBEDDINGS
from pagemill.api.ollama.documented import OLLAMA
from pagemill.api.openai.documented import OPENAI
from pagemill.api.openapi.body_schemas import BodySchemas
from pagemill.api.operations.documented import OPERATIONS
from pagemill.api.ui.documented import UI

DIALECTS = (OPENAI, ANTHROPIC, EMBEDDINGS, OLLAMA, OPERATIONS, UI)
STREAMED = {"text/event-stream": "server-sent events", "application/x-ndjson": "lines of JSON"}
PATH_PARAMETER = re.compile(r"\{(\w+)(?::\w+)?\}")
DESCRIPTION = (
    "What this server takes and answers. Fields of bodies that it does not know are refused, unless they are null. "
    "Requests that carry the header `anthropic-version` get errors in Anthropic's shape, on every path but /api."
)
ERRORS = {
    400: "A value is wrong or not supported; the message names the field.",
    401: "The API key is missing or wrong.",
    403: "Not from here, or not by you: the host, the page's origin, or what is to be changed is not allowed.",
    404: "There is no such model, or nothing of that name.",
    413: "The body is too large.",
    429: "This client has asked too much for now.",
    500: "The server failed; its log has the details under the request's id.",
    501: "This server can't do that as it is set up; the message says what it lacks.",
    502: "Where the model is to come from does not answer, or answers wrongly.",
    503: "Not now: the queue is full, the model is loading, or the server is shutting down.",
    504: "It took longer than a request may.",
    507: "The disk has no room for the model.",
}
RETRY_LATER = frozenset({429, 503})
HEADERS = {
    "x-request-id": "The request's id: the one that it came with, or a new one.",
    "retry-after": "When to try again, in seconds.",
    "www-authenticate": "How to say who you are.",
}
SECURITY_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "One of the server's API keys."},
    "x-api-key": {
        "type": "apiKey",
        "in": "header",
        "name": "x-api-key",
        "description": "The same, as Anthropic has it.",
    },
}
ANY_KEY: Sequence[Mapping[str, Sequence[str]]] = tuple({name: ()} for name in SECURITY_SCHEMES)


class Documented(NamedTuple):
    """An operation, and whose it is."""

    dialect: Dialect
    operation: Operation


def documented() -> dict[str, Documented]:
    """All operations, by method and path as their routes have it (`GET /v1/models/{model:path}`)."""
    return {key: Documented(dialect, said) for dialect in DIALECTS for key, said in dialect.operations.items()}


def route_keys(routes: Sequence[BaseRoute]) -> Iterator[str]:
    """The methods and paths of routes. HEAD goes without saying where there is GET."""
    for route in routes:
        if isinstance(route, Route):
            methods = route.methods or set()
            yield from (
                f"{method} {route.path}" for method in sorted(methods) if method != "HEAD" or "GET" not in methods
            )


def as_json(routes: Sequence[BaseRoute], *, needs_key: bool) -> bytes:
    """The document of these routes."""
    return json.dumps(document(routes, needs_key=needs_key), ensure_ascii=False, separators=(",", ":")).encode()


def document(routes: Sequence[BaseRoute], *, needs_key: bool) -> dict[str, Any]:
    """The same, as an object. With `needs_key` all that is not open needs a key."""
    known, bodies = documented(), BodySchemas()
    paths: dict[str, dict[str, Any]] = {}
    for key in dict.fromkeys(route_keys(routes)):
        if key in known:
            method, _, path = key.partition(" ")
            shown = PATH_PARAMETER.sub(r"{\1}", path)
            paths.setdefault(shown, {})[method.lower()] = _operation(method, path, known[key], bodies)
    answers = _answer_schemas()
    assert answers.keys().isdisjoint(bodies.named), "an answer and a class of bodies have the same name"
    return {
        "openapi": "3.1.1",
        "info": {
            "title": "Pagemill",
            "version": __version__,
            "description": DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "."}],  # where the document is, also behind a proxy's prefix
        "tags": [{"name": dialect.name, "description": dialect.description} for dialect in DIALECTS],
        "security": list(ANY_KEY) if needs_key else [],
        "paths": paths,
        "components": {
            "schemas": {**answers, **dict(sorted(bodies.named.items()))},
            "responses": _error_responses(),
            "headers": {name: {"description": text, "schema": TEXT} for name, text in HEADERS.items()},
            "securitySchemes": SECURITY_SCHEMES,
        },
    }


def _answer_schemas() -> dict[str, Schema]:
    return {f"{dialect.name}.{name}": schema for dialect in DIALECTS for name, schema in dialect.schemas.items()}


def _error_responses() -> dict[str, Any]:
    return {
        f"{dialect.name}.{status}": _error_response(status, dialect)
        for dialect in DIALECTS
        if "Error" in dialect.schemas
        for status in ERRORS
    }


def _error_response(status: int, dialect: Dialect) -> dict[str, Any]:
    names = ["x-request-id"]
    if status in RETRY_LATER:
        names.append("retry-after")
    if status == 401:
        names.append("www-authenticate")
    schema = ref(f"{dialect.name}.Error")
    return {"description": ERRORS[status], "headers": _headers(names), "content": {JSON: {"schema": schema}}}


def _headers(names: Sequence[str]) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _operation(method: str, path: str, known: Documented, bodies: BodySchemas) -> dict[str, Any]:
    dialect, operation = known
    described = {parameter.name for parameter in operation.parameters if parameter.place == "path"}
    in_path = [Parameter(name, "path") for name in PATH_PARAMETER.findall(path) if name not in described]
    shown: dict[str, Any] = {
        "tags": [dialect.name],
        "summary": operation.summary,
        "operationId": re.sub(r"\W+", "_", method.lower() + PATH_PARAMETER.sub(r"\1", path)),
        "responses": {
            **{str(status): _answer(answer) for status, answer in operation.answers.items()},
            **{str(status): _error(status, known) for status in sorted(operation.errors)},
        },
    }
    if parameters := [*in_path, *operation.parameters]:
        shown["parameters"] = [_parameter(parameter) for parameter in parameters]
    if operation.body is not None:
        shown["requestBody"] = _body(operation, bodies)
    if operation.is_open:
        shown["security"] = []
    return shown


def _error(status: int, known: Documented) -> dict[str, Any]:
    if known.operation.has_other_errors:
        shapes = any_of(ref("openai.Error"), ref("anthropic.Error"))
        return {
            "description": ERRORS[status],
            "headers": _headers(["x-request-id"]),
            "content": {JSON: {"schema": shapes}},
        }
    name = known.dialect.name if "Error" in known.dialect.schemas else "openai"
    return {"$ref": f"#/components/responses/{name}.{status}"}


def _answer(answer: Answer) -> dict[str, Any]:
    shown: dict[str, Any] = {"description": answer.description}
    own = {name: {"description": text, "schema": TEXT} for name, text in answer.headers.items()}
    shown["headers"] = {**_headers(["x-request-id"]), **own}
    if answer.content:
        shown["content"] = {kind: _content(kind, schema) for kind, schema in answer.content.items()}
    return shown


def _content(kind: str, schema: Schema) -> dict[str, Any]:
    if kind not in STREAMED:
        return {"schema": schema}
    # OpenAPI 3.1 has no word for what an item of a stream is; 3.2 calls it itemSchema. What `schema` means of a stream
    # is not agreed on (the text, or an item), so it says nothing of the type.
    return {"schema": {"description": f"A stream of {STREAMED[kind]}."}, "x-item-schema": schema}


def _parameter(parameter: Parameter) -> dict[str, Any]:
    return {
        "name": parameter.name,
        "in": parameter.place,
        "required": parameter.place == "path",
        "schema": parameter.schema,
        **({"description": parameter.description} if parameter.description else {}),
    }


def _body(operation: Operation, bodies: BodySchemas) -> dict[str, Any]:
    body = operation.body
    if isinstance(body, str):
        return {"required": True, "content": {body: {"schema": {} if body == BYTES else TEXT}}}
    assert body is not None
    classes = [body] if isinstance(body, type) else body
    schemas = [bodies.of_body(cls) for cls in classes]
    content: dict[str, Any] = {"schema": schemas[0] if len(schemas) == 1 else any_of(*schemas)}
    if operation.example is not None:
        content["example"] = operation.example
    return {"required": True, "content": {JSON: content}}
