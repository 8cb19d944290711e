"""The random models of `models.py` as Hugging Face folders: the same weights, rounded to bf16, and the same tokenizer.

Deterministic: the same size gives the same bytes. Owns no state but the folders in the cache. Imports no torch, for a
bf16 tensor in a safetensors file is plain bytes behind a JSON header (its format's documentation has one page).
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from load_tests.models import (
    BOS_TOKEN_ID,
    CACHE,
    CHAT_TEMPLATE,
    EOS_TOKEN_ID,
    RMS_EPS,
    SPECIAL_TOKENS,
    Shape,
    random_tensors,
    shapes,
    vocabulary,
)

TENSOR_NAMES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def model_folder(size: str) -> Path:
    """The folder of that size, made now if it is not in the cache."""
    path = CACHE / f"random-{shapes()[size].architecture}-{size}-bf16"
    if not path.exists():
        unfinished = path.with_suffix(".unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        write_folder(unfinished, shapes()[size])
        unfinished.rename(path)
    return path


def write_folder(path: Path, shape: Shape) -> None:
    """Write all files into a new folder."""
    path.mkdir(parents=True)
    documents = {
        "config.json": _config(shape),
        "generation_config.json": {"bos_token_id": BOS_TOKEN_ID, "eos_token_id": EOS_TOKEN_ID},
        "tokenizer.json": _tokenizer(shape.vocab),
        "tokenizer_config.json": _tokenizer_config(shape.context),
    }
    for name, document in documents.items():
        (path / name).write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    _write_safetensors(
        path / "model.safetensors",
        {
            hugging_face_name(name): bfloat16_bits(half_split(name, values, shape))
            for name, values in random_tensors(shape)
        },
    )


def hugging_face_name(name: str) -> str:
    """A tensor's name in transformers, from its name in a GGUF file."""
    *block, stem, kind = name.split(".")
    prefix = f"model.layers.{block[1]}." if block else ""
    return f"{prefix}{TENSOR_NAMES[stem]}.{kind}"


def bfloat16_bits(values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint16]:
    """Rounded to nearest, ties to even; the values are finite."""
    bits = values.view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def _write_safetensors(path: Path, tensors: Mapping[str, npt.NDArray[np.uint16]]) -> None:
    """The header's length, the header, then the tensors one after another, from a multiple of 8 bytes on."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, bits in tensors.items():
        header[name] = {"dtype": "BF16", "shape": bits.shape, "data_offsets": (offset, offset + bits.nbytes)}
        offset += bits.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for bits in tensors.values():
            file.write(bits.tobytes())


def half_split(name: str, values: npt.NDArray[np.float32], shape: Shape) -> npt.NDArray[np.float32]:
    """llama.cpp rotates neighbouring rows of a Llama's query or key head, transformers those half a head apart."""
    if shape.architecture != "llama":
        return values
    heads = {"attn_q": shape.heads, "attn_k": shape.kv_heads}.get(name.split(".")[-2])
    if heads is None:
        return values
    return values.reshape(heads, shape.head_dim // 2, 2, -1).swapaxes(1, 2).reshape(values.shape)


def _config(shape: Shape) -> dict[str, Any]:
    return {
        "architectures": [{"llama": "LlamaForCausalLM", "qwen3": "Qwen3ForCausalLM"}[shape.architecture]],
        "model_type": shape.architecture,
        "vocab_size": shape.vocab,
        "hidden_size": shape.hidden,
        "intermediate_size": shape.feed_forward,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_dim,
        "max_position_embeddings": shape.context,
        "rms_norm_eps": RMS_EPS,
        "rope_theta": shape.rope_base,
        "rope_scaling": None,
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": shape.tied,
        "torch_dtype": "bfloat16",
        "bos_token_id": BOS_TOKEN_ID,
        "eos_token_id": EOS_TOKEN_ID,
    }


def _tokenizer(vocab: int) -> dict[str, Any]:
    tokens, merges = vocabulary(vocab)
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": 256 + index, **_special(text)} for index, text in enumerate(SPECIAL_TOKENS)],
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {token: index for index, token in enumerate(tokens)},
            "merges": [merge.split(" ") for merge in merges],
        },
    }


def _tokenizer_config(context: int) -> dict[str, Any]:
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "added_tokens_decoder": {str(256 + index): _special(text) for index, text in enumerate(SPECIAL_TOKENS)},
        "bos_token": SPECIAL_TOKENS[0],
        "eos_token": SPECIAL_TOKENS[2],
        "pad_token": SPECIAL_TOKENS[0],
        "unk_token": None,
        "add_bos_token": False,
        "clean_up_tokenization_spaces": False,
        "model_max_length": context,
        "chat_template": CHAT_TEMPLATE,
    }


def _special(text: str) -> dict[str, Any]:
    return {
        "content": text,
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": False,
        "special": True,
    }
