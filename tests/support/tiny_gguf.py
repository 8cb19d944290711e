"""Writes tiny random models as GGUF files, for tests of whatever runs them: seeded, a few hundred KB, made in 50 ms.

The text they generate is noise, but noise that depends on every token before it, which is what the tests need.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import gguf
import numpy as np

CHAT_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
TEXT_TOKEN = "<think>"  # looks special, is text
Architecture = Literal["llama", "qwen3", "gemma2", "mamba"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TinyModel:
    """Sizes of a model. Heads are 32 wide, so that quantized KV (blocks of 32) works too."""

    architecture: Architecture = "llama"
    seed: int = 0
    num_layers: int = 2
    embedding: int = 64
    heads: int = 4
    kv_heads: int = 2
    head_size: int = 32
    feed_forward: int = 128
    context_length: int = 1024
    sentencepiece: bool = False
    has_bos: bool = True
    output_scale: float = 1.0  # less makes the distributions broader
    causal: bool = True
    pooling: Literal["mean", "cls", "last", "rank"] | None = None  # of an embedding model
    classes: tuple[str, ...] = ()  # of a reranker's head
    rerank_template: str | None = None
    ends_texts: bool = False  # whether its tokenizer puts the end-of-text token behind a text
    more_special_tokens: tuple[str, ...] = ()
    token_keys: tuple[tuple[str, str], ...] = ()  # metadata that name tokens: a key of "tokenizer.ggml", a token's text

    def write(self, path: Path) -> Path:
        """Write the model to `path`, and return it."""
        writer = gguf.GGUFWriter(path, self.architecture)
        add_tokens = _add_sentencepiece if self.sentencepiece else _add_byte_bpe
        tokens = add_tokens(writer, self)
        for key, text in self.token_keys:
            writer.add_uint32(f"tokenizer.ggml.{key}", tokens.index(text))
        self._add_parameters(writer)
        for name, shape in self._tensors(len(tokens)).items():
            writer.add_tensor(name, self._values(name, shape))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return path

    def _add_parameters(self, writer: Any) -> None:
        writer.add_name(f"tiny {self.architecture}")
        writer.add_file_type(gguf.LlamaFileType.ALL_F32)
        writer.add_context_length(self.context_length)
        writer.add_embedding_length(self.embedding)
        writer.add_block_count(self.num_layers)
        writer.add_feed_forward_length(self.feed_forward)
        writer.add_head_count(self.heads)
        writer.add_layer_norm_rms_eps(1e-5)
        if self.architecture == "mamba":
            writer.add_ssm_conv_kernel(4)
            writer.add_ssm_inner_size(2 * self.embedding)
            writer.add_ssm_state_size(16)
            writer.add_ssm_time_step_rank(4)
            return
        writer.add_head_count_kv(self.kv_heads)
        writer.add_key_length(self.head_size)
        writer.add_value_length(self.head_size)
        writer.add_rope_dimension_count(self.head_size)
        if self.architecture == "gemma2":
            writer.add_sliding_window(64)
            writer.add_attn_logit_softcapping(50.0)
            writer.add_final_logit_softcapping(30.0)
        if not self.causal:
            writer.add_causal_attention(False)
        if self.pooling is not None:
            writer.add_pooling_type(gguf.PoolingType[self.pooling.upper()])
        if self.classes:
            writer.add_classifier_output_labels(list(self.classes))

    def _tensors(self, num_tokens: int) -> dict[str, tuple[int, ...]]:
        shapes: dict[str, tuple[int, ...]] = {
            "token_embd.weight": (num_tokens, self.embedding),
            "output_norm.weight": (self.embedding,),
        }
        if self.classes:
            shapes["cls.output.weight"] = (len(self.classes), self.embedding)
        for layer in range(self.num_layers):
            part = self._mamba_layer() if self.architecture == "mamba" else self._attention_layer()
            shapes |= {f"blk.{layer}.{name}": shape for name, shape in part.items()}
        return shapes

    def _attention_layer(self) -> dict[str, tuple[int, ...]]:
        width, queries, keys = self.embedding, self.heads * self.head_size, self.kv_heads * self.head_size
        shapes: dict[str, tuple[int, ...]] = {
            "attn_norm.weight": (width,),
            "attn_q.weight": (queries, width),
            "attn_k.weight": (keys, width),
            "attn_v.weight": (keys, width),
            "attn_output.weight": (width, queries),
            "ffn_norm.weight": (width,),
            "ffn_gate.weight": (self.feed_forward, width),
            "ffn_up.weight": (self.feed_forward, width),
            "ffn_down.weight": (width, self.feed_forward),
        }
        if self.architecture == "qwen3":
            shapes |= {"attn_q_norm.weight": (self.head_size,), "attn_k_norm.weight": (self.head_size,)}
        if self.architecture == "gemma2":
            shapes |= {"post_attention_norm.weight": (width,), "post_ffw_norm.weight": (width,)}
        return shapes

    def _mamba_layer(self) -> dict[str, tuple[int, ...]]:
        width, inner, state, rank = self.embedding, 2 * self.embedding, 16, 4
        return {
            "attn_norm.weight": (width,),
            "ssm_in.weight": (2 * inner, width),
            "ssm_conv1d.weight": (inner, 4),
            "ssm_conv1d.bias": (inner,),
            "ssm_x.weight": (rank + 2 * state, inner),
            "ssm_dt.weight": (inner, rank),
            "ssm_dt.bias": (inner,),
            "ssm_a": (inner, state),
            "ssm_d": (inner,),
            "ssm_out.weight": (width, inner),
        }

    def _values(self, name: str, shape: tuple[int, ...]) -> np.ndarray[Any, np.dtype[np.float32]]:
        random = np.random.default_rng([self.seed, *name.encode()])
        if name == "output_norm.weight":
            return np.full(shape, self.output_scale, np.float32)
        if name.endswith("norm.weight"):
            return np.ones(shape, np.float32)
        if name.endswith("ssm_a"):
            return -np.exp(random.standard_normal(shape)).astype(np.float32)
        scale = 1.0 if name == "token_embd.weight" else 2.0 / np.sqrt(shape[-1])
        return (random.standard_normal(shape) * scale).astype(np.float32)


def _add_byte_bpe(writer: Any, model: TinyModel) -> list[str]:
    """A vocabulary of the 256 bytes, some merges, and special tokens, in GPT-2's spelling."""
    letters = [_byte_letters()[byte] for byte in range(256)]
    space = _byte_letters()[ord(" ")]
    pairs = [("t", "h"), ("th", "e"), (space, "the"), ("i", "n"), ("a", "n"), ("an", "d"), (space, "and"), ("e", "r")]
    merged = [left + right for left, right in pairs]
    special = (*SPECIAL_TOKENS, *model.more_special_tokens)
    texts = [*letters, *merged, TEXT_TOKEN, *special]
    types = [gguf.TokenType.NORMAL] * (len(letters) + len(merged))
    types += [gguf.TokenType.USER_DEFINED] + [gguf.TokenType.CONTROL] * len(special)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(texts)
    writer.add_token_types(types)
    writer.add_token_merges([f"{left} {right}" for left, right in pairs])
    if model.has_bos:
        writer.add_bos_token_id(texts.index("<|endoftext|>"))
    writer.add_eos_token_id(texts.index("<|im_end|>"))
    writer.add_add_bos_token(False)
    if model.ends_texts:
        writer.add_add_eos_token(True)
    templates = [{"name": "default", "template": CHAT_TEMPLATE}]
    if model.rerank_template is not None:
        templates.append({"name": "rerank", "template": model.rerank_template})
    writer.add_chat_template(templates)
    return texts


