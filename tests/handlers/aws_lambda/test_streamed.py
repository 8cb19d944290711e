"""Streamed answers, against a Runtime API that takes them as they come."""

import asyncio
import base64
import json
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from pagemill.backends.fake import FakeBackend
from support.lambda_runtime import HELLO, REPLY, event, running_runtime

STREAMED = {**HELLO, "stream": True}
STEP_S = 0.02


def said(content: bytes) -> str:
    """The text of an SSE stream of chat chunks."""
    lines = [line.removeprefix("data: ") for line in content.decode().splitlines() if line]
    assert lines[-1] == "[DONE]"
    chunks = [json.loads(line) for line in lines[:-1]]
    return "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"])


@pytest.mark.parametrize("kind", ["function_url", "rest_api"])
async def test_sse_reaches_the_client_chunk_by_chunk_while_the_model_works(kind: str) -> None:
    async with running_runtime(FakeBackend(step_delay_s=STEP_S)) as running:
        invocation = await running.api.invoke(event(kind, STREAMED)).end()
    assert invocation.kind == "response"
    assert invocation.headers["lambda-runtime-function-response-mode"] == "streaming"
    assert invocation.headers["content-type"] == "application/vnd.awslambda.http-integration-response"
    assert said(invocation.content) == REPLY
    assert invocation.trailers == {}
    times = [time for time, _ in invocation.chunks]
    whole_s = len(REPLY) * STEP_S
    assert times[-1] - times[0] > whole_s * 0.8, "the stream came in one piece"
    assert len(invocation.chunks) > 10


async def test_status_and_headers_come_before_the_first_chunk() -> None:
    async with running_runtime(FakeBackend(step_delay_s=STEP_S)) as running:
        invocation = running.api.invoke(event("function_url", STREAMED))
        await invocation.num_chunks(1)
        first = invocation.body
        await invocation.end()
    head, separator, rest = first.partition(bytes(8))
    assert separator
    prelude = json.loads(head)
    assert prelude["statusCode"] == 200
    assert prelude["headers"]["content-type"] == "text/event-stream; charset=utf-8"
    assert prelude["headers"]["x-request-id"] == invocation.request_id
    assert prelude["cookies"] == []
    assert len(rest) < len(invocation.content) / 2


async def test_the_first_byte_comes_long_before_the_last() -> None:
    long_reply = [*b"word " * 40, 256]
    backend = FakeBackend(reply=lambda prompt: long_reply, step_delay_s=0.005)
    async with running_runtime(backend) as running:
        await running.api.invoke(event("function_url", {**STREAMED, "max_tokens": 1})).end()  # imports the dialect
        loop = asyncio.get_running_loop()
        start = loop.time()
        invocation = running.api.invoke(event("function_url", STREAMED))
        await invocation.num_chunks(2)
        first_s = loop.time() - start
        await invocation.end()
        whole_s = loop.time() - start
    assert whole_s > 0.5
    assert first_s < whole_s / 3


async def test_ndjson_is_streamed_line_by_line() -> None:
    body = {"model": "fake", "prompt": "hello", "options": {"temperature": 0}}
    async with running_runtime(FakeBackend(step_delay_s=STEP_S)) as running:
        invocation = await running.api.invoke(event("function_url", body, path="/api/generate")).end()
    assert invocation.prelude["headers"]["content-type"] == "application/x-ndjson"
    lines = [json.loads(line) for line in invocation.content.splitlines()]
    assert "".join(line["response"] for line in lines) == REPLY
    assert lines[-1]["done"]
    assert len(invocation.chunks) > 10


async def test_an_answer_in_one_piece_needs_no_mode_of_its_own() -> None:
    async with running_runtime() as running:
        invocation = await running.api.invoke(event("rest_api", HELLO)).end()
    assert invocation.prelude["statusCode"] == 200
    assert "content-length" not in invocation.prelude["headers"]
    assert json.loads(invocation.content)["choices"][0]["message"]["content"] == REPLY


async def test_a_bad_request_is_answered_with_its_status() -> None:
    async with running_runtime() as running:
        invocation = await running.api.invoke(event("function_url", {**STREAMED, "temperature": "hot"})).end()
        unknown = await running.api.invoke(event("function_url", HELLO, path="/nowhere")).end()
    assert (invocation.kind, invocation.prelude["statusCode"]) == ("response", 400)
    assert json.loads(invocation.content)["error"]["param"] == "temperature"
    assert unknown.prelude["statusCode"] == 404


async def test_a_wrong_key_is_refused() -> None:
    async with running_runtime(api_key=("secret",)) as running:
        refused = await running.api.invoke(event("function_url", HELLO)).end()
        with_key = event("function_url", HELLO)
        with_key["headers"]["x-api-key"] = "secret"
        accepted = await running.api.invoke(with_key).end()
    assert refused.prelude["statusCode"] == 401
    assert accepted.prelude["statusCode"] == 200


