"""From files to a decoder: what is wrong is named, what is not needed is told, and names may differ."""

import json
import logging
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from pagemill.backends.paged.attention.torch_attention import TorchAttention
from pagemill.backends.paged.checkpoint import Checkpoint
from pagemill.backends.paged.decoder import Decoder
from pagemill.backends.paged.decoder_loading import load_decoder
from pagemill.backends.paged.ops.torch_ops import TorchOps
from pagemill.errors import ModelLoadError
from support.model_zoo import CONTEXT, DECODERS
from support.paged_driver import PagedDriver
from support.tiny_safetensors import TinyModel
from support.transformers_oracle import expected_logits, random_texts

Tensors = dict[str, Tensor]
Q_PROJ, K_PROJ = "model.layers.1.self_attn.q_proj.weight", "model.layers.0.self_attn.k_proj.weight"


def load(folder: Path, dtype: torch.dtype = torch.float32) -> Decoder:
    with Checkpoint.open(folder) as checkpoint:
        return load_decoder(
            checkpoint,
            dtype=dtype,
            device=torch.device("cpu"),
            ops=TorchOps(),
            attention=TorchAttention(),
            max_model_len=CONTEXT,
        )


def change(folder: Path, tensors: Callable[[Tensors], Tensors], config: Mapping[str, object] | None = None) -> Path:
    """Write the folder's weights again, changed; and its config, if a new one is given."""
    path = folder / "model.safetensors"
    save_file(tensors({name: tensor.clone() for name, tensor in load_file(path).items()}), path)
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config))
    return folder


def without(name: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {key: tensor for key, tensor in tensors.items() if key != name}


def test_missing_tensor_is_named(tmp_path: Path) -> None:
    folder = change(TinyModel().write(tmp_path / "model"), without(Q_PROJ))
    with pytest.raises(ModelLoadError, match=f"{re.escape(str(folder))}.*{re.escape(Q_PROJ)}"):
        load(folder)


def test_wrong_shape_is_named_with_the_file(tmp_path: Path) -> None:
    folder = change(TinyModel().write(tmp_path / "model"), lambda old: old | {K_PROJ: old[K_PROJ][:8]})
    with pytest.raises(ModelLoadError, match=rf"{re.escape(K_PROJ)} of .*model.safetensors has the shape \[8, 64\]"):
        load(folder)


def test_integers_are_no_weights(tmp_path: Path) -> None:
    folder = change(TinyModel().write(tmp_path / "model"), lambda old: old | {K_PROJ: old[K_PROJ].to(torch.int8)})
    with pytest.raises(ModelLoadError, match=f"{re.escape(K_PROJ)} of .* has the dtype torch.int8"):
        load(folder)


def test_tensors_without_a_place_are_told_but_not_buffers(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    extra = {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4), "model.layers.2.norm.weight": torch.ones(4)}
    folder = change(TinyModel().write(tmp_path / "model"), lambda old: old | extra)
    with caplog.at_level(logging.WARNING):
        load(folder)
    assert [message.rpartition(": ")[2] for message in caplog.messages] == ["model.layers.2.norm.weight"]


def test_head_of_a_tied_model_may_lie_in_the_file_too(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tiny = DECODERS["llama-tied"]
    head = {"lm_head.weight": torch.zeros(tiny.config().vocab_size, 64)}
    folder = change(tiny.write(tmp_path / "model"), lambda old: old | head)
    with caplog.at_level(logging.WARNING):
        decoder = load(folder)
    assert caplog.messages == []
    assert decoder.logits(torch.ones(1, 64)).abs().max() > 0


def test_tied_head_shares_the_embeddings_memory(tmp_path: Path) -> None:
    decoder = load(DECODERS["llama-tied"].write(tmp_path / "model"))
    assert decoder._head is not None
    assert decoder._head.data_ptr() == decoder._embedding.data_ptr()


@pytest.mark.parametrize("prefix", ["language_model.model.", "model.language_model."])
def test_text_model_is_found_in_a_multimodal_checkpoint(
    prefix: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tiny = DECODERS["gemma3"]
    folder = tiny.write(tmp_path / "model")
    text_config = json.loads((folder / "config.json").read_text())
    architectures = ["Gemma3ForConditionalGeneration"]
    change(
        folder,
        lambda old: {
            **{prefix + name.removeprefix("model."): tensor for name, tensor in old.items()},
            "vision_tower.embeddings.weight": torch.ones(2),
        },
        {"model_type": "gemma3", "architectures": architectures, "text_config": text_config},
    )
    with caplog.at_level(logging.WARNING):
        decoder = load(folder)
    assert caplog.messages == []
    texts = random_texts(decoder.vocab_size, (20, 40))
    for ours, theirs in zip(
        PagedDriver(decoder).step(list(enumerate(texts))), expected_logits(tiny.model(), texts), strict=True
    ):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", ["llama", "gemma2", "granite", "qwen3_moe"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_as_near_to_float32_as_that_of_transformers(
    name: str, dtype: torch.dtype, tmp_path: Path
) -> None:
    """Not near to each other: both are rounded, in another order."""
    tiny = DECODERS[name]
    decoder = load(tiny.write(tmp_path / "model"), dtype)
    texts = random_texts(decoder.vocab_size, (24,))
    driver = PagedDriver(decoder, dtype=dtype)
    exact = expected_logits(tiny.model(), texts)[0]
    theirs = expected_logits(tiny.model().to(dtype), texts)[0].float()
    ours = driver.step(list(enumerate(texts)))[0]
    assert ours.dtype == torch.float32
    assert (ours - exact).norm() < 1.5 * (theirs - exact).norm()


def test_no_transformers_is_imported_for_the_decoder() -> None:
    code = "import sys, pagemill.backends.paged.decoder_loading; sys.exit('transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
