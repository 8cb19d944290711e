"""The Lambda runtime in the test's own event loop: a fake backend below it, a fake Runtime API above it."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from starlette.applications import Starlette

from pagemill.api.app import create_app
from pagemill.backends.fake import FakeBackend
from pagemill.engine.engine import Engine
from pagemill.memory_need import MemoryNeed
from pagemill.pool import LoadedModel, ModelPool
from pagemill.prompts.chat_template import ChatTemplate
from pagemill.settings import Settings
from pagemill.store.catalog import Catalog
from pagemill.store.references import ModelReference, Reference
from pagemill_handlers.aws_lambda.runtime import Runtime
from pagemill_handlers.aws_lambda.settings import LambdaSettings
from support.api_server import fake_reference
from support.fake_runtime_api import FakeRuntimeApi, fake_runtime_api

EVENTS = Path(__file__).parent.parent / "handlers/aws_lambda/events"
KINDS = ("function_url", "http_api", "rest_api", "load_balancer")
REPLY = "The quick brown fox jumps over the lazy dog."
HELLO = {"model": "fake", "temperature": 0, "messages": [{"role": "user", "content": "hello"}]}


def event(kind: str, body: Any = None, *, path: str | None = None, method: str = "POST") -> dict[str, Any]:
    """The recorded event of that kind; with another JSON body, and another path as the app knows it."""
    found: dict[str, Any] = json.loads((EVENTS / f"{kind}.json").read_text())
    if body is not None:
        found["body"] = json.dumps(body)
    for holder in (found, found["requestContext"].get("http", {})):
        for name in ("path", "rawPath"):
            if path is not None and name in holder:
                holder[name] = holder[name].replace("/v1/chat/completions", path)
        for name in ("httpMethod", "method"):
            if name in holder:
                holder[name] = method
    return found


def fake_app(
    backend: FakeBackend, before_load: Callable[[], Awaitable[None]] | None = None, **settings: Any
) -> tuple[Starlette, ModelPool, list[Engine]]:
    """The whole app on the backend, its pool, and the engines that it will have loaded."""
    engines: list[Engine] = []

    async def load(reference: Reference, need: MemoryNeed | None) -> LoadedModel:
        assert isinstance(reference, ModelReference)
        if before_load is not None:
            await before_load()
        engine = Engine(backend)
        engine.start()
        engines.append(engine)
        tokenizer = backend.tokenizer
        assert backend.info.chat_template is not None
        template = ChatTemplate(
            backend.info.chat_template, bos_token=tokenizer.bos_token, eos_token=tokenizer.eos_token
        )
        return LoadedModel(reference, engine, template, datetime.now(UTC), 0.0)

    pool = ModelPool(Catalog([fake_reference()]), load, keep_alive_s=-1)
    return create_app(pool, Settings(model="fake", **settings)), pool, engines


@dataclass
class RunningRuntime:
    """A runtime that polls, and what is around it."""

    api: FakeRuntimeApi
    runtime: Runtime
    task: "asyncio.Task[None]"
    backend: FakeBackend
    engines: list[Engine] = field(default_factory=list)

    @property
    def engine(self) -> Engine:
        return self.engines[-1]


@asynccontextmanager
async def running_runtime(
    backend: FakeBackend | None = None,
    *,
    num_pollers: int = 1,
    own: dict[str, Any] | None = None,
    before_load: Callable[[], Awaitable[None]] | None = None,
    app: Starlette | None = None,
    register_status: int = 200,
    **settings: Any,
) -> AsyncIterator[RunningRuntime]:
    """Poll until the block ends, then stop as a signal would. `app` replaces Pagemill's."""
    backend = backend or FakeBackend()
    whole_app, pool, engines = fake_app(backend, before_load, **settings)
    checked = Settings(model="fake", **settings)
    async with fake_runtime_api() as api:
        api.register_status = register_status
        runtime = Runtime(app or whole_app, pool, checked, LambdaSettings(**(own or {})), api.address, num_pollers)
        task = asyncio.create_task(runtime.run())
        try:
            yield RunningRuntime(api, runtime, task, backend, engines)
        finally:
            runtime.stop()
            async with asyncio.timeout(20):
                await asyncio.wait((task,))
        task.result()
