"""Buffered answers, by Mangum, to whole events of the four kinds."""

import asyncio
import base64
import json
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from pagemill.backends.fake import FakeBackend
from support.lambda_runtime import HELLO, KINDS, REPLY, event, running_runtime

BUFFERED = {"mode": "buffered"}


def content(answer: dict[str, Any]) -> bytes:
    body: str = answer["body"]
    return base64.b64decode(body) if answer["isBase64Encoded"] else body.encode()


@pytest.mark.parametrize("kind", KINDS)
async def test_a_chat_is_answered_in_the_shape_that_the_source_wants(kind: str) -> None:
    async with running_runtime(own=BUFFERED) as running:
        invocation = await running.api.invoke(event(kind)).end()
    answer = invocation.answer
    assert invocation.headers["content-type"] == "application/json"
    assert answer["statusCode"] == 200
    assert not answer["isBase64Encoded"]
    assert json.loads(answer["body"])["choices"][0]["message"]["content"] == REPLY
    if kind == "load_balancer":
        assert answer["statusDescription"] == "200 OK"
        assert answer["multiValueHeaders"]["content-type"] == ["application/json"]
        assert "headers" not in answer
    else:
        assert answer["headers"]["content-type"] == "application/json"
        assert answer["headers"]["x-request-id"] == invocation.request_id


@pytest.mark.parametrize("kind", KINDS)
async def test_a_bad_request_is_answered_with_its_status(kind: str) -> None:
    async with running_runtime(own=BUFFERED) as running:
        invocation = await running.api.invoke(event(kind, {**HELLO, "temperature": "hot"})).end()
        unknown = await running.api.invoke(event(kind, HELLO, path="/nowhere")).end()
    assert invocation.answer["statusCode"] == 400
    assert json.loads(invocation.answer["body"])["error"]["param"] == "temperature"
    assert unknown.answer["statusCode"] == 404
    if kind == "load_balancer":
        assert unknown.answer["statusDescription"] == "404 Not Found"


async def test_a_load_balancer_without_several_values_gets_its_headers_singly() -> None:
    plain = event("load_balancer")
    plain["headers"] = {name: values[0] for name, values in plain.pop("multiValueHeaders").items()}
    plain["queryStringParameters"] = plain.pop("multiValueQueryStringParameters")
    async with running_runtime(own=BUFFERED) as running:
        answer = (await running.api.invoke(plain).end()).answer
    assert answer["headers"]["content-type"] == "application/json"
    assert "multiValueHeaders" not in answer


@pytest.mark.parametrize("kind", KINDS)
async def test_binary_bodies_pass_unchanged_in_both_directions(kind: str) -> None:
    async def echo(request: Request) -> Response:
        return Response(await request.body(), media_type="application/octet-stream")

    data = bytes(range(256)) * 300
    binary = event(kind, path="/echo")
    binary["body"], binary["isBase64Encoded"] = base64.b64encode(data).decode(), True
    app = Starlette(routes=[Route("/echo", echo, methods=["POST"])])
    async with running_runtime(app=app, own=BUFFERED) as running:
        answer = (await running.api.invoke(binary).end()).answer
    assert answer["isBase64Encoded"]
    assert content(answer) == data


async def test_a_stream_is_answered_whole_and_as_text() -> None:
    body = {"model": "fake", "prompt": "hello", "options": {"temperature": 0}}
    async with running_runtime(own=BUFFERED) as running:
        answer = (await running.api.invoke(event("function_url", body, path="/api/generate")).end()).answer
    assert answer["headers"]["content-type"] == "application/x-ndjson"
    assert not answer["isBase64Encoded"]
    assert "".join(json.loads(line)["response"] for line in answer["body"].splitlines()) == REPLY


