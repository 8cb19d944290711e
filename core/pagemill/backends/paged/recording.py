"""What a recording of a CUDA graph asks of the rest of the process. Owns the lock `RECORDING`.

A recording that fails leaves torch's allocator in it for good (`CUDAGraph::capture_end` raises before it tells the
allocator), which then gives no memory back. So what would fail is looked for before. And while a graph is recorded, no
thread may wait for the whole device or have torch give memory back: either fails, and the recording with it.
"""

from collections.abc import Mapping, Sequence
from threading import Lock
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

RECORDING = Lock()  # held while a graph is recorded, and by who waits for the device or gives memory back

WAITING = frozenset(
    (
        "aten::_local_scalar_dense",
        "aten::equal",
        "aten::is_nonzero",
        "aten::masked_select",
        "aten::nonzero",
        "aten::repeat_interleave.Tensor",
        "aten::unique_consecutive",
        "aten::unique_dim",
        "aten::_unique2",
    )
)
INDEXING = ("aten::index.", "aten::index_put", "aten::_index_put_impl_")
MADE_OF_NUMBERS = "aten::lift_fresh"  # the end of torch.tensor


class RefuseWaiting(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """In its context, on its thread, an operation that waits for the device, or copies between it and the host, raises
    RuntimeError. What waits within torch's own kernels goes unseen, and lists as indices.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        with self:  # in inference mode composed operations come here whole
            output = func.decompose(*args, **(kwargs or {}))
        if output is not NotImplemented:
            return output
        name = func.name()
        if name in WAITING or (name.startswith(INDEXING) and _has_mask(args[1])):
            raise RuntimeError(f"{name} waits for the device")
        output = func(*args, **(kwargs or {}))
        devices = {item.device.type for item in tree_iter((args, kwargs, output)) if _is_moved(item)}
        if len(devices) > 1 or (name == MADE_OF_NUMBERS and args[0].device.type != "cpu"):
            raise RuntimeError(f"{name} copies between the host and the device")
        return output


def _has_mask(indices: Sequence[Tensor | None]) -> bool:
    """How many rows a mask selects is not known before the device has looked."""
    return any(index is not None and index.element_size() == 1 for index in indices)


def _is_moved(item: object) -> bool:
    """Single numbers of the host go as arguments of a kernel."""
    return isinstance(item, Tensor) and item.dim() > 0
