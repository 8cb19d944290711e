"""Which backend runs a model, with which settings, in how much memory. Owns no state.

Imports a backend only when it is chosen.
"""

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from pagemill.errors import ModelLoadError
from pagemill.memory_need import MemoryNeed
from pagemill.settings import Settings
from pagemill.store.references import ModelReference

if TYPE_CHECKING:
    from pagemill.backends.base import Backend
    from pagemill.backends.embedder import Embedder
    from pagemill.backends.gguf.options import GGUFOptions
    from pagemill.backends.paged.options import PagedOptions
    from pagemill.store.model_defaults import ModelDefaults

logger = logging.getLogger(__name__)

BACKENDS = {"gguf": "gguf", "safetensors": "paged", "fake": "fake"}  # by the model's format
BACKEND_SETTINGS = {  # those that only one of them has
    "gguf": ("flash_attn", "mmap", "mlock"),
    "paged": (
        "device",
        "dtype",
        "block_size",
        "gpu_memory_utilization",
        "enforce_eager",
        "async_scheduling",
        "attention_backend",
        "model_impl",
    ),
}
DEFAULT_MAX_NUM_BATCHED_TOKENS = 512


def load_generator(reference: ModelReference, settings: Settings) -> "Backend":
    """As `load_backend`, of a model that generates text.

    Raises:
        ModelLoadError: it makes embeddings; or as there.
    """
    from pagemill.backends.embedder import Embedder

    loaded = load_backend(reference, settings)
    if isinstance(loaded, Embedder):
        loaded.close()
        raise ModelLoadError(f"{reference.name} makes embeddings, it does not generate text")
    return loaded


def load_backend(reference: ModelReference, settings: Settings) -> "Backend | Embedder":
    """Load the model with the backend that its format, or the `backend` setting, chooses: to generate text or to make
    embeddings, as its files, or the `runner` setting, say. Blocks; call it on a thread.

    Raises:
        ModelLoadError: the file can't be loaded, or not by the backend that was asked for.
    """
    kind = _kind_of(reference, settings)
    if kind == "fake":
        return _fake_backend(settings)
    _warn_of_settings_for_others(kind, settings)
    if kind == "gguf":
        from pagemill.backends.gguf.loading import load_gguf

        loaded = load_gguf(reference.path, _gguf_options(reference, settings))
        if reference.defaults is not None:
            _warn_of_defaults(reference.name, reference.defaults, loaded, settings)
        return loaded
    _prepare_for_torch()
    try:
        from pagemill.backends.paged.loading import load_paged
    except ImportError as error:
        raise _no_torch(error) from error
    return load_paged(reference.path, _paged_options(settings))


def estimate_memory(reference: ModelReference, settings: Settings, budget: Callable[[str], int]) -> MemoryNeed:
    """What the model would take if `load_backend` loaded it, by its files alone. `budget` tells how many bytes of a
    device's memory ("cpu", "cuda") there are for it, which limits its KV cache. Blocks; call it on a thread.

    Raises:
        ModelLoadError: the file is damaged, or not for the backend that was asked for.
    """
    kind = _kind_of(reference, settings)
    if kind == "fake":
        return MemoryNeed(0, 0, 0)
    if kind == "gguf":
        from pagemill.backends.gguf.memory_need import estimate_gguf

        return estimate_gguf(reference.weight_files(), _gguf_options(reference, settings), budget("cpu"))
    _prepare_for_torch()
    try:
        from pagemill.backends.paged.memory_need import estimate_paged
    except ImportError as error:
        raise _no_torch(error) from error
    return estimate_paged(reference.path, _paged_options(settings), budget)


def _kind_of(reference: ModelReference, settings: Settings) -> str:
    kind = backend_kind(reference.format, settings)
    if kind not in ("fake", BACKENDS[reference.format]):
        raise ModelLoadError(f"{reference.name} is {reference.format}, which the backend {kind} can't load")
    return kind


def _no_torch(error: ImportError) -> ModelLoadError:
    return ModelLoadError(f"model folders need PyTorch: pip install 'pagemill[paged]' ({error})")


