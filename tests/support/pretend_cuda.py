"""A CUDA device that is not there: its tensors hold their numbers in the host's memory, and all that runs on a real one
runs, on the CPU.

What would break on a GPU raises here: tensors of two devices in one operation, numpy of a device's tensor, work that
waits for the device or takes the host's pageable memory while a graph is recorded. What would only be wrong there is
kept in `mistakes`: pinned memory that changed before its copy had ended. `waits` lists what made the host wait for the
device, by name. Copies to pinned memory arrive when an event behind them is waited for, and not before.

Torch's functions are met where Python calls them (`__torch_function__`), the operations that these come to where they
are dispatched. One queue stands for all streams, so what streams have to wait for is not seen.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_iter, tree_map

DEVICE = torch.device("cuda", 0)
HOST = torch.device("cpu")
GARBAGE = 0x5A
READS = {getattr(torch.Tensor, name) for name in ("item", "tolist", "__int__", "__float__", "__bool__", "__index__")}
WAITING_OPERATIONS = (
    "aten::nonzero", "aten::_unique2", "aten::unique_dim", "aten::unique_consecutive", "aten::masked_select",
    "aten::is_nonzero", "aten::equal", "aten::repeat_interleave.Tensor", "aten::_local_scalar_dense",
)  # fmt: skip
Operation = Callable[[], None]


class OnDevice(torch.Tensor):
    """A tensor of the pretended device."""

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        raise RuntimeError(f"{_name(func)} of a pretended device's tensor on a thread that has not entered it")


class _Copy(NamedTuple):
    """A copy between pinned memory and the device that has not ended as far as the host knows."""

    pinned: Tensor
    values: Tensor  # what was sent, or what will have come
    to_host: bool
    number: int  # in the order of all work


class PretendCuda(TorchFunctionMode):
    """See the module. To be entered on each thread that uses the device."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[str] = []
        self.mistakes: list[str] = []
        self.num_launched = 0  # operations, copies and kernels: a clock of the device's queue
        self.recording: list[Operation] | None = None  # of the graph that is being recorded
        self._pinned: dict[int, Tensor] = {}  # kept, so that their addresses are nobody else's
        self._copies: list[_Copy] = []
        self._dispatched = _Dispatched(self)

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        special = SPECIAL.get(func)
        if special is not None:
            return special(self, func, *args, **kwargs)
        if func in READS:
            return self._read(func, *args, **kwargs)
        return self.run(func, args, kwargs)

    def run(self, func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        """The function on the host's memory; what comes out is on the device if anything that went in was."""
        device = kwargs.get("device")
        made_here = device is not None and torch.device(device).type == "cuda"
        if made_here:
            kwargs["device"] = HOST
        if kwargs.pop("pin_memory", False):
            return self._pin(func(*args, **kwargs))
        tensors = [item for item in tree_iter((args, kwargs)) if isinstance(item, Tensor)]
        is_here = any(isinstance(tensor, OnDevice) for tensor in tensors)
        if not is_here and not made_here:
            return func(*args, **kwargs)
        if is_here and (strange := [tensor for tensor in tensors if _is_the_hosts(tensor)]):
            shapes = [tuple(tensor.shape) for tensor in strange]
            raise RuntimeError(f"{_name(func)} has tensors on two devices; on the CPU are those of the shapes {shapes}")
        if func is torch.tensor or func is torch.as_tensor:
            self.pageable(_name(func))
        return place(self.compute(func, *tree_map(bare, args), **tree_map(bare, kwargs)))

    def compute(self, func: Any, *args: Any, **kwargs: Any) -> Any:
        with self._dispatched:
            return func(*args, **kwargs)

    def launched(self, operation: Operation) -> None:
        """Something went into the queue; it has run already, and runs again if a graph repeats it."""
        self.num_launched += 1
        if self.recording is not None:
            self.recording.append(operation)

    def wait(self, reason: str, until: int | None = None) -> None:
        """The host waits until the device has done `until` of its work; None: all."""
        self._refuse_in_recording(f"{reason} waits for the device")
        self.waits.append(reason)
        until = self.num_launched if until is None else until
        ended = [copy for copy in self._copies if copy.number <= until]
        self._copies = [copy for copy in self._copies if copy.number > until]
        with torch._C.DisableTorchFunction(), _disable_current_modes(), torch.inference_mode():
            for copy in ended:
                self._end(copy)

    def _end(self, copy: _Copy) -> None:
        if copy.to_host:
            copy.pinned.copy_(copy.values)
        elif not torch.equal(_bytes(copy.pinned), _bytes(copy.values)):
            self.mistakes.append("pinned memory changed while it was copied to the device")

    def pageable(self, reason: str) -> None:
        """The host's pageable memory is read: before the call returns, so the host does not wait for the device."""
        self._refuse_in_recording(f"{reason} copies from pageable memory")

    def to_device(self, source: Tensor, *, non_blocking: bool) -> Tensor:
        """A copy on the device of a tensor of the host."""
        if non_blocking and self.is_pinned(source):
            self._refuse_in_recording("a copy from pinned memory")
            self.num_launched += 1
            self._copies.append(_Copy(source, source.clone(), False, self.num_launched))
        else:
            self.pageable("a copy to the device")
        return on_device(source.clone())

    def to_host(self, source: Tensor) -> Tensor:
        self.wait("a copy to the host")
        copied: Tensor = bare(source).clone()
        return copied

    def copy(self, target: Tensor, source: Tensor, *, non_blocking: bool = False) -> Tensor:
        if not isinstance(source, OnDevice) and isinstance(target, OnDevice):
            source = self.to_device(source, non_blocking=non_blocking)
        if isinstance(target, OnDevice):
            self.compute(torch.Tensor.copy_, bare(target), bare(source))
        elif not isinstance(source, OnDevice):
            target.copy_(source)
        elif non_blocking and self.is_pinned(target):
            self._refuse_in_recording("a copy to pinned memory")
            self.num_launched += 1
            self._copies.append(_Copy(target, bare(source).to(target.dtype, copy=True), True, self.num_launched))
            _bytes(target).fill_(GARBAGE)
        else:
            target.copy_(self.to_host(source))
        return target

    def is_pinned(self, tensor: Tensor) -> bool:
        return tensor.untyped_storage().data_ptr() in self._pinned

    def _pin(self, tensor: Tensor) -> Tensor:
        self._pinned[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    def _read(self, func: Any, tensor: Tensor, *args: Any, **kwargs: Any) -> Any:
        if isinstance(tensor, OnDevice):
            tensor = self.to_host(tensor)
        return func(tensor, *args, **kwargs)

    def _refuse_in_recording(self, what: str) -> None:
        if self.recording is not None:
            raise RuntimeError(f"operation not permitted when stream is capturing: {what}")


class _Dispatched(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees the operations that a function comes to."""

    def __init__(self, device: PretendCuda) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._device = device

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = func._schema.name if func._overloadname == "default" else f"{func._schema.name}.{func._overloadname}"
        if name.startswith(WAITING_OPERATIONS) or _selects_by_mask(name, args):
            self._device.wait(name)
        output = func(*args, **kwargs)
        self._device.launched(_again(func, args, kwargs, output))
        return output


def _again(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any], output: Any) -> Operation:
    """The operation once more, into the same memory. Views see by themselves what changes."""
    inputs = {_storage(item) for item in tree_iter((args, kwargs)) if isinstance(item, Tensor)}
    new = [item for item in tree_iter(output) if isinstance(item, Tensor) and _storage(item) not in inputs]

    def again() -> None:
        results = func(*args, **kwargs)
        if new:
            for old, result in zip(tree_iter(output), tree_iter(results), strict=True):
                old.copy_(result)

    return again


def _storage(tensor: Tensor) -> object:
    return tensor.untyped_storage()._cdata


def _selects_by_mask(name: str, args: Sequence[Any]) -> bool:
    """How many there are is not known before the device has looked."""
    if not name.startswith(("aten::index.", "aten::index_put", "aten::_index_put_impl_")):
        return False
    return any(isinstance(item, Tensor) and item.dtype in (torch.bool, torch.uint8) for item in args[1])


def bare(value: Any) -> Any:
    """The host's tensor that stands for one of the device."""
    return value.as_subclass(Tensor) if isinstance(value, OnDevice) else value


def place(value: Any) -> Any:
    """All tensors in it as the device's."""
    return tree_map(lambda item: on_device(item) if isinstance(item, Tensor) else item, value)


def on_device(tensor: Tensor) -> Tensor:
    """The device's tensor that a host's stands for."""
    return tensor.as_subclass(OnDevice)


def _is_the_hosts(tensor: Tensor) -> bool:
    return not isinstance(tensor, OnDevice) and tensor.dim() > 0  # single numbers may come from the host


def _bytes(tensor: Tensor) -> Tensor:
    return tensor.view(-1).view(torch.uint8)


def _name(func: Any) -> str:
    return getattr(func, "__qualname__", None) or str(func)


def _to(device: PretendCuda, func: Any, tensor: Tensor, /, *args: Any, **kwargs: Any) -> Any:
    if args and isinstance(args[0], Tensor):
        args = (args[0].device, args[0].dtype, *args[1:])
    copy = kwargs.pop("copy", False)
    parsed: Any = torch._C._nn._parse_to(*args, **kwargs)
    wanted, dtype, non_blocking, _ = parsed
    is_here = isinstance(tensor, OnDevice)
    if wanted is not None and wanted.type in ("cpu", "cuda") and (wanted.type == "cuda") != is_here:
        tensor = device.to_host(tensor) if is_here else device.to_device(tensor, non_blocking=non_blocking)
        return tensor if dtype is None else device.run(torch.Tensor.to, (tensor, dtype), {})
    if is_here:
        return tensor if dtype is None and not copy else device.run(func, (tensor, dtype), {"copy": copy})
    return func(tensor, *args, copy=copy, **kwargs)


def _host_only(device: PretendCuda, func: Any, tensor: Tensor, /, *args: Any, **kwargs: Any) -> Any:
    if isinstance(tensor, OnDevice):
        raise TypeError(f"{_name(func)}: a tensor of cuda:0 is not in the host's memory")
    return func(tensor, *args, **kwargs)


def _index(device: PretendCuda, func: Any, tensor: Tensor, index: Any, *value: Any) -> Any:
    """Indices of the host are copied to the device; so is a value, if what it goes to is a slice."""
    if not isinstance(tensor, OnDevice):
        return device.run(func, (tensor, index, *value), {})
    if any(isinstance(item, list) or (isinstance(item, Tensor) and _is_the_hosts(item)) for item in _items(index)):
        device.pageable("an index of the host's")
        index = tree_map(lambda item: place(item) if isinstance(item, Tensor) else item, index)
    if value and isinstance(value[0], Tensor) and _is_the_hosts(value[0]):
        value = (device.to_device(value[0], non_blocking=False),)
    return device.run(func, (tensor, index, *value), {})


def _items(index: Any) -> tuple[Any, ...]:
    return index if isinstance(index, tuple) else (index,)


IS_CUDA: Any = torch.Tensor.is_cuda
IS_CPU: Any = torch.Tensor.is_cpu
SPECIAL: Mapping[Any, Callable[..., Any]] = {
    torch.Tensor.to: _to,
    torch.Tensor.cpu: lambda device, func, tensor: _to(device, torch.Tensor.to, tensor, HOST),
    torch.Tensor.cuda: lambda device, func, tensor: _to(device, torch.Tensor.to, tensor, DEVICE),
    torch.Tensor.copy_: lambda device, func, target, source, non_blocking=False: device.copy(
        target, source, non_blocking=non_blocking
    ),
    torch.Tensor.pin_memory: lambda device, func, tensor: device._pin(_host_only(device, torch.clone, tensor)),
    torch.Tensor.numpy: _host_only,
    torch.Tensor.__array__: _host_only,
    torch.Tensor.__getitem__: _index,
    torch.Tensor.__setitem__: _index,
    torch._has_compatible_shallow_copy_type: lambda device, func, *tensors: False,  # a module's parameters are replaced
    torch.Tensor.device.__get__: lambda device, func, tensor: DEVICE if isinstance(tensor, OnDevice) else func(tensor),
    IS_CUDA.__get__: lambda device, func, tensor: isinstance(tensor, OnDevice),
    IS_CPU.__get__: lambda device, func, tensor: not isinstance(tensor, OnDevice) and func(tensor),
}


@contextmanager
def recorded(device: PretendCuda) -> Iterator[list[Operation]]:
    """What is launched in here, to be run again."""
    operations: list[Operation] = []
    device.recording = operations
    try:
        yield operations
    finally:
        device.recording = None
