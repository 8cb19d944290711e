"""Which device and number type a model runs in. Owns no state."""

from logging import getLogger

import torch

from pagemill.backends.paged.options import Device, DType
from pagemill.errors import ModelLoadError

logger = getLogger(__name__)

FP8_CAPABILITY = (8, 9)  # CUDA compute capability from which kernels convert fp8 in hardware
AMPERE = (8, 0)  # from which there are matrix instructions for bfloat16, and the shared memory that our kernels take


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
    few CPUs compute with, and on a GPU older than Ampere the other way round.

    Raises:
        ModelLoadError: the setting is bfloat16, and the GPU is older.
    """
    dtype: torch.dtype = checkpoint if wanted == "auto" else getattr(torch, wanted)
    if dtype is torch.bfloat16 and is_old_gpu(device):
        if wanted != "auto":
            raise ModelLoadError(f"dtype bfloat16 needs compute capability {AMPERE}, {_described(device)}: set float16")
        logger.warning("the model's bfloat16 is computed as float16: %s", _described(device))
        return torch.float16
    if wanted == "auto" and dtype is torch.float16 and device.type == "cpu":
        return torch.bfloat16
    return dtype


def is_old_gpu(device: torch.device) -> bool:
    """Whether it is an NVIDIA GPU older than Ampere, on which plain torch stands in for our kernels."""
    if device.type != "cuda" or torch.version.hip is not None:
        return False
    return torch.cuda.get_device_capability(device) < AMPERE


def kernels_device(device: torch.device) -> str:
    """The kind of device as `kernel_choice` tells them apart."""
    return "old_gpu" if is_old_gpu(device) else device.type


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
        raise ModelLoadError(f"kv_cache_dtype fp8 needs compute capability {FP8_CAPABILITY}, {_described(device)}")
    return torch.float8_e4m3fn


def free_gpu_bytes(device: torch.device) -> int:
    """What nobody has, and what torch keeps for reuse."""
    free, _ = torch.cuda.mem_get_info(device)
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)


def _described(device: torch.device) -> str:
    return f"{torch.cuda.get_device_name(device)} has {torch.cuda.get_device_capability(device)}"
