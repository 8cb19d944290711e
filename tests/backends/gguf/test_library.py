"""How llama.cpp's log lines are taken: none while a load succeeds, all of them when debugging, errors as reasons.
And which kernels are loaded; `tests/images` does so with a build for a fleet.
"""

import logging
import os
from pathlib import Path

import pytest

from pagemill.backends.gguf.library import load_kernels, load_library
from pagemill.errors import ModelLoadError
from pagemill.store.references import resolve

UNTOUCHED = -1  # the level of no line


class Load:
    """Loads a model file's vocabulary; counts its calls."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.num_calls = 0

    def __call__(self) -> int | None:
        self.num_calls += 1
        c = load_library().c
        params = c.llama_model_default_params()
        params.vocab_only = True
        pointer: int | None = c.llama_model_load_from_file(os.fsencode(self.path), params)
        return pointer


def lines_of(caplog: pytest.LogCaptureFixture, level: int) -> list[str]:
    """What is logged of one load that succeeds."""
    load = Load(resolve("grist").path)
    with caplog.at_level(level, logger="pagemill"):
        pointer, errors = load_library().attempt(load)
    assert pointer is not None
    load_library().c.llama_model_free(pointer)
    assert (load.num_calls, errors) == (1, [])
    return [record.getMessage() for record in caplog.records if record.name == "pagemill.backends.gguf.library"]


def test_a_load_that_succeeds_takes_no_line_from_llama_cpp(caplog: pytest.LogCaptureFixture) -> None:
    router = load_library().router
    router.level = UNTOUCHED
    assert lines_of(caplog, logging.INFO) == []
    assert router.level == UNTOUCHED


def test_every_line_is_logged_when_debugging(caplog: pytest.LogCaptureFixture) -> None:
    assert len(lines_of(caplog, logging.DEBUG)) > 20


def test_a_load_that_fails_is_tried_again_for_its_reason(tmp_path: Path) -> None:
    path = tmp_path / "damaged.gguf"
    path.write_bytes(resolve("grist").path.read_bytes()[:1000])
    load = Load(path)
    pointer, errors = load_library().attempt(load)
    assert pointer is None
    assert load.num_calls == 2
    assert any("failed to load model" in line for line in errors)


def test_lines_are_taken_again_after_a_silent_load(tmp_path: Path) -> None:
    library = load_library()
    pointer, _ = library.attempt(Load(resolve("grist").path))
    library.c.llama_model_free(pointer)
    with library.captured_errors() as errors:
        assert Load(tmp_path / "absent.gguf")() is None
    assert errors


class FleetBuild:
    """libllama with kernels in libraries of their own, of which `num_suitable` suit this CPU."""

    _name = "/opt/llama/libllama.so"

    def __init__(self, num_suitable: int) -> None:
        self.num_suitable = num_suitable
        self.folders: list[bytes] = []

    def ggml_backend_reg_count(self) -> int:
        return self.num_suitable if self.folders else 0

    def ggml_backend_load_all_from_path(self, folder: bytes) -> None:
        self.folders.append(folder)


def test_kernels_apart_are_loaded_from_beside_the_library() -> None:
    llama = FleetBuild(num_suitable=1)
    load_kernels(llama)  # type: ignore[arg-type]
    load_kernels(llama)  # type: ignore[arg-type]
    assert llama.folders == [b"/opt/llama"]


def test_a_cpu_without_kernels_is_refused() -> None:
    with pytest.raises(ModelLoadError, match="no kernels for this CPU in /opt/llama"):
        load_kernels(FleetBuild(num_suitable=0))  # type: ignore[arg-type]


def test_kernels_that_are_built_in_are_taken() -> None:
    llama = load_library().c._lib
    num_backends = llama.ggml_backend_reg_count()
    load_kernels(llama)
    assert llama.ggml_backend_reg_count() == num_backends >= 1
