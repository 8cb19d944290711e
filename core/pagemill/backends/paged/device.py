"""Which device and number type a model runs in. Owns no state."""

import torch

from pagemill.backends.paged.options import Device, DType
from pagemill.errors import ModelLoadError

FP8_CAPABILITY = (8, 9)  # CUDA compute capability from which kernels convert fp8 in hardware


def choose_device(wanted: Device) -> torch.device:
    """CUDA where there is one, unless the setting says otherwise (AMD's ROCm is "cuda" to torch too).

    Raises:
        ModelLoadError: CUDA is wanted, and torch finds none.
    """
    if wanted == "cuda" and not torch.cuda.is_available():
        built = "" if torch.version.cuda or torch.version.hip else f"; this torch ({torch.__version__}) is a CPU build"
        raise ModelLoadError(f"device is cuda, but torch finds no GPU{built}")
    if wanted == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", torch.cuda.current_device())


def choose_dtype(wanted: DType, checkpoint: torch.dtype, device: torch.device) -> torch.dtype:
    """The checkpoint's own type, unless the setting says otherwise; on a CPU bfloat16 stands in for float16, which
    few CPUs compute with.
    """
    if wanted != "auto":
        dtype: torch.dtype = getattr(torch, wanted)
        return dtype
    if checkpoint is torch.float16 and device.type == "cpu":
        return torch.bfloat16
    return checkpoint


def choose_kv_dtype(wanted: str, dtype: torch.dtype, device: torch.device) -> torch.dtype:
    """The type of cached keys and values.

    Raises:
        ModelLoadError: not a type of this backend, or not one that the device can do.
    """
    if wanted == "auto":
        return dtype
    if wanted != "fp8":
        raise ModelLoadError(f"kv_cache_dtype {wanted} is the gguf backend's; the paged backend has auto and fp8")
    if device.type != "cuda":
        raise ModelLoadError("kv_cache_dtype fp8 needs a GPU")
    if torch.version.hip is None and torch.cuda.get_device_capability(device) < FP8_CAPABILITY:
        raise ModelLoadError(
            f"kv_cache_dtype fp8 needs compute capability {FP8_CAPABILITY}, {torch.cuda.get_device_name(device)} has "
            f"{torch.cuda.get_device_capability(device)}"
        )
    return torch.float8_e4m3fn
