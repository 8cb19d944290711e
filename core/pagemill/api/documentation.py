"""The words in which each dialect documents its routes, beside them, for the OpenAPI document.

Owns no state. Bodies are described by the classes that check them; what answers look like is written down here, in JSON
schemas (`record`, `list_of`, ...), and tests hold real answers to them. Imported when the document is asked for.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pagemill.validated import Validated

Schema = Mapping[str, Any]

TEXT: Schema = {"type": "string"}
INTEGER: Schema = {"type": "integer"}
NUMBER: Schema = {"type": "number"}
BOOLEAN: Schema = {"type": "boolean"}
NULL: Schema = {"type": "null"}
ANYTHING: Schema = {}
OBJECT: Schema = {"type": "object"}
TIME: Schema = {"type": "string", "format": "date-time"}

JSON, SSE, NDJSON = "application/json", "text/event-stream", "application/x-ndjson"
PLAIN, HTML, BYTES = "text/plain", "text/html", "application/octet-stream"

ANY_REQUEST = (400, 401, 403, 413, 429, 500)  # what may come of it, whatever it asks
MODEL_REQUEST = (*ANY_REQUEST, 404, 502, 503, 504, 507)  # and of what a model answers, which may have to be fetched
PROBE = (400, 403, 413, 500, 503)  # those carry no key and are not counted


class Answer(NamedTuple):
    """A successful one. `content` says for each media type what it holds; of a stream, what one item of it holds."""

    description: str
    content: Mapping[str, Schema] = {}
    headers: Mapping[str, str] = {}  # with what they say


class Parameter(NamedTuple):
    """In the path, the query or the headers."""

    name: str
    place: str
    description: str = ""
    schema: Schema = TEXT


class Operation(NamedTuple):
    """One method of one route."""

    summary: str
    answers: Mapping[int, Answer]
    body: type[Validated] | Sequence[type[Validated]] | str | None = None  # classes, one of them; or a media type
    example: Mapping[str, Any] | None = None  # of a body
    errors: Sequence[int] = MODEL_REQUEST
    parameters: Sequence[Parameter] = ()
    is_open: bool = False  # needs no key
    has_other_errors: bool = False  # may answer in the shape of either client's dialect


class Dialect(NamedTuple):
    """The operations of a dialect by method and path, and what their answers refer to."""

    name: str
    description: str
    operations: Mapping[str, Operation]
    schemas: Mapping[str, Schema]  # by name; the dialect's error is `Error`


def record(required: Mapping[str, Schema], optional: Mapping[str, Schema] | None = None) -> Schema:
    """An object with these members and no others."""
    return {
        "type": "object",
        "properties": {**required, **(optional or {})},
        "required": list(required),
        "additionalProperties": False,
    }


def list_of(item: Schema) -> Schema:
    return {"type": "array", "items": item}


def mapping(value: Schema) -> Schema:
    return {"type": "object", "additionalProperties": value}


def one_of(*values: str) -> Schema:
    return {"type": "string", "enum": list(values)}


def any_of(*schemas: Schema) -> Schema:
    return {"anyOf": list(schemas)}


def nullable(schema: Schema) -> Schema:
    return any_of(schema, NULL)


def event(*kinds: str) -> Schema:
    """A server-sent event: its type, and what comes with it."""
    return {"type": "object", "properties": {"type": one_of(*kinds)}, "required": ["type"]}


def ref(name: str) -> Schema:
    """A schema of the document, by its whole name (`openai.Usage`)."""
    return {"$ref": f"#/components/schemas/{name}"}


def answered(name: str, stream: Mapping[str, Schema] | None = None) -> Mapping[int, Answer]:
    """With an object of that name, or if asked for, a stream of such items."""
    description = "The whole answer, or a stream of it." if stream else "The answer."
    return {200: Answer(description, {JSON: ref(name), **(stream or {})})}