@pytest.mark.parametrize("kind", KINDS)
async def test_an_answer_above_the_limit_is_a_413_that_says_so(kind: str) -> None:
    async def big(request: Request) -> Response:
        return PlainTextResponse("x" * int(request.query_params["size"]))

    def asking(size: int) -> dict[str, Any]:
        found = event(kind, path="/big", method="GET")
        found["rawQueryString"] = f"size={size}"
        found["multiValueQueryStringParameters"] = {"size": [str(size)]}
        return found

    async with running_runtime(app=Starlette(routes=[Route("/big", big)]), own=BUFFERED) as running:
        fits = await running.api.invoke(asking(6_291_556 - 1000)).end()
        over = await running.api.invoke(asking(6_291_556)).end()
    assert fits.answer["statusCode"] == 200
    assert len(fits.body) <= 6_291_556
    assert over.kind == "response"
    assert over.answer["statusCode"] == 413
    error = json.loads(over.answer["body"])["error"]
    assert error["code"] == "payload_too_large"
    assert "6291556" in error["message"]


async def test_the_limit_is_told_in_the_dialect_that_was_asked_and_is_a_setting() -> None:
    wordy = FakeBackend(reply=lambda prompt: [*b"word " * 300])
    body = {"model": "fake", "prompt": "hello", "stream": False, "options": {"temperature": 0, "num_predict": 1200}}
    async with running_runtime(wordy, own={**BUFFERED, "max_response_bytes": 1024}) as running:
        invocation = await running.api.invoke(event("http_api", body, path="/api/generate")).end()
    assert invocation.answer["statusCode"] == 413
    assert "1024" in json.loads(invocation.answer["body"])["error"]


async def test_bytes_are_counted_as_they_are_sent() -> None:
    async def cjk(request: Request) -> Response:
        return PlainTextResponse("字" * 300)  # 900 bytes in UTF-8, 1,800 escaped

    app = Starlette(routes=[Route("/cjk", cjk)])
    async with running_runtime(app=app, own={**BUFFERED, "max_response_bytes": 1200}) as running:
        invocation = await running.api.invoke(event("function_url", path="/cjk", method="GET")).end()
    assert invocation.answer["body"] == "字" * 300
    assert len(invocation.body) <= 1200


@pytest.mark.parametrize("stream", [False, True])
async def test_a_request_past_its_deadline_is_answered_before_the_sandbox_is_killed(stream: bool) -> None:
    endless = FakeBackend(reply=lambda prompt: [*b"word " * 700], step_delay_s=0.01)
    async with running_runtime(endless, own={**BUFFERED, "deadline_margin_s": 1.0}) as running:
        loop = asyncio.get_running_loop()
        start = loop.time()
        invocation = await running.api.invoke(event("http_api", {**HELLO, "stream": stream}), timeout_s=1.4).end()
        took_s = loop.time() - start
        assert running.engine.num_unfinished() == 0
    assert took_s < 1.4
    assert invocation.answer["statusCode"] == (200 if stream else 504)
    assert '"code":"timeout"' in invocation.answer["body"].replace(" ", "")


async def test_a_stream_that_stands_still_is_a_504_since_nothing_of_it_was_sent() -> None:
    async def items() -> Any:
        yield b"first "
        await asyncio.Event().wait()

    async def stream(request: Request) -> Response:
        return StreamingResponse(items())

    app = Starlette(routes=[Route("/s", stream)])
    own = {**BUFFERED, "deadline_margin_s": 1.0}
    async with running_runtime(app=app, own=own) as running:
        invocation = await running.api.invoke(event("http_api", path="/s", method="GET"), timeout_s=1.2).end()
    assert invocation.answer["statusCode"] == 504
    assert "first" not in invocation.answer["body"]


async def test_what_is_no_http_event_is_reported_as_an_error_that_says_so() -> None:
    async with running_runtime(own=BUFFERED) as running:
        invocation = await running.api.invoke({"Records": []}).end()
    assert invocation.kind == "error"
    assert "Records" in json.loads(invocation.body)["errorMessage"]
