"""A pretended GPU for each test; what it saw go wrong fails the test."""

from collections.abc import Iterator

import pytest

from pagemill.engine.step_loop import StepLoop
from support.pretend_cuda import PretendCuda
from support.pretend_cuda_runtime import Runtime, entering, install

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch, one_thread: None) -> Iterator[Runtime]:
    pytest.importorskip("triton", reason="triton is made for Linux on x86-64 only")
    runtime = Runtime(PretendCuda())
    monkeypatch.setattr(StepLoop, "_run", entering(runtime.device, StepLoop._run))
    install(monkeypatch, runtime)
    yield runtime
    assert runtime.device.mistakes == []
    assert not runtime.is_broken, "a recording of a graph failed, after which torch gives no memory back"
