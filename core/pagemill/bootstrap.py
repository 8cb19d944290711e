"""From settings to something that serves: a backend, a loaded model, the pool, the app.

Owns no state. The one place that knows all rooms; it imports each of them only when it is needed, so that a program can
begin to load the model (`build_pool(..., load_at_once=True)`) before it imports the web stack. Start-up time is a
product feature.
"""

import logging
import threading
import time
from concurrent.futures import Future
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pagemill.backend_choice import backend_kind
from pagemill.backend_choice import load_backend as load_backend  # offered here, for programs that want a backend alone
from pagemill.errors import InvalidRequestError, ModelLoadError, SettingsError
from pagemill.keep_alive import parse_keep_alive
from pagemill.settings import Settings
from pagemill.store.availability import check_settings, make_available
from pagemill.store.catalog import make_catalog
from pagemill.store.references import ModelReference, Reference

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from pagemill.backends.base import Backend
    from pagemill.backends.embedder import Embedder
    from pagemill.engine.embedding_engine import EmbeddingEngine
    from pagemill.engine.engine import Engine, EngineConfig
    from pagemill.memory_need import MemoryNeed
    from pagemill.pool import LoadedModel, ModelMemory, ModelPool
    from pagemill.prompts.chat_template import ChatTemplate
    from pagemill.snapshots import SnapshotLoad
    from pagemill.store.registry.quantizing import Quantizer

logger = logging.getLogger(__name__)


class BackendLoad:
    """A backend that loads on a thread of its own, after its model was fetched, if it is elsewhere.

    The thread is a daemon: a load never holds up the process's end.
    """

    def __init__(self, reference: Reference, settings: Settings) -> None:
        self._wanted = reference
        self._settings = settings
        self._future: Future[tuple[ModelReference, Backend | Embedder]] = Future()
        self._started_at = 0.0
        self.snapshots: SnapshotLoad | None = None  # known when the backend is

    @property
    def elapsed_s(self) -> float:
        """Time since `start`."""
        return time.perf_counter() - self._started_at

    def start(self) -> None:
        self._started_at = time.perf_counter()
        threading.Thread(target=self._run, name=f"load-{self._wanted.name}", daemon=True).start()

    async def backend(self) -> "tuple[ModelReference, Backend | Embedder]":
        """Wait for what was loaded, and for its backend, then the caller's to close. If the wait is cancelled, a fetch
        stops, and the backend is closed when loaded.
        """
        import asyncio

        try:
            return await asyncio.wrap_future(self._future)
        except asyncio.CancelledError:
            if not isinstance(self._wanted, ModelReference):
                self._wanted.progress.stop()
            self._future.add_done_callback(_close_unwanted)
            raise

    def _run(self) -> None:
        self._future.set_running_or_notify_cancel()  # from here on, a cancelled wait can't cancel the future itself
        try:
            reference = make_available(self._wanted, self._settings)
            self.snapshots = _begin_snapshots(reference, self._settings)
            backend = load_backend(reference, self._settings)
        except BaseException as error:
            self._future.set_exception(error)
        else:
            self._future.set_result((reference, backend))


def _close_unwanted(future: "Future[tuple[ModelReference, Backend | Embedder]]") -> None:
    if future.exception() is None:
        _, backend = future.result()
        backend.close()


def _begin_snapshots(reference: ModelReference, settings: Settings) -> "SnapshotLoad | None":
    """Begin to read the prefix snapshots to start with. Without any, as is the rule, that costs a look for a file."""
    wanted = settings.prefix_snapshot
    if not settings.enable_prefix_caching or wanted in ((), ("off",)):
        return None
    if wanted == ("auto",) and not reference.snapshot_path().is_file():
        return None
    from pagemill.snapshots import SnapshotLoad, candidates_of

    load = SnapshotLoad(reference, candidates_of(reference, wanted))
    load.start()
    return load


async def load_model(reference: Reference, settings: Settings) -> "LoadedModel":
    """Load a model off the event loop and start its engine on it.

    Raises:
        ModelLoadError: the model can't be loaded.
        SettingsError: the chat template file can't be read.
    """
    template = read_chat_template(settings)
    return await _finish_load(_start_load(reference, settings), settings, template)


def _start_load(reference: Reference, settings: Settings) -> BackendLoad:
    load = BackendLoad(reference, settings)
    load.start()
    return load


async def _finish_load(load: BackendLoad, settings: Settings, template: str | None) -> "LoadedModel":
    # What the model is about to need is imported while it loads.
    import pagemill.engine.engine
    import pagemill.prompts.jinja_environment  # noqa: F401
    from pagemill.backends.embedder import Embedder
    from pagemill.pool import LoadedModel
    from pagemill.prompts.structured_output.limits import GrammarLimits

    reference, backend = await load.backend()
    if isinstance(backend, Embedder):
        embedding_engine = _make_embedding_engine(backend, reference, settings)
        embedding_engine.start()
        return LoadedModel(reference, embedding_engine, None, datetime.now(UTC), load.elapsed_s)
    try:
        chat_template = make_chat_template(backend, template, settings)
        engine = _make_engine(backend, settings)
    except BaseException:
        backend.close()
        raise
    engine.start()
    if load.snapshots is not None:
        try:
            await load.snapshots.restore(engine, backend_kind(reference.format, settings))
        except BaseException:
            await engine.close()
            raise
    if chat_template is not None:
        threading.Thread(target=_compile, args=(chat_template,), name="compile-template", daemon=True).start()
    return LoadedModel(
        reference,
        engine,
        chat_template,
        datetime.now(UTC),
        load.elapsed_s,
        max_grammar_bytes=settings.max_grammar_bytes,
        grammar_cache_size=settings.grammar_cache_size,
        grammar_limits=GrammarLimits(
            settings.max_grammar_items,
            settings.max_grammar_fuel,
            settings.max_grammar_states,
            settings.max_grammar_ms,
        ),
    )


