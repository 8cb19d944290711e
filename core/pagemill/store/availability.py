"""Has a model where a backend can load it: fetches it if it is elsewhere, reads it ahead, checks what it is.

Owns no state. Everything here blocks, so it belongs on the load's thread; what is not needed is not imported.
"""

from typing import TYPE_CHECKING

from pagemill.errors import ModelLoadError, SettingsError
from pagemill.settings import Settings
from pagemill.store.references import ModelReference, Reference

if TYPE_CHECKING:
    from pagemill.store.remote import RemoteReference

SHA256_DIGITS = 64


def check_settings(settings: Settings) -> None:
    """
    Raises:
        SettingsError: `model_sha256` is no such digest.
    """
    sha256 = settings.model_sha256
    if sha256 is not None and (len(sha256) != SHA256_DIGITS or not set(sha256) <= set("0123456789abcdefABCDEF")):
        raise SettingsError(f"model_sha256: not {SHA256_DIGITS} hexadecimal digits, got {sha256!r}")


def make_available(reference: Reference, settings: Settings) -> ModelReference:
    """The model as it is on this machine.

    Raises:
        ModelNotFoundError, ModelLoadError: it can't be fetched, or is another than `model_sha256` says.
    """
    if isinstance(reference, ModelReference):
        here = reference
        if settings.prefault:
            _read_ahead(here, settings)
    else:
        here = _fetch(reference, settings)
    if settings.model_sha256 is not None:
        _check_identity(here, settings.model_sha256.lower())
    return here


def _fetch(reference: "RemoteReference", settings: Settings) -> ModelReference:
    from pagemill.store.fetch import fetch
    from pagemill.store.remote import FetchOptions

    options = FetchOptions(
        download_dir=settings.download_dir,
        concurrency=settings.download_concurrency,
        part_bytes=settings.download_part_bytes,
        timeout_s=settings.download_timeout_s,
        max_retries=settings.download_retries,
        sha256=None if settings.model_sha256 is None else settings.model_sha256.lower(),
    )
    return fetch(reference, options)


def _read_ahead(reference: ModelReference, settings: Settings) -> None:
    if reference.format == "safetensors" or (reference.format == "gguf" and settings.mmap):
        from pagemill.store.prefault import prefault

        prefault(reference.weight_files())


def _check_identity(reference: ModelReference, sha256: str) -> None:
    if reference.format != "gguf":
        raise ModelLoadError(f"model_sha256 is of a single GGUF file, and {reference.name} is none; unset it")
    if reference.digest() != f"sha256:{sha256}":
        raise ModelLoadError(
            f"{reference.path} is another file than was asked for: its SHA-256 is "
            f"{reference.digest().removeprefix('sha256:')}, model_sha256 is {sha256}"
        )
