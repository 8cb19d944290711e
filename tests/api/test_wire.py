"""Reading request bodies: paths, values and unknown fields in error messages."""

import gzip
from typing import Annotated, Any

import pytest
from starlette.requests import Request
from starlette.types import Message

from pagemill.api.errors import anthropic_error, ollama_error, openai_error
from pagemill.api.wire import WireModel, only, read_json, read_part
from pagemill.errors import InvalidRequestError, QueueFullError, UnsupportedParameterError


class Inner(WireModel):
    name: str
    size: int | None = None


class Body(WireModel):
    items: list[Inner] | None = None
    value: str | list[str] | None = None
    number: float | None = None
    whatever: Any = None


class Part(WireModel):
    inner: Inner
    odd: Annotated[Any, only(None, 1)] = None


async def read(text: str | bytes, *headers: tuple[bytes, bytes]) -> Body:
    async def receive() -> Message:
        return {"type": "http.request", "body": text if isinstance(text, bytes) else text.encode()}

    return await read_json(Request({"type": "http", "headers": headers}, receive), Body)


async def failure(text: str | bytes) -> InvalidRequestError:
    with pytest.raises(InvalidRequestError) as caught:
        await read(text)
    return caught.value


async def test_good_body_is_read() -> None:
    body = await read('{"items": [{"name": "a"}], "value": ["x"], "number": 1}')
    assert body == Body(items=[Inner(name="a")], value=["x"], number=1.0)


@pytest.mark.parametrize(
    ("text", "param", "shown"),
    [
        ('{"items": [{"name": "a"}, {"name": 5}]}', "items[1].name", "5"),
        ('{"items": [{"size": 1}]}', "items[0].name", "required"),
        ('{"items": {"name": "a"}}', "items", "{'name': 'a'}"),
        ('{"value": 5}', "value", "5"),
        ('{"value": [5]}', "value[0]", "5"),
        ('{"whatever": [1, {"deep": [1e999]}]}', "whatever", "inf"),
        ('{"whatever": NaN}', "whatever", "are not JSON"),
        ('{"whatever": {"x": -Infinity}}', "whatever", "are not JSON"),
        ('{"number": "1"}', "number", "'1'"),
        ('{"number": true}', "number", "True"),
    ],
)
async def test_wrong_value_is_named_by_its_path(text: str, param: str, shown: str) -> None:
    error = await failure(text)
    assert error.param is not None
    assert error.param.startswith(param)
    assert error.message.startswith(error.param)
    assert shown in error.message


async def test_unknown_field_is_unsupported() -> None:
    error = await failure('{"other": 1}')
    assert isinstance(error, UnsupportedParameterError)
    assert error.param == "other"
    nested = await failure('{"items": [{"name": "a", "colour": null}]}')
    assert isinstance(nested, UnsupportedParameterError)
    assert nested.param == "items[0].colour"


async def test_unknown_field_with_null_is_absent() -> None:
    assert await read('{"other": null, "number": 2}') == Body(number=2.0)


async def test_null_beside_a_real_error_does_not_hide_it() -> None:
    assert (await failure('{"other": null, "number": "x"}')).param == "number"


@pytest.mark.parametrize("text", ["", " \n", b"\x00", "{", "[1", "nul", '{"a": 1,}', '{"a": 01}', b'{"value": "\xff"}'])
async def test_no_json_is_said_to_be_none(text: str | bytes) -> None:
    error = await failure(text)
    assert "missing request body" in error.message or "not valid JSON" in error.message
    assert error.param is None


async def test_a_compressed_body_is_refused_by_its_encoding() -> None:
    with pytest.raises(UnsupportedParameterError, match=r"^Content-Encoding 'gzip' is not supported"):
        await read(gzip.compress(b"{}"), (b"content-encoding", b"gzip"))
    assert await read('{"number": 2}', (b"content-encoding", b"identity")) == Body(number=2.0)


@pytest.mark.parametrize("text", ["[]", "5", "null", '"x"'])
async def test_json_that_is_no_object_is_said_to_be_none(text: str) -> None:
    assert (await failure(text)).message.startswith("the request body")


def test_a_part_is_read_with_nulls_as_absent() -> None:
    value = {"inner": {"name": "a"}, "odd": None, "unknown": None}
    assert read_part(value, Part, "parts[2]") == Part(inner=Inner(name="a"))


@pytest.mark.parametrize(
    ("value", "param"),
    [
        ({}, "parts[2].inner"),
        ({"inner": {"name": 5}}, "parts[2].inner.name"),
        ({"inner": {"name": "a", "more": 1}}, "parts[2].inner.more"),
        ({"inner": {"name": "a"}, "unknown": 1}, "parts[2].unknown"),
        ({"inner": {"name": "a"}, "odd": 2}, "parts[2].odd"),
    ],
)
def test_what_is_wrong_in_a_part_is_named_by_its_place_in_the_request(value: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        read_part(value, Part, "parts[2]")
    assert caught.value.param == param
    assert caught.value.message.startswith(param)


def test_error_shapes_of_the_dialects() -> None:
    error: Any = InvalidRequestError("wrong", param="n")
    assert openai_error(error) == {
        "error": {"message": "wrong", "type": "invalid_request_error", "param": "n", "code": "invalid_value"}
    }
    assert ollama_error(error) == {"error": "wrong"}
    assert anthropic_error(error, "r1") == {
        "type": "error",
        "error": {"type": "invalid_request_error", "message": "wrong"},
        "request_id": "r1",
    }
    assert ollama_error(QueueFullError("x")) == {
        "error": "server busy, please try again.  maximum pending requests exceeded"
    }
