"""Between host and device without waiting. A `HostCopy` owns the host memory that it copies to."""

from collections.abc import Sequence as ReadOnlySequence
from typing import Any

import torch
from torch import Tensor


def to_device(values: ReadOnlySequence[Any], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Numbers of the host as a tensor on the device, in the order of its other work."""
    if not values:
        return torch.empty(0, dtype=dtype, device=device)
    return _sent(torch.tensor(values, dtype=dtype), device)


def bytes_to_device(data: bytes, device: torch.device) -> Tensor:
    """Bytes of the host, likewise."""
    return _sent(torch.frombuffer(bytearray(data), dtype=torch.uint8), device)


def _sent(tensor: Tensor, device: torch.device) -> Tensor:
    return (tensor.pin_memory() if device.type == "cuda" else tensor).to(device, non_blocking=True)


class HostCopy:
    """A tensor's way to the host. It begins at once, so it does not wait for what the device is told to do later."""

    def __init__(self, tensor: Tensor) -> None:
        self._event: torch.cuda.Event | None = None
        self._host = tensor
        if tensor.device.type == "cuda":
            self._host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
            self._host.copy_(tensor, non_blocking=True)
            self._event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._event.record()

    def values(self) -> list[Any]:
        """Wait for the copy; its numbers as nested lists."""
        if self._event is not None:
            self._event.synchronize()
        values: list[Any] = self._host.tolist()
        return values
