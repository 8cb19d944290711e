"""Which kernels a setting means on a device: one answer for attention and for the small operations. Owns no state."""

import logging
from functools import cache
from typing import Literal

from pagemill.backends.paged.native.build import BuildError
from pagemill.backends.paged.options import AttentionBackend
from pagemill.errors import SettingsError

logger = logging.getLogger(__name__)

Kernels = Literal["torch", "native", "triton", "varlen"]
NATIVE_DTYPES = ("bfloat16", "float32")


@cache
def choose_kernels(kind: AttentionBackend, device_type: str, dtype_name: str) -> Kernels:
    """`device_type` and `dtype_name` as torch has them: "cpu" or "cuda" (AMD's too); "bfloat16", "float16", "float32".
    "old_gpu" is a GPU for which our kernels are not made.

    Raises:
        SettingsError: the kind does not run on that device or in that dtype.
    """
    if kind == "torch" or (kind == "auto" and device_type not in ("cpu", "cuda")):
        return "torch"
    if kind == "auto":
        if device_type == "cuda":
            return "triton"
        return _native_or_torch() if dtype_name in NATIVE_DTYPES else "torch"
    if (kind == "cpu") != (device_type == "cpu"):
        raise SettingsError(f"attention_backend={kind} does not run on the device {device_type}")
    if kind != "cpu":
        return kind
    if dtype_name not in NATIVE_DTYPES:
        raise SettingsError(
            f"attention_backend=cpu has no kernels for {dtype_name}, only for {', '.join(NATIVE_DTYPES)}"
        )
    if reason := native_obstacle():
        raise SettingsError(f"attention_backend=cpu: {reason}")
    return "native"


@cache
def native_obstacle() -> str | None:
    """Why the C kernels do not run in this process; None if they do. Builds them if need be."""
    from pagemill.backends.paged.native.library import load_kernels

    try:
        load_kernels()
    except BuildError as error:
        return str(error)
    return None


@cache
def _native_or_torch() -> Kernels:
    if reason := native_obstacle():
        logger.warning("no C kernels for the CPU, plain torch does their work several times slower: %s", reason)
        return "torch"
    return "native"