def _prepare_for_torch() -> None:
    """What must be so before torch is first imported."""
    from pagemill.backends.paged.openmp import let_threads_sleep

    let_threads_sleep()


def _warn_of_settings_for_others(kind: str, settings: Settings) -> None:
    """An environment may well hold settings for every backend that it may serve with, so they are no error."""
    for other, names in BACKEND_SETTINGS.items():
        unused = [name for name in names if other != kind and name in settings.given_fields]
        if unused:
            logger.warning("of no effect on the %s backend, they are for %s: %s", kind, other, ", ".join(unused))


def _warn_of_defaults(name: str, defaults: "ModelDefaults", loaded: "Backend | Embedder", settings: Settings) -> None:
    from pagemill.backends.embedder import Embedder

    if ignored := defaults.without_effect():
        logger.warning("of no effect among the parameters of %s: %s", name, ", ".join(ignored))
    is_placed = isinstance(loaded, Embedder) or (loaded.info.chat_template or settings.chat_template) is not None
    if not is_placed and (unplaced := defaults.without_place()):
        logger.warning("chats will be refused: the GGUF file of %s has no chat template for %s", name, unplaced)


def backend_kind(model_format: str, settings: Settings) -> str:
    """The backend that runs models of the format."""
    return BACKENDS[model_format] if settings.backend == "auto" else settings.backend


def _fake_backend(settings: Settings) -> "Backend":
    from pagemill.backends.fake import FakeBackend

    return FakeBackend(
        max_model_len=settings.max_model_len or 4096,
        max_num_seqs=settings.max_num_seqs or 16,
        max_num_batched_tokens=settings.max_num_batched_tokens or DEFAULT_MAX_NUM_BATCHED_TOKENS,
    )


def _gguf_options(reference: ModelReference, settings: Settings) -> "GGUFOptions":
    """As the settings say; what they leave open is as the model's own parameters say."""
    from pagemill.backends.gguf.options import GGUFOptions

    options = GGUFOptions(
        max_model_len=settings.max_model_len,
        max_num_seqs=settings.max_num_seqs,
        max_num_batched_tokens=settings.max_num_batched_tokens or DEFAULT_MAX_NUM_BATCHED_TOKENS,
        threads=settings.threads,
        kv_cache_dtype=settings.kv_cache_dtype,
        kv_cache_memory_bytes=settings.kv_cache_memory_bytes,
        flash_attn=settings.flash_attn,
        mmap=settings.mmap,
        mlock=settings.mlock,
        runner=settings.runner,
    )
    return options if reference.defaults is None else _with_parameters(options, reference.defaults, settings)


def _with_parameters(options: "GGUFOptions", defaults: "ModelDefaults", settings: Settings) -> "GGUFOptions":
    return options._replace(
        preferred_model_len=defaults.count("num_ctx") or options.preferred_model_len,
        max_num_batched_tokens=settings.max_num_batched_tokens
        or defaults.count("num_batch")
        or DEFAULT_MAX_NUM_BATCHED_TOKENS,
        threads=settings.threads or defaults.count("num_thread"),
        mmap=settings.mmap if "mmap" in settings.given_fields else defaults.parameters.get("use_mmap") is not False,
    )


def _paged_options(settings: Settings) -> "PagedOptions":
    from pagemill.backends.paged.options import PagedOptions

    return PagedOptions(
        device=settings.device,
        dtype=settings.dtype,
        kv_cache_dtype=settings.kv_cache_dtype,
        block_size=settings.block_size,
        gpu_memory_utilization=settings.gpu_memory_utilization,
        kv_cache_memory_bytes=settings.kv_cache_memory_bytes,
        max_model_len=settings.max_model_len,
        max_num_seqs=settings.max_num_seqs,
        max_num_batched_tokens=settings.max_num_batched_tokens,
        threads=settings.threads,
        enforce_eager=settings.enforce_eager,
        async_scheduling=settings.async_scheduling,
        attention_backend=settings.attention_backend,
        model_impl=settings.model_impl,
        runner=settings.runner,
    )
