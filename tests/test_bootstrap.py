"""From settings to a loaded model, a pool and an app."""

import asyncio
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from pagemill import bootstrap
from pagemill.backends.fake import FakeBackend
from pagemill.bootstrap import build_app, build_pool, load_backend, load_model
from pagemill.errors import InvalidRequestError, ModelLoadError, ModelNotFoundError, SettingsError
from pagemill.generation import GenerationRequest, SamplingParams
from pagemill.prompts.structured_output.formats import Regex
from pagemill.settings import Settings
from pagemill.store.references import ModelReference, resolve_local


def settings_of(**values: Any) -> Settings:
    return Settings(**{"model": "fake", **values})


async def test_load_model_gives_an_engine_that_generates() -> None:
    model = await load_model(resolve_local("fake"), settings_of(max_num_seqs=3, max_model_len=100))
    try:
        assert (model.engine.max_num_seqs, model.engine.max_model_len) == (3, 100)
        assert model.load_duration_s > 0
        greedy = SamplingParams(temperature=0.0)
        request = GenerationRequest(request_id="r", prompt_token_ids=(65,), sampling=greedy)
        with model.engine.generate(request) as stream:
            text = "".join([delta.text async for delta in stream])
        assert text == "The quick brown fox jumps over the lazy dog."
    finally:
        await model.engine.close()


async def test_the_chat_template_file_replaces_the_models_own(tmp_path: Path) -> None:
    path = tmp_path / "template.jinja"
    path.write_text("{{ bos_token }}{% for m in messages %}[{{ m.content }}]{% endfor %}")
    model = await load_model(resolve_local("fake"), settings_of(chat_template=str(path)))
    try:
        assert model.chat_template is not None
        assert model.chat_template.render([{"role": "user", "content": "hé"}]) == "<|bos|>[hé]"
    finally:
        await model.engine.close()


async def test_a_models_formats_cost_no_more_than_the_settings_say() -> None:
    limits = {"max_grammar_items": 11, "max_grammar_fuel": 1200, "max_grammar_states": 130, "max_grammar_ms": 0.5}
    model = await load_model(resolve_local("fake"), settings_of(**limits))
    try:
        assert model.grammar_limits == tuple(limits.values())
        with pytest.raises(InvalidRequestError, match="max_grammar_fuel"):
            model.grammars.compile(Regex("|".join(str(number) for number in range(10**4, 10**4 + 2000)), "f"))
    finally:
        await model.engine.close()


@pytest.mark.parametrize("content", [None, b"\xff\xfe\xff"])
def test_a_chat_template_that_can_not_be_read_is_a_settings_error(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "template.jinja"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SettingsError, match=r"can't read the chat template .*template\.jinja"):
        build_pool(settings_of(chat_template=str(path)))


def test_a_wrong_keep_alive_is_a_settings_error_that_names_it() -> None:
    with pytest.raises(SettingsError, match=r"keep_alive.*'soon'"):
        build_app(settings_of(keep_alive="soon"))


def test_a_model_that_is_nowhere_is_refused_before_anything_starts() -> None:
    with pytest.raises(ModelNotFoundError, match="nowhere"):
        build_app(settings_of(model="nowhere"))


def test_a_backend_that_can_not_load_the_format_says_so() -> None:
    with pytest.raises(ModelLoadError, match=r"fake.*gguf"):
        load_backend(resolve_local("fake"), settings_of(backend="gguf"))


def test_the_fake_backend_can_stand_in_for_any_model() -> None:
    backend = load_backend(resolve_local("grist"), settings_of(model="grist", backend="fake"))
    assert isinstance(backend, FakeBackend)
    backend.close()


def test_auto_chooses_the_gguf_backend_for_a_gguf_file() -> None:
    settings = settings_of(model="grist", max_num_seqs=1, max_model_len=64, threads=1)
    backend = load_backend(resolve_local("grist"), settings)
    try:
        assert backend.info.format == "gguf"
        assert backend.max_model_len == 64
    finally:
        backend.close()


