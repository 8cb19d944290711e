"""Attention over paged keys and values: one protocol, four implementations, chosen here."""

import torch

from pagemill.backends.paged.attention.base import Attention
from pagemill.backends.paged.device import kernels_device
from pagemill.backends.paged.kernel_choice import choose_kernels
from pagemill.backends.paged.options import AttentionBackend


def make_attention(kind: AttentionBackend, device: torch.device, dtype: torch.dtype) -> Attention:
    """The attention of that name; "auto" is the fastest that runs here.

    Raises:
        SettingsError: the kind does not run on the device or in the dtype.
    """
    kernels = choose_kernels(kind, kernels_device(device), str(dtype).removeprefix("torch."))
    if kernels == "triton":
        from pagemill.backends.paged.attention.triton_attention import TritonAttention

        return TritonAttention(device)
    if kernels == "varlen":
        from pagemill.backends.paged.attention.varlen_attention import VarlenAttention

        return VarlenAttention(device)
    if kernels == "native":
        from pagemill.backends.paged.attention.native_attention import NativeAttention

        return NativeAttention(dtype)
    from pagemill.backends.paged.attention.torch_attention import TorchAttention

    return TorchAttention()
