"""Writes small tokenizers of the kinds that models come with, as the files of a model folder."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from pagemill.backends.paged.tokenizer import PagedTokenizer
from support.tiny_safetensors import byte_letters, write_tokenizer

Kind = Literal["byte-level", "ignore-merges", "sentencepiece", "unigram"]
KINDS: tuple[Kind, ...] = get_args(Kind)
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
LETTERS = "abcdefghijklmnopqrstuvwxyzTHE.,!?é中'<>/|_"
PIECES = ("he", "th", "in", "er", "an", "▁t", "▁a", "▁th", "▁the", "▁an", "▁and", "ing")


def write(kind: Kind, folder: Path) -> Path:
    """Write the files into `folder`, and return it. The special tokens of "byte-level" and "ignore-merges" are those of
    `tiny_safetensors`; the others' are <unk>, <s> and </s>, and they begin every text with <s>.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if kind == "byte-level":
        write_tokenizer(folder)
    elif kind == "ignore-merges":
        _save(_ignore_merges(), folder)
    else:
        _save(_sentencepiece() if kind == "sentencepiece" else _unigram(), folder, bos_token="<s>", eos_token="</s>")
    return folder


def _ignore_merges() -> Tokenizer:
    """As Llama 3's, which takes a word that is an entry for that entry; a special token is among its entries."""
    texts = [*byte_letters().values(), "the", "Ġ", "<|im_end|>", "im"]
    vocab = {text: index for index, text in enumerate(dict.fromkeys(texts))}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[("i", "m")], ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(" ", "merged_with_next"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken("<|im_end|>"), AddedToken("<|im_start|>")])
    return tokenizer


def _sentencepiece() -> Tokenizer:
    """As Llama 2's."""
    texts = ["<unk>", "<s>", "</s>", *BYTES, "▁", *LETTERS, *PIECES, "s>"]
    vocab = {text: index for index, text in enumerate(texts)}
    merges = [
        (piece[:cut], piece[cut:])
        for piece in (*PIECES, "s>", "<s>")
        for cut in range(1, len(piece))
        if piece[:cut] in vocab and piece[cut:] in vocab
    ]
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    _begin_with_bos(tokenizer)
    return tokenizer


def _unigram() -> Tokenizer:
    """As T5's family has it: the special tokens are pieces with the best of scores."""
    pieces = [("<unk>", 0.0), ("<s>", 0.0), ("</s>", 0.0), ("▁", -2.0)]
    pieces += [(letter, -5.0) for letter in LETTERS] + [
        (piece, -4.0 - 0.1 * index) for index, piece in enumerate(PIECES)
    ]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=0, byte_fallback=False))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    _begin_with_bos(tokenizer)
    return tokenizer


def _begin_with_bos(tokenizer: Tokenizer) -> None:
    tokenizer.add_special_tokens([AddedToken(text, normalized=False) for text in ("<unk>", "<s>", "</s>")])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])


def _save(tokenizer: Tokenizer, folder: Path, **names: str) -> None:
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, clean_up_tokenization_spaces=False, **names)
    wrapped.save_pretrained(folder)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config["tokenizer_class"] = "PreTrainedTokenizerFast"
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


@dataclass(frozen=True, slots=True)
class Files:
    """A folder with a tokenizer and no weights, and what the configurations of a model would say."""

    folder: Path
    config: dict[str, object] = field(default_factory=dict)
    generation_config: dict[str, object] = field(default_factory=dict)


def load(
    folder: Path,
    *,
    config: dict[str, object] | None = None,
    generation: dict[str, object] | None = None,
    vocab_size: int = 449,
) -> PagedTokenizer:
    return PagedTokenizer.load(Files(folder, config or {}, generation or {}), vocab_size)


def write_kind(folder: Path, kind: Kind = "byte-level", **config: object) -> Path:
    """A tokenizer whose tokenizer_config.json says `config` too."""
    path = write(kind, folder) / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | config))
    return folder
