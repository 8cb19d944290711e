"""How a model's own parameters, and the settings before them, say how it is loaded."""

import logging
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pagemill.backend_choice import estimate_memory, load_backend
from pagemill.backends.fake import FakeBackend
from pagemill.backends.gguf.options import GGUFOptions
from pagemill.settings import Settings
from pagemill.store.model_defaults import ModelDefaults
from pagemill.store.references import ModelReference, gguf_reference
from support.tiny_gguf import TinyModel

TRAINED = 1024
TOKEN_BYTES = 512  # of KV: two layers, two heads of 32 numbers of 2 bytes, keys and values
PLENTY = 2**30


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return TinyModel(context_length=TRAINED).write(tmp_path_factory.mktemp("models") / "tiny.gguf")


def reference(path: Path, **parameters: object) -> ModelReference:
    return replace(gguf_reference(path, ["tiny"]), defaults=ModelDefaults(parameters=parameters))


def context_of(wanted: ModelReference, **settings: Any) -> int:
    """The length that it is loaded with, which is also what its memory is estimated for."""
    checked = Settings(model="tiny", max_num_seqs=1, threads=1, **settings)
    with closing(load_backend(wanted, checked)) as backend:
        need = estimate_memory(wanted, checked, lambda device: PLENTY)
        assert need.kv == TOKEN_BYTES * backend.max_model_len
        return backend.max_model_len


@pytest.mark.parametrize(
    ("num_ctx", "settings", "length"),
    [
        (None, {}, TRAINED),
        (256, {}, 256),
        (0, {}, TRAINED),
        (4096, {}, TRAINED),
        (256, {"max_model_len": 512}, 512),
    ],
)
def test_num_ctx_is_the_context_that_a_model_is_loaded_with(
    path: Path, num_ctx: int | None, settings: dict[str, int], length: int
) -> None:
    """Never more than it was trained for, and only where the settings leave it open."""
    parameters = {} if num_ctx is None else {"num_ctx": num_ctx}
    assert context_of(reference(path, **parameters), **settings) == length


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, (2, 64, False)),
        ({"threads": 3, "max_num_batched_tokens": 128, "mmap": True}, (3, 128, True)),
    ],
)
def test_what_the_settings_leave_open_is_as_the_parameters_say(
    path: Path, settings: dict[str, Any], expected: tuple[int, int, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[GGUFOptions] = []

    def load(path: Path, options: GGUFOptions) -> FakeBackend:
        asked.append(options)
        return FakeBackend()

    monkeypatch.setattr("pagemill.backends.gguf.loading.load_gguf", load)
    load_backend(reference(path, num_thread=2, num_batch=64, use_mmap=False), Settings(model="tiny", **settings))
    (options,) = asked
    assert (options.threads, options.max_num_batched_tokens, options.mmap) == expected


def test_parameters_without_effect_are_named_in_the_log(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        context_of(reference(path, temperature=0.5, num_thread=1, num_batch=64, use_mmap=False))
        assert caplog.text == ""
        context_of(reference(path, num_gpu=1, mirostat=2, num_ctx=256))
    assert "of no effect among the parameters of tiny: num_gpu, mirostat" in caplog.text


def test_what_a_model_without_a_chat_template_cannot_use_is_named_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bare = gguf_reference(TinyModel(sentencepiece=True).write(tmp_path / "bare.gguf"), ["bare"])
    settings = Settings(model="bare", max_num_seqs=1, max_model_len=64, threads=1)
    with caplog.at_level(logging.WARNING):
        load_backend(replace(bare, defaults=ModelDefaults(parameters={"top_k": 1})), settings).close()
        assert caplog.text == ""
        load_backend(replace(bare, defaults=ModelDefaults(has_go_template=True, system="Be Mario.")), settings).close()
    unplaced = "its template, which is written for Ollama and its system prompt"
    assert f"chats will be refused: the GGUF file of bare has no chat template for {unplaced}" in caplog.text
