"""tags, ps and show: what they tell of a model, loaded or not."""

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pagemill.api.ollama.models import human_number
from pagemill.backends.fake import FakeBackend
from pagemill.store.references import resolve_local
from support.api_server import Serve
from support.ollama_requests import error

METADATA = {
    "general.architecture": "llama",
    "general.name": "left out",
    "general.license": "apache-2.0",
    "llama.context_length": 2048,
    "tokenizer.chat_template": "left out",
    "tokenizer.ggml.tokens": [str(number) for number in range(300)],
    "short": [1, 2, 3],
}
DETAILS = {
    "parent_model": "",
    "format": "gguf",
    "family": "llama",
    "families": ["llama"],
    "parameter_size": "5.24M",
    "quantization_level": "Q8_0",
}


@pytest.fixture
def backend() -> FakeBackend:
    """One that says it has a llama's file under it."""
    backend = FakeBackend()
    backend.info = replace(
        backend.info,
        architecture="llama",
        num_parameters=5_240_000,
        quantization="Q8_0",
        format="gguf",
        memory_bytes=12_345_678,
        metadata=METADATA,
    )
    return backend


def test_show_tells_the_details_and_the_metadata(serve: Serve, backend: FakeBackend) -> None:
    shown = serve(backend).post("/api/show", {"model": "fake:latest"}).json()
    assert shown["details"] == DETAILS
    assert shown["license"] == "apache-2.0"
    assert shown["capabilities"] == ["completion"]
    assert shown["template"] == backend.info.chat_template
    assert shown["modelfile"].startswith('FROM fake:latest\nTEMPLATE """')
    assert shown["model_info"] == {
        "general.parameter_count": 5_240_000,
        "general.architecture": "llama",
        "general.license": "apache-2.0",
        "llama.context_length": 2048,
        "tokenizer.ggml.tokens": [],
        "short": [1, 2, 3],
    }
    assert datetime.fromisoformat(shown["modified_at"])


def test_verbose_show_keeps_long_arrays(serve: Serve, backend: FakeBackend) -> None:
    shown = serve(backend).post("/api/show", {"name": "fake", "verbose": True}).json()
    assert shown["model_info"]["tokenizer.ggml.tokens"] == METADATA["tokenizer.ggml.tokens"]


CONFIG = {
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "num_hidden_layers": 28,
    "intermediate_size": 3072,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "rms_norm_eps": 1e-06,
    "rope_theta": 1000000,
    "sliding_window": None,
    "layer_types": ["full_attention"] * 28,
}


def of_a_folder(config: dict[str, object]) -> FakeBackend:
    """A backend that says it has a model folder under it."""
    backend = FakeBackend()
    backend.info = replace(
        backend.info,
        architecture=str(config["model_type"]),
        num_parameters=596_049_920,
        quantization="BF16",
        format="safetensors",
        vocab_size=151_936,
        context_length=40_960,
        embedding_length=1024,
        metadata=config,
    )
    return backend


def test_a_model_folder_is_shown_in_the_names_of_gguf(serve: Serve) -> None:
    shown = serve(of_a_folder(CONFIG)).post("/api/show", {"model": "fake"}).json()
    assert shown["details"] == {
        "parent_model": "",
        "format": "safetensors",
        "family": "qwen3",
        "families": ["qwen3"],
        "parameter_size": "596.05M",
        "quantization_level": "BF16",
    }
    assert shown["model_info"] == {
        "general.parameter_count": 596_049_920,
        "general.architecture": "qwen3",
        "qwen3.context_length": 40_960,
        "qwen3.embedding_length": 1024,
        "qwen3.vocab_size": 151_936,
        "qwen3.block_count": 28,
        "qwen3.feed_forward_length": 3072,
        "qwen3.attention.head_count": 16,
        "qwen3.attention.head_count_kv": 8,
        "qwen3.attention.key_length": 128,
        "qwen3.attention.value_length": 128,
        "qwen3.attention.layer_norm_rms_epsilon": 1e-06,
        "qwen3.rope.freq_base": 1000000,
    }