class SlowLoads:
    """Loads that wait for a release. Stands in for `load_backend`."""

    def __init__(self) -> None:
        self.release = threading.Event()
        self.backends: list[FakeBackend] = []
        self.threads: list[str] = []

    def __call__(self, reference: ModelReference, settings: Settings) -> FakeBackend:
        self.threads.append(threading.current_thread().name)
        assert self.release.wait(10)
        self.backends.append(FakeBackend())
        return self.backends[-1]


@pytest.fixture
def slow_loads(monkeypatch: pytest.MonkeyPatch) -> SlowLoads:
    loads = SlowLoads()
    monkeypatch.setattr(bootstrap, "load_backend", loads)
    return loads


async def wait_for(condition: object) -> None:
    assert callable(condition)
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


def test_settings_that_the_chosen_backend_does_not_have_are_named_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    settings = Settings(max_num_seqs=1, max_model_len=64, mlock=False, device="cpu", enforce_eager=True)
    load_backend(resolve_local("grist"), settings).close()
    [warning] = [record.getMessage() for record in caplog.records if "of no effect" in record.getMessage()]
    assert warning == "of no effect on the gguf backend, they are for paged: device, enforce_eager"


async def test_the_event_loop_turns_while_a_model_loads(slow_loads: SlowLoads) -> None:
    loading = asyncio.create_task(load_model(resolve_local("fake"), settings_of()))
    await asyncio.sleep(0.05)
    assert not loading.done()
    slow_loads.release.set()
    model = await loading
    assert slow_loads.threads == ["load-fake"]
    await model.engine.close()


async def test_a_cancelled_load_closes_its_backend(slow_loads: SlowLoads) -> None:
    loading = asyncio.create_task(load_model(resolve_local("fake"), settings_of()))
    await wait_for(lambda: slow_loads.threads)
    loading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await loading
    slow_loads.release.set()
    await wait_for(lambda: slow_loads.backends and slow_loads.backends[0].closed)


async def test_the_pool_takes_over_the_load_that_began_early(slow_loads: SlowLoads) -> None:
    pool = build_pool(settings_of(), load_at_once=True)
    await wait_for(lambda: slow_loads.threads)
    slow_loads.release.set()
    await pool.start()
    async with pool.lease("fake") as model:
        assert model.engine.alive
    await pool.unload("fake")
    async with pool.lease("fake"):
        assert len(slow_loads.backends) == 2, "a later load is a new one"
    assert slow_loads.backends[0].closed
    await pool.close()
    assert slow_loads.backends[1].closed


async def test_the_app_answers_livez_at_once_and_readyz_when_the_model_is_there(slow_loads: SlowLoads) -> None:
    app = build_app(settings_of())
    transport = httpx.ASGITransport(app)
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport, base_url="http://t") as client:
        assert (await client.get("/livez")).status_code == 200
        loading = await client.get("/readyz")
        assert loading.status_code == 503
        assert "fake is loading" in loading.text
        slow_loads.release.set()
        await wait_for(lambda: slow_loads.backends)
        deadline = time.monotonic() + 10
        while (await client.get("/readyz")).status_code != 200:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)
    assert slow_loads.backends[0].closed


async def test_a_load_that_fails_is_told_by_readyz(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(reference: ModelReference, settings: Settings) -> FakeBackend:
        raise ModelLoadError("the file is broken")

    monkeypatch.setattr(bootstrap, "load_backend", fail)
    app = build_app(settings_of())
    transport = httpx.ASGITransport(app)
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport, base_url="http://t") as client:
        await asyncio.sleep(0.05)
        for path in ("/readyz", "/health", "/ping"):
            answer = await client.get(path)
            assert answer.status_code == 503
            assert "the file is broken" in answer.text
        assert (await client.get("/livez")).status_code == 200
