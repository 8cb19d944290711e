"""Writes tiny random models as Hugging Face folders, for tests of whatever runs them: seeded, a few hundred KB.

The text they generate is noise, but noise that depends on every token before it, which is what the tests need. Every
weight is random, those of norms and biases too, so that one that is left out or taken for another shows in the logits.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from zlib import crc32

import torch
from safetensors.torch import load_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

CHAT_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
TEXT_TOKEN = "<think>"  # looks special, is text
WORDS = """
the and for you are with this that have from they will one all would there their what about which when make can like
time just him know take people into year your good some could them see other than then now look only come
""".split()  # noqa: SIM905

# What a family's own configuration needs to be tiny, beside the sizes that all have.
OF_FAMILY: Mapping[str, Mapping[str, object]] = {
    "mistral": {"sliding_window": 24},
    "gemma2": {"sliding_window": 24, "query_pre_attn_scalar": 32},
    "gemma3_text": {"sliding_window": 24, "query_pre_attn_scalar": 32, "num_hidden_layers": 6},
    "mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": None},
    "qwen3_moe": {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 48, "norm_topk_prob": True},
    "smollm3": {"num_hidden_layers": 4},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TinyModel:
    """A model of the family that transformers calls `model_type`; `overrides` are fields of its configuration."""

    model_type: str = "llama"
    overrides: Mapping[str, object] = field(default_factory=dict)
    seed: int = 0
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    num_shards: int = 1  # at least, of about equal size
    weights: Literal["safetensors", "bin"] = "safetensors"
    chat_template: str | None = CHAT_TEMPLATE

    def config(self) -> Any:
        """Of transformers. Two layers; heads are 32 wide, so that a group of 32 of a quantization fits in one."""
        first_special = len(_texts())
        sizes: dict[str, object] = {
            "vocab_size": first_special + 1 + len(SPECIAL_TOKENS),
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 32,
            "max_position_embeddings": 1024,
            "pad_token_id": first_special + 1,
            "bos_token_id": first_special + 1,
            "eos_token_id": first_special + 3,
        }
        return AutoConfig.for_model(
            self.model_type, **{**sizes, **OF_FAMILY.get(self.model_type, {}), **self.overrides}
        )

    def model(self) -> Any:
        """The module of transformers, with the weights that `write` saves, in `dtype`, for evaluation."""
        module = AutoModelForCausalLM.from_config(
            self.config(), dtype=torch.float32, attn_implementation="eager"
        ).eval()
        with torch.no_grad():
            for name, weight in module.named_parameters():
                _randomize(name, weight, self.seed, self.model_type)
        return module.to(getattr(torch, self.dtype))

    def write(self, folder: Path) -> Path:
        """Write config, weights and tokenizer into `folder`, which is made, and return it."""
        folder.mkdir(parents=True, exist_ok=True)
        module = self.model()
        size = sum(weight.numel() * weight.element_size() for weight in module.parameters())
        module.save_pretrained(folder, max_shard_size=-(-size // self.num_shards) if self.num_shards > 1 else 10 * size)
        if self.weights == "bin":
            _turn_into_bin(folder)
        write_tokenizer(folder, self.chat_template)
        return folder


def write_tokenizer(folder: Path, chat_template: str | None = CHAT_TEMPLATE) -> None:
    """The files of a small byte-level BPE: bytes, the first letters of common words, `TEXT_TOKEN`, `SPECIAL_TOKENS`."""
    texts = _texts()
    tokenizer = Tokenizer(models.BPE(vocab={text: index for index, text in enumerate(texts)}, merges=_merges()))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_tokens([AddedToken(TEXT_TOKEN, normalized=False)])
    tokenizer.add_special_tokens([AddedToken(text, special=True) for text in SPECIAL_TOKENS])
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    wrapped.chat_template = chat_template
    wrapped.save_pretrained(folder)


def _randomize(name: str, weight: torch.Tensor, seed: int, model_type: str) -> None:
    """Each weight by its name alone. Scaled so that activations stay about 1, and the layers outweigh the embedding
    (else a model with tied embeddings repeats its last token); norms and biases stay near where they were.
    Gemma scales its embeddings up, so its layers' last norms are too.
    """
    generator = torch.Generator().manual_seed(crc32(name.encode()) + (seed << 32))
    noise = torch.randn(weight.shape, generator=generator)
    if weight.dim() == 1:
        is_last_norm = model_type.startswith("gemma") and "post_" in name
        weight.add_(0.2 * noise + (3.0 if is_last_norm else 0.0))
    else:
        weight.copy_(noise * 2.0 / weight.shape[-1] ** 0.5)


def _turn_into_bin(folder: Path) -> None:
    """As PyTorch's own files: shards of the same names, pickled."""
    for path in sorted(folder.glob("model*.safetensors")):
        torch.save(
            load_file(path), folder / path.name.replace("model", "pytorch_model").replace(".safetensors", ".bin")
        )
        path.unlink()
    index = folder / "model.safetensors.index.json"
    if index.exists():
        content = json.loads(index.read_text())
        content["weight_map"] = {
            name: file.replace("model", "pytorch_model").replace(".safetensors", ".bin")
            for name, file in content["weight_map"].items()
        }
        (folder / "pytorch_model.bin.index.json").write_text(json.dumps(content))
        index.unlink()


def _merges() -> list[tuple[str, str]]:
    """Each word letter by letter, alone and after a space: "th", "the", " t", ..."""
    space = byte_letters()[ord(" ")]
    pairs: dict[tuple[str, str], None] = {}
    for word in WORDS:
        for text in (word, space + word):
            for end in range(1, min(len(text), 4)):
                pairs[text[:end], text[end]] = None
    return list(pairs)


def _texts() -> list[str]:
    letters = list(byte_letters().values())
    return list(dict.fromkeys([*letters, *(left + right for left, right in _merges())]))


def byte_letters() -> dict[int, str]:
    """GPT-2's letter for each byte: itself if printable, else one from 256 upwards."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    letters = {byte: chr(byte) for byte in printable}
    others = (byte for byte in range(256) if byte not in letters)
    return dict(sorted((letters | {byte: chr(256 + index) for index, byte in enumerate(others)}).items()))
