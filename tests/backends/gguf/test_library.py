"""How llama.cpp's log lines are taken: none while a load succeeds, all of them when debugging, errors as reasons.
And which kernels are loaded; `tests/images` does so with a build for a fleet.
"""

import logging
import os
from pathlib import Path

import pytest

from pagemill.backends.gguf.library import load_kernels, load_library
from pagemill.errors import ModelLoadError
from pagemill.store.references import resolve_local

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
    load = Load(resolve_local("grist").path)
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
    path.write_bytes(resolve_local("grist").path.read_bytes()[:1000])
    load = Load(path)
    pointer, errors = load_library().attempt(load)
    assert pointer is None
    assert load.num_calls == 2
    assert any("failed to load model" in line for line in errors)


def test_lines_are_taken_again_after_a_silent_load(tmp_path: Path) -> None:
    library = load_library()
    pointer, _ = library.attempt(Load(resolve_local("grist").path))
    library.c.llama_model_free(pointer)
    with library.captured_errors() as errors:
        assert Load(tmp_path / "absent.gguf")() is None
    assert errors


class FleetBuild:
    """libllama with kernels in libraries of their own, of which some suit this CPU."""

    def __init__(self, folder: Path, suitable: str, *names: str) -> None:
        self._name = str(folder / "libllama.so")
        self.suitable = suitable
        self.loaded: list[str] = []
        self.opened: list[str] = []
        for name in names:
            (folder / name).touch()

    def ggml_backend_reg_count(self) -> int:
        return len(self.loaded)

    def ggml_backend_load(self, path: bytes) -> None:
        self._open(Path(os.fsdecode(path)))

    def ggml_backend_load_all_from_path(self, folder: bytes) -> None:
        for path in sorted(Path(os.fsdecode(folder)).glob("libggml-*.so")):
            self._open(path)

    def _open(self, path: Path) -> None:
        if path.exists():
            self.opened.append(path.name)
            if self.suitable in path.name:
                self.loaded.append(path.name)


def load(llama: FleetBuild) -> FleetBuild:
    load_kernels(llama)  # type: ignore[arg-type]
    return llama


CPUS = ("libggml-base.so.0", "libggml-cpu-haswell.so", "libggml-cpu-sse42.so", "libggml-cpu-zen4.so")


def test_the_best_kernels_that_suit_are_loaded_from_beside_the_library_once(tmp_path: Path) -> None:
    llama = FleetBuild(tmp_path, "cpu", *CPUS)
    assert load(load(llama)).loaded == ["libggml-cpu-zen4.so"]
    assert llama.opened == llama.loaded


def test_kernels_that_do_not_suit_are_passed_over(tmp_path: Path) -> None:
    llama = load(FleetBuild(tmp_path, "haswell", *CPUS))
    assert llama.loaded == ["libggml-cpu-haswell.so"]
    assert llama.opened == ["libggml-cpu-zen4.so", "libggml-cpu-haswell.so"]


def test_a_cpu_or_an_architecture_that_is_not_ranked_here_is_left_to_llama_cpp(tmp_path: Path) -> None:
    assert load(FleetBuild(tmp_path, "sse42", *CPUS)).loaded == ["libggml-cpu-sse42.so"]


def test_other_devices_are_not_passed_over(tmp_path: Path) -> None:
    assert "libggml-cuda.so" in load(FleetBuild(tmp_path, "", *CPUS, "libggml-cuda.so")).loaded


def test_a_cpu_without_kernels_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match=f"no kernels for this CPU in {tmp_path}"):
        load(FleetBuild(tmp_path, "armv9", *CPUS))


def test_kernels_that_are_built_in_are_taken() -> None:
    llama = load_library().c._lib
    num_backends = llama.ggml_backend_reg_count()
    load_kernels(llama)
    assert llama.ggml_backend_reg_count() == num_backends >= 1
