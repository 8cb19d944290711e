"""Writes grist as a Q8_0 GGUF for llama.cpp: matrices quantized, norms in float32, tokenizer and template inside.

llama.cpp rotates adjacent pairs where Hugging Face rotates halves, so the query and key rows are permuted, as in
llama.cpp's `conversion/llama.py`.
"""

import json
from pathlib import Path

import gguf
import numpy as np
import numpy.typing as npt
from gguf import GGMLQuantizationType, GGUFWriter, LlamaFileType, TokenType
from torch import Tensor

from grist.model import LlamaShape
from grist.tokenizer import CONTROL_TOKENS, END, PAD

LAYER_NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def write_gguf(artefacts: Path, shape: LlamaShape, weights: dict[str, Tensor], path: Path) -> None:
    """Write `weights` (float32, Hugging Face names) and the tokenizer files in `artefacts` to `path`."""
    writer = GGUFWriter(path, "llama")
    _add_general(writer)
    _add_architecture(writer, shape)
    _add_tokenizer(writer, artefacts)
    for name, weight in weights.items():
        _add_tensor(writer, name, weight.float().numpy(), shape)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_general(writer: GGUFWriter) -> None:
    writer.add_type("model")
    writer.add_name("grist")
    writer.add_basename("grist")
    writer.add_description("The tiny demo model that ships with Pagemill, trained from scratch on synthetic data.")
    writer.add_organization("Pagemill")
    writer.add_license("apache-2.0")
    writer.add_size_label("4.7M")
    writer.add_languages(["en"])
    writer.add_file_type(LlamaFileType.MOSTLY_Q8_0)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)


def _add_architecture(writer: GGUFWriter, shape: LlamaShape) -> None:
    writer.add_vocab_size(shape.vocab_size)
    writer.add_context_length(shape.max_position_embeddings)
    writer.add_embedding_length(shape.hidden_size)
    writer.add_block_count(shape.num_hidden_layers)
    writer.add_feed_forward_length(shape.intermediate_size)
    writer.add_head_count(shape.num_attention_heads)
    writer.add_head_count_kv(shape.num_key_value_heads)
    writer.add_key_length(shape.head_dim)
    writer.add_value_length(shape.head_dim)
    writer.add_rope_dimension_count(shape.head_dim)
    writer.add_rope_freq_base(shape.rope_theta)
    writer.add_layer_norm_rms_eps(shape.rms_norm_eps)


def _add_tokenizer(writer: GGUFWriter, artefacts: Path) -> None:
    document = json.loads((artefacts / "tokenizer.json").read_text(encoding="utf-8"))
    added = {each["content"]: each["id"] for each in document["added_tokens"]}
    vocabulary = document["model"]["vocab"] | added
    tokens = sorted(vocabulary, key=lambda token: vocabulary[token])
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types([_token_type(token, added) for token in tokens])
    writer.add_token_merges([" ".join(pair) for pair in document["model"]["merges"]])
    writer.add_eos_token_id(added[END])
    writer.add_eot_token_id(added[END])
    writer.add_pad_token_id(added[PAD])
    writer.add_add_bos_token(False)
    writer.add_add_space_prefix(False)
    writer.add_chat_template((artefacts / "chat_template.jinja").read_text(encoding="utf-8"))


def _token_type(token: str, added: dict[str, int]) -> TokenType:
    if token in CONTROL_TOKENS:
        return TokenType.CONTROL
    return TokenType.USER_DEFINED if token in added else TokenType.NORMAL


def _add_tensor(writer: GGUFWriter, name: str, weight: npt.NDArray[np.float32], shape: LlamaShape) -> None:
    if name.endswith("q_proj.weight"):
        weight = permute(weight, shape.num_attention_heads)
    elif name.endswith("k_proj.weight"):
        weight = permute(weight, shape.num_key_value_heads)
    if weight.ndim == 1:
        writer.add_tensor(gguf_name(name), weight)
        return
    quantized = gguf.quants.quantize(weight, GGMLQuantizationType.Q8_0)
    writer.add_tensor(gguf_name(name), quantized, raw_dtype=GGMLQuantizationType.Q8_0)


def permute(weight: npt.NDArray[np.float32], num_heads: int) -> npt.NDArray[np.float32]:
    """Interleave the two halves of each head's rows `[num_heads * head_dim, hidden]`."""
    halves = weight.reshape(num_heads, 2, weight.shape[0] // num_heads // 2, weight.shape[1])
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(weight.shape))


def gguf_name(name: str) -> str:
    """The llama.cpp name of a Hugging Face tensor. Raises KeyError for one grist does not have."""
    if name == "model.embed_tokens.weight":
        return "token_embd.weight"
    if name == "model.norm.weight":
        return "output_norm.weight"
    _, _, layer, rest = name.split(".", 3)
    return f"blk.{layer}.{LAYER_NAMES[rest.removesuffix('.weight')]}.weight"
