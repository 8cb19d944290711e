"""Real servers for tests: the whole app on the fake backend, under uvicorn, on a free port of 127.0.0.1."""

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import openai
import uvicorn
from starlette.applications import Starlette

from pagemill.api.app import create_app
from pagemill.backends.fake import FakeBackend
from pagemill.engine.engine import Engine, EngineConfig
from pagemill.memory_need import MemoryNeed
from pagemill.pool import LoadedModel, ModelPool
from pagemill.prompts.chat_template import ChatTemplate
from pagemill.settings import Settings
from pagemill.store.catalog import Catalog
from pagemill.store.references import ModelReference, Reference

STARTED_WITHIN_S = 20.0


def fake_reference(name: str = "fake", *aliases: str) -> ModelReference:
    """A reference that no store made."""
    names = (name, f"{name}:latest", *aliases)
    return ModelReference(name, names, Path("fake"), "fake", 0, datetime(2026, 1, 1, tzinfo=UTC))


@dataclass
class RunningServer:
    """A server that listens, with its insides for tests to look at (but not to call: they live on its thread)."""

    port: int
    app: Starlette
    pool: ModelPool
    backend: FakeBackend
    settings: Settings
    engines: list[Engine] = field(default_factory=list)
    http: httpx.Client = field(default_factory=lambda: httpx.Client(timeout=30, verify=False, trust_env=False))
    clients: ExitStack = field(default_factory=ExitStack)  # that end with the server

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def engine(self) -> Engine:
        return self.engines[-1]

    def post(self, path: str, body: Any, **options: Any) -> httpx.Response:
        return self.http.post(self.url + path, json=body, **options)

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.http.get(self.url + path, **options)

    def client(self, **options: Any) -> openai.OpenAI:
        options = {"api_key": "none", "max_retries": 0, "timeout": 30, **options}
        return self.clients.enter_context(openai.OpenAI(base_url=self.url + "/v1", **options))

    def async_client(self, **options: Any) -> openai.AsyncOpenAI:
        options = {"api_key": "none", "max_retries": 0, "timeout": 30, **options}
        return openai.AsyncOpenAI(base_url=self.url + "/v1", **options)


Serve = Callable[..., RunningServer]


def wait_until(condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
    """Fail unless the condition comes true in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "what was waited for did not happen"
        time.sleep(0.005)


def is_idle(server: RunningServer) -> bool:
    """Nothing runs, and no sequence owns KV."""
    load: int = server.get("/load").json()["server_load"]
    return load == 0 and server.engine.num_unfinished() == 0 and server.engine.stats().kv.used_tokens == 0


def assert_idle(server: RunningServer) -> None:
    """Idle soon (a connection may end before its last request has begun), and the next request is answered."""
    wait_until(lambda: is_idle(server))
    assert server.post("/v1/completions", {"prompt": "x", "max_tokens": 1}).status_code == 200


@contextmanager
def running_server(
    backend: FakeBackend | None = None,
    *,
    config: EngineConfig | None = None,
    reference: ModelReference | None = None,
    wait_ready: bool = True,
    load_delay_s: float = 0.0,
    **settings: Any,
) -> Iterator[RunningServer]:
    """Serve the fake backend until the block ends, then shut down as a signal would."""
    backend = backend or FakeBackend()
    engines: list[Engine] = []
    checked = Settings(model="fake", **{"drain_timeout_s": 1.0, **settings})

    async def load(reference: Reference, need: MemoryNeed | None) -> LoadedModel:
        assert isinstance(reference, ModelReference)
        await asyncio.sleep(load_delay_s)
        backend.closed = False  # it stands for what a second load would make, too
        engine = Engine(backend, config or EngineConfig())
        engine.start()
        engines.append(engine)
        source, tokenizer = backend.info.chat_template, backend.tokenizer
        template = source and ChatTemplate(source, bos_token=tokenizer.bos_token, eos_token=tokenizer.eos_token)
        loaded_at, max_bytes = datetime.now(UTC), checked.max_grammar_bytes
        return LoadedModel(reference, engine, template or None, loaded_at, 0.0, max_grammar_bytes=max_bytes)

    pool = ModelPool(Catalog([reference or fake_reference()]), load, keep_alive_s=-1)
    app = create_app(pool, checked)
    uvicorn_config = uvicorn.Config(
        app,
        lifespan="on",
        ws="none",
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=2,
    )
    server = uvicorn.Server(uvicorn_config)
    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    clients = ExitStack()
    thread.start()
    try:
        wait_until(lambda: server.started or not thread.is_alive(), STARTED_WITHIN_S)
        if wait_ready:
            wait_until(lambda: pool.ready or not thread.is_alive(), STARTED_WITHIN_S)
        assert thread.is_alive(), "the server did not start"
        running = RunningServer(listener.getsockname()[1], app, pool, backend, checked, engines, clients=clients)
        clients.enter_context(running.http)
        yield running
    finally:
        server.should_exit = True
        thread.join(STARTED_WITHIN_S)
        listener.close()
        clients.close()
        assert not thread.is_alive(), "the server did not stop"
