"""Tiny random models of transformers' classes in folders, with a WordPiece tokenizer of a hundred words beside each."""

from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from support.tiny_safetensors import TEXT_TOKEN, TinyModel, write_tokenizer

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{index}" for index in range(95))]
CLS, SEP = 2, 3
SIZES = {"vocab_size": len(WORDS), "pad_token_id": 0}
BERT = {**SIZES, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 64}
POSITIONS = 64


def save(kind: str, config: dict[str, Any], folder: Path, suffix: str = "Model", **more: Any) -> Any:
    """Save a model of the class `kind + suffix`, and return it."""
    torch.manual_seed(0)
    model = getattr(transformers, kind + suffix)(getattr(transformers, kind + "Config")(**config, **more)).eval()
    for name, parameter in model.named_parameters():
        is_scale = "norm" in name.lower() and name.endswith("weight")
        torch.nn.init.normal_(parameter, mean=1.0 if is_scale else 0.0, std=0.2)
    model.save_pretrained(folder)
    save_tokenizer(folder)
    return model


def save_tokenizer(folder: Path) -> None:
    tokenizer = Tokenizer(models.WordPiece({word: index for index, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", CLS), ("[SEP]", SEP)],
    )
    named = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **named).save_pretrained(folder)


def write_reranker(folder: Path, suffix: str, **more: Any) -> Any:
    """A Qwen3, as `save`, with a tokenizer of bytes that has yes and no as tokens."""
    sizes = {"vocab_size": TinyModel().config().vocab_size, "max_position_embeddings": 1024}
    model = save("Qwen3", {**BERT, **sizes, "num_key_value_heads": 2, "head_dim": 8}, folder, suffix, **more)
    write_tokenizer(folder)
    path = folder / "tokenizer.json"
    path.write_text(path.read_text().replace(TEXT_TOKEN, "yes"))
    return model
