"""What of `torch.cuda` and Triton the paged backend calls, for the device of `pretend_cuda`.

A failed recording of a graph breaks the device, as it does torch's allocator: it never again gives memory back.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from pagemill.backends.paged.attention.base import AttentionBatch, AttentionSpec, LayerKV
from pagemill.backends.paged.attention.torch_attention import TorchAttention
from pagemill.backends.paged.ops.torch_ops import TorchOps
from support.pretend_cuda import OnDevice, Operation, PretendCuda, bare, recorded

MAX_GRID = (2**31 - 1, 65535, 65535)
GIB = 2**30


class Stream:
    """One of the device's queues, which are all one here."""

    def __init__(self, device: object = None) -> None:
        pass

    def wait_stream(self, other: "Stream") -> None:
        pass


class Runtime:
    """The functions, bound to one device. `num_recorded` and `num_replayed` count graphs."""

    def __init__(self, device: PretendCuda, *, total_bytes: int = GIB, peak_bytes: int = 0) -> None:
        self.device = device
        self.total_bytes = total_bytes
        self.peak_bytes = peak_bytes  # that a measurement finds allocated
        self.capability = (9, 0)
        self.num_recorded = 0
        self.num_replayed = 0
        self.is_broken = False
        self.stream = Stream()

    def empty_cache(self) -> None:
        if self.is_broken or self.device.recording is not None:
            raise RuntimeError("captures_underway.empty() INTERNAL ASSERT FAILED")

    @contextmanager
    def graph(self, graph: Any, pool: object, stream: Stream, capture_error_mode: str) -> Iterator[None]:
        self.device.wait("the recording of a graph")
        self.empty_cache()
        before, self.stream = self.stream, stream
        try:
            with recorded(self.device) as graph.operations:
                yield
        except RuntimeError:  # torch leaves the thread on the stream, and its allocator in a recording
            self.is_broken = True
            raise
        self.stream = before
        self.num_recorded += 1

    @contextmanager
    def on_stream(self, stream: Stream) -> Iterator[None]:
        before, self.stream = self.stream, stream
        try:
            yield
        finally:
            self.stream = before

    def set_stream(self, stream: Stream) -> None:
        self.stream = stream


def _event_class(runtime: Runtime) -> type:
    device = runtime.device

    class Event:
        def __init__(self, **options: bool) -> None:
            self._number: int | None = None

        def record(self) -> None:
            self._number = device.num_launched

        def synchronize(self) -> None:
            if self._number is not None:
                device.wait("an event", self._number)

        def query(self) -> bool:
            return True

    return Event


def _graph_class(runtime: Runtime) -> type:
    class CUDAGraph:
        def __init__(self) -> None:
            self.operations: list[Operation] = []

        def replay(self) -> None:
            runtime.num_replayed += 1
            with torch._C.DisableTorchFunction():
                for operation in self.operations:
                    operation()

    return CUDAGraph


def install(monkeypatch: pytest.MonkeyPatch, runtime: Runtime, *, interprets: bool = False) -> None:
    """Have torch speak to the device. Triton's kernels are interpreted, or plain torch does their work, which is much
    faster.
    """
    functions: dict[str, object] = {
        "is_available": lambda: True,
        "is_initialized": lambda: True,
        "current_device": lambda: 0,
        "device_count": lambda: 1,
        "synchronize": lambda device=None: runtime.device.wait("synchronize"),
        "empty_cache": runtime.empty_cache,
        "mem_get_info": lambda device=None: (runtime.total_bytes, runtime.total_bytes),
        "memory_reserved": lambda device=None: 0,
        "memory_allocated": lambda device=None: 0,
        "max_memory_allocated": lambda device=None: runtime.peak_bytes,
        "reset_peak_memory_stats": lambda device=None: None,
        "get_device_capability": lambda device=None: runtime.capability,
        "get_device_name": lambda device=None: "Pretended",
        "get_device_properties": lambda device=None: SimpleNamespace(multi_processor_count=4),
        "Stream": Stream,
        "Event": _event_class(runtime),
        "CUDAGraph": _graph_class(runtime),
        "graph": runtime.graph,
        "graph_pool_handle": lambda: (0, 1),
        "current_stream": lambda device=None: runtime.stream,
        "set_stream": runtime.set_stream,
        "stream": runtime.on_stream,
    }
    for name, function in functions.items():
        monkeypatch.setattr(torch.cuda, name, function)
    (_take_over_triton if interprets else _replace_triton)(monkeypatch, runtime.device)


def _replace_triton(monkeypatch: pytest.MonkeyPatch, device: PretendCuda) -> None:
    from pagemill.backends.paged.attention import triton_attention
    from pagemill.backends.paged.ops import triton_ops

    class PlainAttention:
        """One operation of the device, which waits for nothing."""

        def __init__(self, device: torch.device) -> None:
            self._attention = TorchAttention()

        def __call__(
            self, spec: AttentionSpec, query: Tensor, key: Tensor, value: Tensor, kv: LayerKV, batch: AttentionBatch
        ) -> Tensor:
            layout = (batch.query_starts, batch.context_lens, batch.block_tables, batch.slots)
            for tensor in (query, key, value, *kv, *layout):
                assert isinstance(tensor, OnDevice), f"attention has a tensor of the host, {tuple(tensor.shape)}"
            names = ("query_starts", "context_lens", "block_tables", "slots")
            there = replace(batch, **dict(zip(names, map(bare, layout), strict=True)))
            output = torch.empty(query.shape, dtype=query.dtype, device=query.device)
            states = bare(query), bare(key), bare(value)
            target = bare(output)
            pages = LayerKV(*map(bare, kv))

            def attend() -> None:
                with torch._C.DisableTorchFunction(), _disable_current_modes():
                    target.copy_(self._attention(spec, *states, pages, there))

            attend()
            device.launched(attend)
            return output

    monkeypatch.setattr(triton_attention, "TritonAttention", PlainAttention)
    monkeypatch.setattr(triton_ops, "TritonOps", lambda device: TorchOps())


def _take_over_triton(monkeypatch: pytest.MonkeyPatch, device: PretendCuda) -> None:
    from triton.runtime.interpreter import InterpretedFunction

    interpret = InterpretedFunction.run

    def launch(kernel: Any, *args: Any, grid: tuple[int, ...], warmup: bool, **options: Any) -> None:
        for argument in (*args, *options.values()):
            if isinstance(argument, Tensor) and not isinstance(argument, OnDevice):
                raise ValueError(f"{kernel.__name__}: a pointer to the host's memory, {tuple(argument.shape)}")
        if any(size < 1 or size > limit for size, limit in zip(grid, MAX_GRID, strict=False)):
            raise RuntimeError(f"{kernel.__name__}: a grid of {grid}")

        def run() -> None:
            with torch._C.DisableTorchFunction(), _disable_current_modes():
                interpret(kernel, *map(bare, args), grid=grid, warmup=warmup, **options)

        run()
        device.launched(run)

    monkeypatch.setattr(InterpretedFunction, "run", launch)


def entering(device: PretendCuda, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function on a thread of its own that has the device."""

    def run(*args: Any, **kwargs: Any) -> Any:
        with device:
            return function(*args, **kwargs)

    return run
