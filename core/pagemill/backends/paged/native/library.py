"""Loads the C kernels: prebuilt beside the package, or from the cache folder, or built into it now. Owns no state but
what the process has loaded; imports no torch.
"""

import ctypes
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from pagemill.backends.paged.native.build import (
    PREBUILT,
    BuildError,
    build,
    find_compiler,
    library_name,
    native_variant,
    portable_variants,
)
from pagemill.machine import cpu_features

_POINTER, _LONG, _INT, _FLOAT = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int, ctypes.c_float
_TYPED_ARGUMENTS = {
    "pagemill_rms_norm": [_POINTER, _LONG, _LONG, _POINTER, _POINTER, _LONG, _LONG, _LONG, _FLOAT, _INT],
    "pagemill_add_rms_norm": [_POINTER] * 4 + [_LONG, _LONG, _FLOAT, _INT],
    "pagemill_rotate": [_POINTER, _LONG, _LONG, _POINTER, _LONG, _LONG, _LONG, _POINTER, _POINTER, _LONG, _LONG, _INT],
    "pagemill_gated_activation": [_POINTER, _LONG, _POINTER, _LONG, _LONG, _INT, _INT],
    "pagemill_attention": [_POINTER, _POINTER],
}


class Prefill(ctypes.Structure):
    """`prefill_t` of attention.c."""

    _fields_ = (("sequence", _LONG), ("query_start", _LONG), ("query_len", _LONG), ("context_len", _LONG))


class Step(ctypes.Structure):
    """`step_t` of attention.c."""

    _fields_ = (
        *((name, _POINTER) for name in ("context_lens", "block_tables", "slots", "prefills")),
        *(
            (name, _LONG)
            for name in ("num_tokens", "num_decodes", "num_prefills", "table_stride", "split", "num_splits")
        ),
        ("workspace", _POINTER),
        ("threads", ctypes.c_int32),
    )


class Layer(ctypes.Structure):
    """`layer_t` of attention.c."""

    _fields_ = (
        *((name, _POINTER) for name in ("query", "key", "value", "keys", "values", "output")),
        *((name, _LONG) for name in ("query_stride", "key_stride", "value_stride")),
        *((name, _LONG) for name in ("num_heads", "num_kv_heads", "head_dim", "block_size")),
        ("scale", _FLOAT),
        ("soft_cap", _FLOAT),
        ("window", _LONG),
    )


@cache
def load_kernels() -> ctypes.CDLL:
    """The kernels, once for a process.

    Raises:
        BuildError: there are none for this CPU, and they can't be built.
    """
    return _declared(_find() or _build())


@cache
def load_short_kernels() -> ctypes.CDLL:
    """The same, called without letting go of the GIL: for operations of microseconds. Another thread that takes it then
    keeps it for longer than they last.
    """
    return _declared(ctypes.PyDLL(load_kernels()._name))


def _declared(library: ctypes.CDLL) -> ctypes.CDLL:
    """The library, with the types of its functions' arguments."""
    for name, arguments in _TYPED_ARGUMENTS.items():
        for kind in ("bf16", "float"):
            getattr(library, f"{name}_{kind}").argtypes = arguments
    library.pagemill_attention_workspace.argtypes = [_LONG] * 6
    library.pagemill_attention_workspace.restype = _LONG
    if library.pagemill_multiplies_bf16():
        library.pagemill_pack_weight.argtypes = [_POINTER, _POINTER, _LONG, _LONG, _INT]
        library.pagemill_linear.argtypes = [_POINTER, _LONG, *[_POINTER] * 3, _LONG, _LONG, _LONG, _INT, _INT]
    return library


def cache_folder() -> Path:
    """`$PAGEMILL_CACHE_DIR`, or by the XDG convention.

    Raises:
        BuildError: the user has no home, and neither variable says where else.
    """
    if named := os.environ.get("PAGEMILL_CACHE_DIR"):
        return Path(named) / "kernels"
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pagemill" / "kernels"
    except RuntimeError as error:
        raise BuildError(f"no folder to build kernels in: {error}; set PAGEMILL_CACHE_DIR") from error


def _find() -> ctypes.CDLL | None:
    for path in _candidates():
        if path.is_file() and (library := _open(path)):
            return library
    return None


def _candidates() -> Iterator[Path]:
    names = [library_name(variant.name) for variant in portable_variants() if variant.cpu_features <= cpu_features()]
    yield from (PREBUILT / name for name in names)
    yield from (cache_folder() / name for name in names)


def _build() -> ctypes.CDLL:
    compiler = find_compiler()
    variant = native_variant(compiler)
    path = cache_folder() / library_name(variant.name)
    library = _open(path if path.is_file() else build(cache_folder(), variant, compiler))
    if library is None:
        raise BuildError(f"what {compiler} builds can't be loaded")
    return library


def _open(path: Path) -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL(str(path))
    except OSError:
        return None
