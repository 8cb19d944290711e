"""Which backend runs a model, and its settings. Owns no state; imports a backend only when it is chosen."""

import logging
from typing import TYPE_CHECKING

from pagemill.errors import ModelLoadError
from pagemill.settings import Settings
from pagemill.store.references import ModelReference

if TYPE_CHECKING:
    from pagemill.backends.base import Backend
    from pagemill.backends.embedder import Embedder

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
    kind = backend_kind(reference.format, settings)
    if kind == "fake":
        return _fake_backend(settings)
    if kind != BACKENDS[reference.format]:
        raise ModelLoadError(f"{reference.name} is {reference.format}, which the backend {kind} can't load")
    _warn_of_settings_for_others(kind, settings)
    return _gguf_backend(reference, settings) if kind == "gguf" else _paged_backend(reference, settings)


def _warn_of_settings_for_others(kind: str, settings: Settings) -> None:
    """An environment may well hold settings for every backend that it may serve with, so they are no error."""
    for other, names in BACKEND_SETTINGS.items():
        unused = [name for name in names if other != kind and name in settings.given_fields]
        if unused:
            logger.warning("of no effect on the %s backend, they are for %s: %s", kind, other, ", ".join(unused))


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


def _gguf_backend(reference: ModelReference, settings: Settings) -> "Backend | Embedder":
    from pagemill.backends.gguf.loading import load_gguf
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
    return load_gguf(reference.path, options)


def _paged_backend(reference: ModelReference, settings: Settings) -> "Backend | Embedder":
    from pagemill.backends.paged.openmp import let_threads_sleep

    let_threads_sleep()
    try:
        from pagemill.backends.paged.loading import load_paged
        from pagemill.backends.paged.options import PagedOptions
    except ImportError as error:
        raise ModelLoadError(f"model folders need PyTorch: pip install 'pagemill[paged]' ({error})") from error
    options = PagedOptions(
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
    return load_paged(reference.path, options)
