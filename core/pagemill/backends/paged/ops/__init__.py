"""The small operations between a decoder's matrix products: one protocol, three implementations, chosen here."""

import torch

from pagemill.backends.paged.device import kernels_device
from pagemill.backends.paged.kernel_choice import choose_kernels
from pagemill.backends.paged.ops.base import Ops
from pagemill.backends.paged.options import AttentionBackend


def make_ops(kind: AttentionBackend, device: torch.device, dtype: torch.dtype) -> Ops:
    """The operations that go with the attention backend of that name; "auto" is the fastest that runs here.

    Raises:
        SettingsError: the kind does not run on the device or in the dtype.
    """
    kernels = choose_kernels(kind, kernels_device(device), str(dtype).removeprefix("torch."))
    if kernels in ("triton", "varlen"):
        from pagemill.backends.paged.ops.triton_ops import TritonOps

        return TritonOps(device)
    if kernels == "native":
        from pagemill.backends.paged.ops.native_ops import NativeOps

        return NativeOps(dtype)
    from pagemill.backends.paged.ops.torch_ops import TorchOps

    return TorchOps()
