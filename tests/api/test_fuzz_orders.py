"""Whatever comes in whatever order, and is given up at whatever moment: nothing is lost, nothing is left.

Requests of all dialects, loads and unloads at once, on servers of their own processes: the fake backend, and the demo
model on llama.cpp.
"""

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import httpx
import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.api_server import wait_until
from support.model_server import FLAGS
from support.served_process import served_process

pytestmark = pytest.mark.slow

MAX_GROWTH_BYTES = 8 * 2**20
NUM_ORDERS = 20

MESSAGES = [{"role": "user", "content": "Once upon a time"}]
TEXT = {"prompt": "Once upon a time", "max_tokens": 20}
ASKED: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "chat": ("/v1/chat/completions", {"messages": MESSAGES, "max_tokens": 20}),
    "choices": ("/v1/chat/completions", {"messages": MESSAGES, "max_tokens": 20, "n": 3, "stream": True}),
    "prompts": ("/v1/completions", {**TEXT, "prompt": ["One", "Two", "Three"], "stream": True}),
    "json": ("/v1/completions", {**TEXT, "response_format": {"type": "json_object"}}),
    "scored": ("/v1/completions", {**TEXT, "prompt_logprobs": 1, "logprobs": 1}),
    "response": ("/v1/responses", {"input": "Hello", "max_output_tokens": 20, "stream": True}),
    "message": ("/v1/messages", {"messages": MESSAGES, "max_tokens": 20, "stream": True}),
    "generate": ("/api/generate", {"prompt": "Hello", "options": {"num_predict": 20}}),
    "tokens": ("/tokenize", {"prompt": "Hello"}),
    "wrong": ("/v1/completions", {**TEXT, "temperature": -1}),
    "load": ("/api/generate", {}),
    "unload": ("/api/generate", {"keep_alive": 0}),
}
ALWAYS_NAMED = ("/api/generate", "/v1/messages")  # their requests have to name the model


class Request(NamedTuple):
    """What is asked, when, and after how many bytes of its answer the client goes away (None: it stays)."""

    name: str
    after_ms: int
    cut_at: int | None


REQUESTS = st.builds(
    Request,
    st.sampled_from(sorted(ASKED)),
    st.integers(0, 40),
    st.none() | st.integers(0, 800),
)


@dataclass(frozen=True, slots=True)
class Served:
    """A server, by what can be seen of it from outside."""

    url: str
    model: str
    process: psutil.Process

    def metric(self, name: str) -> float:
        """The sum over all models."""
        lines = httpx.get(f"{self.url}/metrics").text.splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"pagemill_{name}{{"))

    def is_idle(self) -> bool:
        names = ("num_requests_running", "num_requests_waiting", "kv_cache_usage_perc")
        load: int = httpx.get(f"{self.url}/load").json()["server_load"]
        return load == 0 and all(self.metric(name) == 0 for name in names)

    def body(self, name: str) -> tuple[str, dict[str, Any]]:
        path, body = ASKED[name]
        return self.url + path, {**body, **({"model": self.model} if path in ALWAYS_NAMED else {})}


@pytest.fixture(scope="module", params=["fake", "grist"])
def served(request: pytest.FixtureRequest) -> Iterator[Served]:
    flags = ("--port", "0") if request.param == "fake" else FLAGS
    delay_s = 0.001 if request.param == "fake" else None
    with served_process(request.param, *flags, step_delay_s=delay_s) as running:
        model = httpx.get(f"{running.address}/v1/models").json()["data"][0]["id"]
        yield Served(running.address, model, psutil.Process(running.process.pid))


async def run_all(served: Served, order: list[Request]) -> None:
    async with httpx.AsyncClient(timeout=60, limits=httpx.Limits(max_connections=None)) as http:
        await asyncio.gather(*(ask(served, http, request) for request in order))


async def ask(served: Served, http: httpx.AsyncClient, request: Request) -> None:
    """Fails unless the answer is one that there may be: a good one, or one that was cut off by an unload."""
    await asyncio.sleep(request.after_ms / 1000)
    url, body = served.body(request.name)
    async with http.stream("POST", url, json=body) as answer:
        read = b""
        async for piece in answer.aiter_bytes():
            read += piece
            if request.cut_at is not None and len(read) >= request.cut_at:
                return
        expected = (400,) if request.name == "wrong" else (200, 503)
        assert answer.status_code in expected, (request, answer.status_code, read)
        if answer.status_code != 200:
            assert b"error" in read


@settings(max_examples=NUM_ORDERS, deadline=None, suppress_health_check=list(HealthCheck), database=None)
@given(st.lists(REQUESTS, min_size=1, max_size=16))
def test_any_order_of_requests_loads_and_unloads_leaves_nothing(served: Served, order: list[Request]) -> None:
    asyncio.run(run_all(served, order))
    wait_until(served.is_idle)
    url, body = served.body("chat")
    assert httpx.post(url, json=body, timeout=60).json()["choices"][0]["finish_reason"] in ("stop", "length")


def test_many_orders_take_no_more_memory_than_a_few(served: Served) -> None:
    everything = [Request(name, 3 * number, None) for number, name in enumerate(ASKED)]
    cut = [request._replace(cut_at=100) for request in everything]
    sizes = []
    for _ in range(12):
        asyncio.run(run_all(served, [*everything, *cut]))
        wait_until(served.is_idle)
        sizes.append(served.process.memory_info().rss)
    assert min(sizes[6:]) - min(sizes[:6]) < MAX_GROWTH_BYTES, [size >> 20 for size in sizes]
