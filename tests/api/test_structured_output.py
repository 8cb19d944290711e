"""Formats are compiled off the event loop."""

import asyncio
import threading
from datetime import UTC, datetime
from typing import Any

from pagemill.api.structured_output import compiled
from pagemill.backends.fake import FakeBackend
from pagemill.engine.engine import Engine
from pagemill.pool import LoadedModel
from pagemill.prompts.structured_output.compiler import GrammarCompiler
from pagemill.prompts.structured_output.formats import Regex
from support.api_server import fake_reference

WANTED = Regex("[ab]+", "guided_regex")


def loaded_model() -> LoadedModel:
    return LoadedModel(fake_reference(), Engine(FakeBackend()), None, datetime.now(UTC), 0.0)


async def test_the_event_loop_goes_on_while_a_format_is_compiled(monkeypatch: Any) -> None:
    go_on = threading.Event()
    compile_now = GrammarCompiler.compile

    def slowly(self: GrammarCompiler, wanted: Any) -> Any:
        assert go_on.wait(10), "the event loop stands still"
        return compile_now(self, wanted)

    monkeypatch.setattr(GrammarCompiler, "compile", slowly)
    compiling = asyncio.create_task(compiled(loaded_model(), WANTED))
    await asyncio.sleep(0.01)
    assert not compiling.done()
    go_on.set()
    assert await compiling is not None


async def test_a_format_is_compiled_once(monkeypatch: Any) -> None:
    model = loaded_model()
    first = await compiled(model, WANTED)
    monkeypatch.setattr(GrammarCompiler, "submit", None)
    assert await compiled(model, Regex("[ab]+", "structured_outputs.regex")) is first
    assert await compiled(model, None) is None
