"""The paged backend alone: what it says of itself, what it refuses, and how a step fails."""

from pathlib import Path

import pytest
import torch

from pagemill.backends.base import PipelinedBackend
from pagemill.backends.paged import model_loading
from pagemill.backends.paged.backend import PagedBackend
from pagemill.backends.paged.options import PagedOptions
from pagemill.errors import BackendError, ModelLoadError
from support.step_driver import StepDriver
from support.tiny_safetensors import TinyModel

LIMITS = {"device": "cpu", "kv_cache_memory_bytes": 2**20, "threads": 1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return TinyModel(dtype="bfloat16").write(tmp_path_factory.mktemp("backend") / "tiny")


def load(folder: Path, **options: object) -> PagedBackend:
    return PagedBackend.load(folder, PagedOptions(**{**LIMITS, **options}))  # type: ignore[arg-type]


def test_it_says_what_it_is(folder: Path) -> None:
    backend = load(folder, max_num_seqs=4, max_num_batched_tokens=32)
    info = backend.info
    assert isinstance(backend, PipelinedBackend)
    assert (info.architecture, info.quantization, info.format) == ("llama", "BF16", "safetensors")
    assert info.size_bytes == (folder / "model.safetensors").stat().st_size
    assert info.vocab_size == backend.tokenizer.vocab_size
    assert info.context_length == 1024
    assert 2**20 < info.memory_bytes < 2**21
    assert info.chat_template is not None
    assert (backend.max_model_len, backend.max_num_seqs, backend.max_num_batched_tokens) == (1024, 4, 32)
    assert not backend.pipelined


def test_a_float32_copy_of_a_bfloat16_checkpoint_says_so(folder: Path) -> None:
    assert load(folder, dtype="float32").info.quantization == "F32"


def test_a_closed_backend_fails_steps_and_closes_again(folder: Path) -> None:
    backend = load(folder)
    driver = StepDriver(backend)
    driver.start(0, [1, 2, 3])
    backend.close()
    backend.close()
    with pytest.raises(BackendError, match="closed"):
        driver.step(driver.chunk(0))


def test_what_torch_can_not_do_in_a_step_is_a_backend_error_and_the_next_step_runs(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = load(folder)
    driver = StepDriver(backend)
    driver.start(0, [1, 2, 3])
    with monkeypatch.context() as broken:

        def out_of_memory(*arguments: object) -> torch.Tensor:
            raise torch.OutOfMemoryError("no memory is left")

        broken.setattr("pagemill.backends.paged.decoder.Decoder.forward", out_of_memory)
        with pytest.raises(BackendError, match="no memory is left"):
            driver.step(driver.chunk(0))
    driver.start(1, [4, 5])
    assert len(driver.step(driver.chunk(1), ended=[0]).sampled) == 1


def test_a_model_that_does_not_fit_is_refused_with_the_numbers_before_it_is_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_loading, "available_memory_bytes", lambda: 1000)
    with pytest.raises(ModelLoadError, match=r"billion parameters, which take .* MiB as bfloat16; 0 MiB are free"):
        load(folder)


def test_pages_that_the_device_has_no_memory_for_are_an_error_of_the_load(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def out_of_memory(*arguments: object, **options: object) -> None:
        raise torch.OutOfMemoryError("tried to allocate 80 GiB")

    monkeypatch.setattr("pagemill.backends.paged.backend.KVPool", out_of_memory)
    with pytest.raises(ModelLoadError, match=r"tiny: tried to allocate 80 GiB"):
        load(folder)


def test_a_model_impl_that_does_not_know_the_architecture_is_refused(tmp_path: Path) -> None:
    foreign = TinyModel(model_type="gpt_neox").write(tmp_path / "neox")
    with pytest.raises(ModelLoadError, match="gpt_neox"):
        load(foreign, model_impl="pagemill")


def test_our_model_runs_through_transformers_too_if_asked(folder: Path) -> None:
    answers = []
    for model_impl in ("pagemill", "transformers"):
        driver = StepDriver(load(folder, model_impl=model_impl, dtype="float32"))
        driver.start(0, [5, 6, 7, 8])
        driver.generate(0, num_steps=12)
        answers.append(driver.output(0, [5, 6, 7, 8]))
    assert answers[0] == answers[1]
