"""Request bodies: read, parse and validate JSON, and say precisely what is wrong with it.

Owns no state. The size limit is held by `BodyLimitMiddleware`, for every route alike; a body that is too large raises
`PayloadTooLargeError` from here.
"""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from starlette.requests import Request

from pagemill.errors import InvalidRequestError, UnsupportedParameterError
from pagemill.validated import After, Validated, ValidationError

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

Model = TypeVar("Model", bound="WireModel")

MAX_SHOWN_VALUE = 120  # characters of a wrong value that an error message repeats


class WireModel(Validated):
    """Base of request bodies: no type coercion beyond JSON's own, no NaN, unknown fields are an error (unless null:
    that asks for nothing). `hints` says for some unknown fields what to do instead. `unnamed` are fields whose names
    are none in Python, which a class takes by itself, with their JSON schemas.
    """

    hints: ClassVar[Mapping[str, str]] = {}
    unnamed: ClassVar[Mapping[str, Mapping[str, Any]]] = {}

    strict_types = True


async def read_json(request: Request, model: type[Model]) -> Model:
    """The request's body as a `model`.

    Raises:
        InvalidRequestError: no body, no JSON, or a wrong value; names the field and the value.
        UnsupportedParameterError: a field that the model does not have (if it forbids extras); a compressed body.
        PayloadTooLargeError: the body is larger than the `max_body_bytes` setting.
    """
    encoding = request.headers.get("content-encoding", "identity")
    if encoding != "identity":
        raise UnsupportedParameterError(f"Content-Encoding {shown(encoding)} is not supported: send the body as it is")
    body = await request.body()
    if not body.strip():
        raise InvalidRequestError("missing request body")
    return _validate(body, model)


def _validate(body: bytes, model: type[Model]) -> Model:
    try:
        return model.from_json(body)
    except ValidationError as error:
        item = _first_error(error)
        if item is not None:
            # pydantic's text would repeat the whole input
            raise _explain(item, _parse(body), model, among=error.errors(include_url=False)) from None
    given = {key: value for key, value in json.loads(body).items() if value is not None}
    return _validate(json.dumps(given).encode(), model)


def _first_error(error: ValidationError) -> "ErrorDetails | None":
    """The first error that is not just an unknown top-level field whose value is null."""
    for item in error.errors(include_url=False):
        if item["type"] != "extra_forbidden" or item["input"] is not None or len(item["loc"]) > 1:
            return item
    return None


def read_part(value: Mapping[str, Any], model: type[Model], path: str) -> Model:
    """A part of a body, which is at `path`, as a `model`. A null is the same as an absent field.

    Raises:
        InvalidRequestError: a wrong value; names the field and the value.
        UnsupportedParameterError: a field that the model does not have.
    """
    try:
        return model(**{name: item for name, item in value.items() if item is not None})
    except ValidationError as error:
        found = error.errors(include_url=False)
        wrong = _explain(found[0], value, model, among=found)
    except InvalidRequestError as error:
        wrong = error
    raise type(wrong)(f"{path}.{wrong.message}", param=f"{path}.{wrong.param}")


def _explain(
    item: "ErrorDetails", body: Any, model: type[Validated], *, among: "Sequence[ErrorDetails]"
) -> InvalidRequestError:
    """Of a value that may be one thing or another there are several errors: the one deepest inside says most."""
    if item["type"] == "json_invalid":
        return InvalidRequestError(f"the request body is not valid JSON: {item['ctx']['error']}")
    path = _path_in(body, item["loc"], item["type"])
    for other in among:
        inside = _path_in(body, other["loc"], other["type"])
        if path and inside and inside.startswith((f"{path}.", f"{path}[")):
            item, path = other, inside
    name = path or "the request body"
    if item["type"] == "extra_forbidden":
        hint = getattr(model, "hints", {}).get(path)
        message = f"{name} is not supported, got {shown(item['input'])}" + (f"; {hint}" if hint else "")
        return UnsupportedParameterError(message, param=path)
    if item["type"] == "missing":
        return InvalidRequestError(f"{name} is required", param=path)
    cause = item.get("ctx", {}).get("error")
    if isinstance(cause, InvalidRequestError):
        return cause
    message = str(cause) if isinstance(cause, ValueError) else item["msg"]
    return InvalidRequestError(f"{name}: {message}, got {shown(item['input'])}", param=path)


def only(*values: object) -> After:
    """Accept just these values, the ones that ask for what this server does anyway."""

    def check(value: Any, name: str) -> Any:
        if not any(value == allowed and type(value) is type(allowed) for allowed in values):
            raise UnsupportedParameterError(f"{name} {shown(value)} is not supported", param=name)
        return value

    return After(check, {"enum": list(values)})


def check_count(name: str, count: int, limit: int, setting: str) -> None:
    """Raises InvalidRequestError if `count` of what the field `name` holds is more than the setting allows."""
    if count > limit:
        raise InvalidRequestError(f"{name}: at most {limit} (setting {setting}), got {count}", param=name)


def shown(value: object) -> str:
    """A value for an error message: its repr, cut if it is long."""
    text = repr(value)
    return text if len(text) <= MAX_SHOWN_VALUE else text[:MAX_SHOWN_VALUE] + "..."


def _parse(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _path_in(data: Any, location: Sequence[str | int], kind: str) -> str | None:
    """`messages[0].role`: the part of pydantic's location that is in the request (it also names union branches)."""
    path = ""
    for position, key in enumerate(location):
        if isinstance(data, dict) and isinstance(key, str):
            if key not in data and not (kind == "missing" and position == len(location) - 1):
                continue
            path += f".{key}" if path else key
            data = data.get(key)
        elif isinstance(data, list) and isinstance(key, int) and key < len(data):
            path += f"[{key}]"
            data = data[key]
    return path or None
