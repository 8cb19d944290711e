"""Which kernels a setting means on a device: one answer for attention and for the small operations. Owns no state."""

from functools import cache
from typing import Literal

from pagemill.backends.paged.options import AttentionBackend
from pagemill.errors import SettingsError

Kernels = Literal["torch", "native", "triton", "varlen"]


@cache
def choose_kernels(kind: AttentionBackend, device_type: str, dtype_name: str) -> Kernels:
    """`device_type` and `dtype_name` as torch has them: "cpu" or "cuda" (AMD's too); "bfloat16", "float16", "float32".

    Raises:
        SettingsError: the kind does not run on that device.
    """
    if kind == "torch":
        return "torch"
    if kind == "auto":
        return "triton" if device_type == "cuda" else "torch"
    if (kind == "cpu") != (device_type == "cpu"):
        raise SettingsError(f"attention_backend={kind} does not run on the device {device_type}")
    return "torch" if kind == "cpu" else kind