async def test_a_body_in_base64_is_decoded() -> None:
    encoded = event("function_url")
    encoded["body"] = base64.b64encode(encoded["body"].encode()).decode()
    encoded["isBase64Encoded"] = True
    async with running_runtime() as running:
        invocation = await running.api.invoke(encoded).end()
    assert json.loads(invocation.content)["choices"][0]["message"]["content"] == REPLY


async def test_binary_bodies_pass_unchanged_in_both_directions() -> None:
    async def echo(request: Request) -> Response:
        return Response(await request.body(), media_type="application/octet-stream")

    data = bytes(range(256)) * 300
    binary = event("function_url", path="/echo")
    binary["body"], binary["isBase64Encoded"] = base64.b64encode(data).decode(), True
    app = Starlette(routes=[Route("/echo", echo, methods=["POST"])])
    async with running_runtime(app=app) as running:
        invocation = await running.api.invoke(binary).end()
    assert invocation.content == data


async def test_method_path_query_cookies_and_client_reach_the_app() -> None:
    seen: dict[str, Any] = {}

    async def show(request: Request) -> Response:
        host = request.client and request.client.host
        query = request.query_params.multi_items()
        seen[request.headers["user-agent"]] = (request.method, request.scope["path"], query, request.cookies, host)
        response = PlainTextResponse("ok")
        response.set_cookie("a", "1")
        response.set_cookie("b", "2")
        response.headers.append("vary", "accept")
        response.headers.append("vary", "origin")
        return response

    url = event("function_url", path="/a%20b", method="GET")
    url["rawQueryString"] = "tag=x&tag=y%26z"
    url["headers"]["user-agent"] = "by url"
    rest = event("rest_api", path="/a b", method="GET")
    rest["multiValueQueryStringParameters"] = {"tag": ["x", "y&z"]}
    rest["multiValueHeaders"] |= {"User-Agent": ["by rest"], "Cookie": ["session=a1; theme=dark"]}
    async with running_runtime(app=Starlette(routes=[Route("/a b", show)])) as running:
        invocation = await running.api.invoke(url).end()
        await running.api.invoke(rest).end()
    items = [("tag", "x"), ("tag", "y&z")]
    cookies = {"session": "a1", "theme": "dark"}
    assert seen["by url"] == ("GET", "/a b", items, cookies, "203.0.113.7")
    assert seen["by rest"] == seen["by url"]
    assert [cookie.partition(";")[0] for cookie in invocation.prelude["cookies"]] == ["a=1", "b=2"]
    assert invocation.prelude["headers"]["vary"] == "accept, origin"


async def test_what_is_no_http_event_is_reported_as_an_error_that_says_so() -> None:
    payloads: list[Any] = [{"source": "aws.events"}, {}, [1], "warm up", None, {"requestContext": {}}]
    async with running_runtime() as running:
        for payload in payloads:
            invocation = await running.api.invoke(payload).end()
            assert invocation.kind == "error"
            assert invocation.headers["lambda-runtime-function-error-type"] == "InvalidRequestError"
            assert "HTTP events" in json.loads(invocation.body)["errorMessage"]
        after = await running.api.invoke(event("function_url", HELLO)).end()
    assert after.prelude["statusCode"] == 200


class BrokenApp(Starlette):
    """Lets out an exception, or nothing, where Starlette would answer."""

    def __init__(self, error: Exception | None) -> None:
        super().__init__()
        self.error = error

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.error is not None:
            raise self.error


@pytest.mark.parametrize(
    ("error", "reported"),
    [(ValueError("a bug"), "ValueError: a bug"), (None, "RuntimeError: the app ended without a response")],
)
@pytest.mark.parametrize("mode", ["streamed", "buffered"])
async def test_an_app_that_gives_no_response_is_reported_as_an_error(
    error: Exception | None, reported: str, mode: str
) -> None:
    async with running_runtime(app=BrokenApp(error), own={"mode": mode}) as running:
        for _ in range(2):  # the poller goes on
            invocation = await running.api.invoke(event("function_url")).end()
            assert invocation.kind == "error"
            body = json.loads(invocation.body)
            assert f"{body['errorType']}: {body['errorMessage']}" == reported


async def test_an_app_that_answers_and_then_fails_is_reported_in_trailers() -> None:
    async def fail(request: Request) -> Response:
        raise ValueError("a bug")  # Starlette answers 500, and lets it out

    async with running_runtime(app=Starlette(routes=[Route("/bug", fail)])) as running:
        invocation = await running.api.invoke(event("function_url", path="/bug", method="GET")).end()
    assert invocation.prelude["statusCode"] == 500
    assert invocation.trailers["lambda-runtime-function-error-type"] == "ValueError"


async def test_an_app_that_lingers_after_its_response_is_told_of_the_disconnect() -> None:
    class LingeringApp(Starlette):
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            received.append((await receive())["type"])
            await PlainTextResponse("done")(scope, receive, send)
            received.append((await receive())["type"])

    received: list[str] = []
    async with running_runtime(app=LingeringApp()) as running:
        invocation = await running.api.invoke(event("function_url")).end(5)
    assert invocation.content == b"done"
    assert received == ["http.request", "http.disconnect"]