def _make_engine(backend: "Backend", settings: Settings) -> "Engine":
    from pagemill.engine.engine import Engine

    return Engine(backend, _engine_config(settings))


def _make_embedding_engine(embedder: "Embedder", reference: ModelReference, settings: Settings) -> "EmbeddingEngine":
    from pagemill.engine.embedding_engine import EmbeddingEngine

    return EmbeddingEngine(embedder, reference.name, _engine_config(settings))


def _engine_config(settings: Settings) -> "EngineConfig":
    from pagemill.engine.engine import EngineConfig

    return EngineConfig(
        max_num_queued_reqs=settings.max_num_queued_reqs,
        enable_prefix_caching=settings.enable_prefix_caching,
        request_timeout_s=settings.request_timeout_s,
        retry_after_s=settings.retry_after_s,
        max_shifted_contexts=settings.max_shifted_contexts,
    )


def make_chat_template(backend: "Backend", override: str | None, settings: Settings) -> "ChatTemplate | None":
    """The model's template, or the one in its place; None if there is none."""
    from pagemill.prompts.chat_template import ChatTemplate

    source = backend.info.chat_template if override is None else override
    if source is None:
        return None
    return ChatTemplate(
        source,
        bos_token=backend.tokenizer.bos_token,
        eos_token=backend.tokenizer.eos_token,
        tool_call_parser=settings.tool_call_parser,
        reasoning_parser=settings.reasoning_parser,
    )


def _compile(template: "ChatTemplate") -> None:
    """Ahead of the first chat. A template that can't be compiled spoils chats only, and each of them says so."""
    _ = template.message_format
    try:
        template.compile()
    except ModelLoadError as error:
        logger.warning("chats will be refused: %s", error)


def read_chat_template(settings: Settings) -> str | None:
    """The text of the `chat_template` file, None if there is no such setting.

    Raises:
        SettingsError: it can't be read; names the file.
    """
    if settings.chat_template is None:
        return None
    try:
        return Path(settings.chat_template).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise SettingsError(f"can't read the chat template {settings.chat_template}: {reason}") from error


def build_pool(settings: Settings, *, load_at_once: bool = False) -> "ModelPool":
    """The pool of the settings' models. `load_at_once` begins the load of a single one now, on its thread; the pool's
    start takes it.

    Raises:
        SettingsError: a setting that only shows here to be wrong (`keep_alive`, `chat_template`, `models_dir`).
        ModelNotFoundError, ModelLoadError: there is no such model, or it is plainly none.
    """
    template = read_chat_template(settings)
    check_settings(settings)
    try:
        keep_alive_s = parse_keep_alive(settings.keep_alive)
    except InvalidRequestError as error:
        raise SettingsError(str(error)) from error
    catalog = make_catalog(settings)
    with_budget = settings.has_several_models or settings.memory_budget_bytes is not None
    begun: list[BackendLoad] = []  # one at most, until the pool's first load takes it
    if load_at_once and not with_budget and catalog.default is not None:
        if catalog.default.format is not None and backend_kind(catalog.default.format, settings) == "gguf":
            # Here, since on the load's thread it would take turns with the imports that are to run beside the load.
            import pagemill.backends.gguf.loading  # noqa: F401
        begun.append(_start_load(catalog.default, settings))
    from pagemill.pool import ModelPool  # and with it asyncio: while the load runs

    async def load(wanted: Reference, need: "MemoryNeed | None") -> "LoadedModel":
        own = settings
        if need is not None and need.kv > 0 and settings.kv_cache_memory_bytes is None:
            own = settings.with_changes(kv_cache_memory_bytes=need.kv)  # as was estimated
        return await _finish_load(begun.pop() if begun else _start_load(wanted, own), own, template)

    memory = _budgeted_memory(settings) if with_budget else None
    return ModelPool(
        catalog, load, keep_alive_s=keep_alive_s, memory=memory, max_loaded_models=settings.max_loaded_models
    )


def _budgeted_memory(settings: Settings) -> "ModelMemory":
    from pagemill.model_memory import BudgetedMemory

    return BudgetedMemory(settings)


def build_app(settings: Settings, pool: "ModelPool | None" = None) -> "Starlette":
    """The ASGI app of the settings. Its lifespan loads the model in the background, and drains and closes the pool.

    Raises:
        SettingsError, ModelNotFoundError, ModelLoadError: as `build_pool`.
    """
    from pagemill.api.app import create_app

    return create_app(pool or build_pool(settings), settings, partial(_make_quantizer, settings))


def _make_quantizer(settings: Settings) -> "Quantizer":
    from pagemill.backends.gguf.quantization import GGUFQuantizer

    return GGUFQuantizer(settings.threads, settings.quantization_buffer_bytes)
