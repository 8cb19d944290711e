"""GGUF files of fewer bits, made by llama.cpp in a process of its own."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from pagemill.backends.gguf import quantization
from pagemill.backends.gguf.library import load_library
from pagemill.backends.gguf.metadata import read_header
from pagemill.backends.gguf.model import load_model, quantization_name
from pagemill.backends.gguf.options import GGUFOptions
from pagemill.backends.gguf.quantization import FILE_TYPES, GGUFQuantizer
from pagemill.errors import InvalidRequestError, ModelLoadError
from support.api_server import wait_until
from support.tiny_gguf import TinyModel

QUANTIZER = GGUFQuantizer(threads=1, buffer_bytes=2**20)
Quantize = Callable[[str], Path]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """In single precision, with rows that k-quants' blocks of 256 fit in."""
    return TinyModel(embedding=256, head_size=64, feed_forward=256).write(tmp_path_factory.mktemp("source") / "f.gguf")


@pytest.fixture
def quantize(source: Path, tmp_path: Path) -> Quantize:
    def run(kind: str) -> Path:
        target = tmp_path / f"{kind}.gguf"
        QUANTIZER.quantize(source, target, kind, lambda done_bytes: None, threading.Event())
        return target

    return run


def large(path: Path) -> Path:
    """One that is quantized for longer than a test takes to stop it."""
    return TinyModel(embedding=1024, feed_forward=4096, num_layers=4).write(path)


def test_types_have_the_numbers_of_llama_cpp() -> None:
    names = {kind: load_library().c.llama_ftype_name(number).decode() for kind, number in FILE_TYPES.items()}
    assert {kind: quantization_name(name) for kind, name in names.items()} == {kind: kind for kind in FILE_TYPES}


@pytest.mark.parametrize("kind", ["BF16", "Q8_0", "Q4_K_S", "Q4_K_M"])
def test_the_file_says_of_what_type_it_is(kind: str, quantize: Quantize) -> None:
    model = load_model(load_library(), quantize(kind), GGUFOptions())
    try:
        assert model.info(0).quantization == kind
    finally:
        model.close()


def test_fewer_bits_make_a_smaller_file(source: Path, quantize: Quantize) -> None:
    sizes = [source.stat().st_size, *(quantize(kind).stat().st_size for kind in ("F16", "Q8_0", "Q4_K_M", "Q4_K_S"))]
    assert sizes == sorted(sizes, reverse=True)
    assert len(set(sizes)) == len(sizes)


def test_what_is_done_is_told_in_bytes_of_the_source(source: Path, tmp_path: Path) -> None:
    told: list[int] = []
    QUANTIZER.quantize(source, tmp_path / "target", "Q8_0", told.append, threading.Event())
    assert told == sorted(told)
    whole = sum(tensor.num_bytes for tensor in read_header(source).tensors)
    assert whole / 2 < told[-1] < whole, "the last tensor that was begun is not counted"


@pytest.mark.parametrize(
    ("text", "name"),
    [("q8_0", "Q8_0"), ("q4_K_M", "Q4_K_M"), ("Q4_K_S", "Q4_K_S"), ("q4_k", "Q4_K_M"), ("f16", "F16")],
)
def test_types_are_found_in_any_letters(text: str, name: str) -> None:
    assert QUANTIZER.type_named(text) == name


@pytest.mark.parametrize("text", ["", "q4", "IQ2_XXS", "Q4_K_M "])
def test_another_type_is_refused_with_a_list_of_all(text: str) -> None:
    with pytest.raises(InvalidRequestError, match=f"unsupported quantization type {text} .*Q8_0, .*Q4_K_M") as refused:
        QUANTIZER.type_named(text)
    assert refused.value.param == "quantize"


def test_floats_can_be_quantized_and_quantized_files_not(source: Path, quantize: Quantize) -> None:
    assert QUANTIZER.type_of(source) == "F32"
    assert [QUANTIZER.type_of(quantize(kind)) for kind in ("F16", "BF16")] == ["F16", "BF16"]
    with pytest.raises(InvalidRequestError, match="only supported for F16, F32 and BF16 models, this one is Q4_K_M"):
        QUANTIZER.type_of(quantize("Q4_K_M"))


def test_a_file_that_is_no_model_fails_with_its_name_and_the_type(tmp_path: Path) -> None:
    source = TinyModel().write(tmp_path / "odd.gguf")
    content = source.read_bytes()
    source.write_bytes(content.replace(b"llama", b"lamma"))  # an architecture that llama.cpp does not know
    with pytest.raises(ModelLoadError, match=r"can't quantize .*/odd\.gguf to Q8_0: .*lamma"):
        QUANTIZER.quantize(source, tmp_path / "target", "Q8_0", lambda done_bytes: None, threading.Event())


def test_a_disk_that_takes_no_more_is_told(source: Path) -> None:
    with pytest.raises(ModelLoadError, match=r"to Q8_0: /dev/full can't be written; is the disk full\?"):
        QUANTIZER.quantize(source, Path("/dev/full"), "Q8_0", lambda done_bytes: None, threading.Event())


def test_a_process_that_dies_is_an_error(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "killed_process.py"
    program.write_text("import os, sys\nprint('GGML_ASSERT(x) failed', file=sys.stderr, flush=True)\nos.abort()\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(quantization, "PROCESS", "killed_process")
    with pytest.raises(ModelLoadError, match=r"ended by signal 6: GGML_ASSERT\(x\) failed"):
        QUANTIZER.quantize(source, tmp_path / "target", "Q8_0", lambda done_bytes: None, threading.Event())


def test_it_can_be_stopped_at_any_moment(tmp_path: Path) -> None:
    source, target, stopped = large(tmp_path / "f.gguf"), tmp_path / "target", threading.Event()
    told: list[int] = []

    def report(done_bytes: int) -> None:
        told.append(done_bytes)
        stopped.set()

    QUANTIZER.quantize(source, target, "Q4_K_M", report, stopped)
    assert told[-1] < sum(tensor.num_bytes for tensor in read_header(source).tensors) / 2
    with pytest.raises(ModelLoadError, match="no valid GGUF header"):
        read_header(target)


def test_a_process_whose_starter_is_gone_ends_and_leaves_nothing(tmp_path: Path) -> None:
    source, target = large(tmp_path / "f.gguf"), tmp_path / "target"
    starter = (
        "import sys, threading\nfrom pathlib import Path\n"
        "from pagemill.backends.gguf.quantization import GGUFQuantizer\n"
        "source, target = map(Path, sys.argv[1:])\n"
        "GGUFQuantizer(threads=1).quantize(source, target, 'Q4_K_M', lambda _: print('begun', flush=True),"
        " threading.Event())\n"
    )
    command = [sys.executable, "-c", starter, str(source), str(target)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": "core"}) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"begun\n"
        assert target.exists()
        process.send_signal(signal.SIGKILL)
    wait_until(lambda: not target.exists(), timeout_s=60)