async def test_an_error_in_mid_stream_comes_as_trailers() -> None:
    async def items() -> Any:
        yield b"first "
        raise ValueError("the model exploded")

    async def stream(request: Request) -> Response:
        return StreamingResponse(items())

    async with running_runtime(app=Starlette(routes=[Route("/s", stream)])) as running:
        invocation = await running.api.invoke(event("function_url", path="/s", method="GET")).end()
        after = await running.api.invoke(event("function_url", path="/s", method="GET")).end()
    assert invocation.content == b"first "
    assert invocation.headers["trailer"] == "Lambda-Runtime-Function-Error-Type, Lambda-Runtime-Function-Error-Body"
    assert invocation.trailers["lambda-runtime-function-error-type"] == "ValueError"
    assert invocation.trailer_error == {"errorType": "ValueError", "errorMessage": "the model exploded"}
    assert after.content == b"first ", "the poller goes on"


async def test_an_engine_that_dies_in_mid_stream_says_so_in_the_stream() -> None:
    num_plans = 0

    def break_down(plan: object) -> str | None:
        nonlocal num_plans
        num_plans += 1
        return "the card fell off the bus" if num_plans > 10 else None

    async with running_runtime(FakeBackend(fail_on=break_down, step_delay_s=0.005)) as running:
        invocation = await running.api.invoke(event("function_url", STREAMED)).end()
    assert invocation.prelude["statusCode"] == 200
    last = invocation.content.decode().rstrip().split("\n\n")
    assert any('"error"' in message for message in last[-2:])


async def test_a_request_past_its_deadline_is_answered_504_before_the_sandbox_is_killed() -> None:
    gate = asyncio.Event()
    own = {"deadline_margin_s": 1.0}
    async with running_runtime(before_load=lambda: _pass(gate), own=own) as running:
        loop = asyncio.get_running_loop()
        start = loop.time()
        invocation = await running.api.invoke(event("function_url", STREAMED), timeout_s=1.4).end()
        took_s = loop.time() - start
        gate.set()
    assert 0.3 < took_s < 1.4
    assert invocation.prelude["statusCode"] == 504
    assert json.loads(invocation.content)["error"]["code"] == "timeout"


async def _pass(gate: asyncio.Event) -> None:
    await gate.wait()


async def test_a_stream_past_its_deadline_ends_with_the_dialects_error() -> None:
    endless = FakeBackend(reply=lambda prompt: [*b"word " * 700], step_delay_s=0.01)
    async with running_runtime(endless, own={"deadline_margin_s": 1.0}) as running:
        sse = running.api.invoke(event("function_url", STREAMED), timeout_s=1.4)
        await sse.end()
        body = {"model": "fake", "prompt": "hello", "options": {"temperature": 0}}
        ndjson = await running.api.invoke(event("function_url", body, path="/api/generate"), timeout_s=1.4).end()
        assert running.engine.num_unfinished() == 0
    assert sse.prelude["statusCode"] == 200
    assert sse.content.count(b"chat.completion.chunk") > 10
    assert '"code":"timeout"' in sse.content.decode().replace(" ", "")
    assert "timeout" in json.loads(ndjson.content.splitlines()[-1])["error"]
    assert sse.trailers == {}


async def test_a_stream_that_stands_still_is_cut_off_at_the_deadline() -> None:
    async def items() -> Any:
        yield b"first "
        await asyncio.Event().wait()

    async def stream(request: Request) -> Response:
        return StreamingResponse(items())

    app = Starlette(routes=[Route("/s", stream)])
    async with running_runtime(app=app, own={"deadline_margin_s": 1.0}) as running:
        invocation = await running.api.invoke(event("function_url", path="/s", method="GET"), timeout_s=1.2).end()
    assert invocation.content == b"first "
    assert invocation.trailers["lambda-runtime-function-error-type"] == "RequestTimeoutError"
    assert "timeout" in invocation.trailer_error["errorMessage"]


async def test_a_connection_cut_in_mid_stream_frees_the_sequence_and_the_poller() -> None:
    endless = FakeBackend(reply=lambda prompt: [*b"word " * 700], step_delay_s=0.005)
    async with running_runtime(endless) as running:
        invocation = running.api.invoke(event("function_url", STREAMED), drop_after=5)
        await invocation.num_chunks(5)
        async with asyncio.timeout(5):
            while running.engine.num_unfinished():  # noqa: ASYNC110 - the engine has no event for it
                await asyncio.sleep(0.005)
        after = await running.api.invoke(event("function_url", {**HELLO, "max_tokens": 1})).end()
    assert after.prelude["statusCode"] == 200


@pytest.mark.parametrize("kind", ["http_api", "load_balancer"])
async def test_events_of_sources_that_cannot_stream_are_answered_whole(kind: str) -> None:
    async with running_runtime() as running:
        invocation = await running.api.invoke(event(kind, STREAMED)).end()
    assert "lambda-runtime-function-response-mode" not in invocation.headers
    assert invocation.answer["statusCode"] == 200
    assert said(invocation.answer["body"].encode()) == REPLY