def test_verbose_show_adds_a_folders_configuration(serve: Serve) -> None:
    shown = serve(of_a_folder(CONFIG)).post("/api/show", {"model": "fake", "verbose": True}).json()
    assert shown["model_info"]["qwen3.block_count"] == 28
    assert CONFIG.items() <= shown["model_info"].items()


def test_numbers_are_found_where_newer_and_larger_models_have_them(serve: Serve) -> None:
    text = {"num_hidden_layers": 34, "num_experts": 8, "rope_parameters": {"rope_type": "default", "rope_theta": 1e6}}
    config: dict[str, object] = {"model_type": "gemma3", "num_hidden_layers": 5, "text_config": text}
    shown = serve(of_a_folder(config)).post("/api/show", {"model": "fake"}).json()["model_info"]
    assert shown["gemma3.block_count"] == 34
    assert shown["gemma3.expert_count"] == 8
    assert shown["gemma3.rope.freq_base"] == 1e6


def test_tags_know_a_folder_that_is_still_loading(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"of 11 bytes")
    server = serve(reference=resolve_local(str(tmp_path)), wait_ready=False, load_delay_s=1.0)
    (model,) = server.get("/api/tags").json()["models"]
    assert (model["size"], model["details"]["format"]) == (11, "safetensors")


@pytest.mark.parametrize("field", ["system", "template", "options"])
def test_show_refuses_what_it_does_not_take(serve: Serve, field: str) -> None:
    body: dict[str, Any] = {"model": "fake", field: "x"}
    assert f"{field} is not supported" in error(serve().post("/api/show", body), 400)


def test_a_model_without_a_template_shows_none(serve: Serve) -> None:
    shown = serve(FakeBackend(chat_template=None)).post("/api/show", {"model": "fake"}).json()
    assert shown["template"] == ""
    assert "license" not in shown


def test_ps_tells_what_a_loaded_model_takes(serve: Serve, backend: FakeBackend) -> None:
    server = serve(backend)
    (model,) = server.get("/api/ps").json()["models"]
    assert model["name"] == model["model"] == "fake:latest"
    assert (model["size"], model["size_vram"], model["context_length"]) == (12_345_678, 0, backend.max_model_len)
    assert model["details"] == DETAILS
    never = datetime.fromisoformat(model["expires_at"]) - server.pool.loaded()[0].model.loaded_at
    assert never > timedelta(days=200 * 365)


def test_tags_know_a_model_that_has_been_unloaded(serve: Serve, backend: FakeBackend) -> None:
    server = serve(backend)
    server.post("/api/generate", {"model": "fake", "keep_alive": 0})
    assert server.get("/api/ps").json() == {"models": []}
    (model,) = server.get("/api/tags").json()["models"]
    assert model["details"] == DETAILS


def test_tags_list_a_model_that_is_still_loading(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    path.write_bytes(b"GGUF and more")
    server = serve(reference=resolve_local(str(path)), wait_ready=False, load_delay_s=1.0)
    (model,) = server.get("/api/tags").json()["models"]
    assert (model["name"], model["size"]) == ("tiny:latest", 13)
    assert model["details"] == {
        "parent_model": "",
        "format": "gguf",
        "family": "",
        "families": None,
        "parameter_size": "",
        "quantization_level": "",
    }
    assert server.get("/api/ps").json() == {"models": []}


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0"),
        (999, "999"),
        (1_000, "1K"),
        (5_242_880, "5.24M"),
        (7_000_000, "7M"),
        (494_032_768, "494.03M"),
        (1_500_000_000, "1.5B"),
        (8_000_000_000, "8B"),
        (8_030_261_312, "8.0B"),
    ],
)
def test_numbers_of_parameters_read_as_ollama_writes_them(count: int, text: str) -> None:
    assert human_number(count) == text


def test_numbers_that_json_does_not_have_are_shown_as_null(serve: Serve) -> None:
    config = CONFIG | {"rope_theta": float("nan"), "time_step_limit": [0.0, float("inf")]}
    shown = serve(of_a_folder(config)).post("/api/show", {"model": "fake", "verbose": True}).json()["model_info"]
    assert shown["time_step_limit"] == [0.0, None]
    assert shown["qwen3.rope.freq_base"] is None