def _add_sentencepiece(writer: Any, model: TinyModel) -> list[str]:
    """A vocabulary as Llama 2's: word pieces with scores, bytes to fall back on, and a space before every text."""
    words = ["▁", "▁the", "▁and", "he", "th", "▁t", "▁a", "in", "er", *"abcdefghijklmnopqrstuvwxyz", *"THE.,!?"]
    texts = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *words, *model.more_special_tokens]
    types = [gguf.TokenType.UNKNOWN, gguf.TokenType.CONTROL, gguf.TokenType.CONTROL]
    types += [gguf.TokenType.BYTE] * 256 + [gguf.TokenType.NORMAL] * len(words)
    types += [gguf.TokenType.CONTROL] * len(model.more_special_tokens)
    writer.add_tokenizer_model("llama")
    writer.add_token_list(texts)
    writer.add_token_scores([0.0] * 259 + [-float(index) for index in range(len(texts) - 259)])
    writer.add_token_types(types)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_add_bos_token(True)
    return texts


def _byte_letters() -> dict[int, str]:
    """GPT-2's letter for each byte: itself if printable, else one from 256 upwards."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    letters = {byte: chr(byte) for byte in printable}
    others = [byte for byte in range(256) if byte not in letters]
    return letters | {byte: chr(256 + index) for index, byte in enumerate(others)}
