"""A pretended GPU for each test; what it saw go wrong fails the test."""

from collections.abc import Iterator

import pytest

from pagemill.engine.step_loop import StepLoop
from support.pretend_cuda import PretendCuda
from support.pretend_cuda_runtime import Runtime, entering, install


@pytest.fixture
def gpu(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, one_thread: None) -> Iterator[Runtime]:
    """With the parameter "interpreting" Triton's kernels are, which is slow."""
    pytest.importorskip("triton", reason="triton is made for Linux on x86-64 only")
    runtime = Runtime(PretendCuda())
    monkeypatch.setattr(StepLoop, "_run", entering(runtime.device, StepLoop._run))
    install(monkeypatch, runtime, interprets=getattr(request, "param", None) == "interpreting")
    yield runtime
    assert runtime.device.mistakes == []
    assert not runtime.is_broken, "a recording of a graph failed, after which torch gives no memory back"
