"""Trains the byte-level BPE tokenizer and writes its Hugging Face files.

The pre-tokenizer is llama.cpp's `qwen2` pattern, letter for letter as `llama-vocab.cpp` spells it: the contractions
are listed by case instead of `(?i:...)`, because the case-folding form also takes U+017F (long s) for an `s` in
`tokenizers` and llama.cpp does not.
"""

import json
from collections.abc import Iterable
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from grist.rendering import CHAT_TEMPLATE_PATH

VOCAB_SIZE = 2048
MAX_POSITIONS = 2048
PAD, START, END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
CONTROL_TOKENS = (PAD, START, END)
MARKUP_TOKENS = ("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>")
PRE_TOKENIZER_PATTERN = (
    r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def train_tokenizer(texts: Iterable[str]) -> Tokenizer:
    """Learn merges from `texts` (free of control tokens) up to `VOCAB_SIZE`. Raises ValueError if they run out."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PRE_TOKENIZER_PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    names = [*CONTROL_TOKENS, *MARKUP_TOKENS]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=names,
        show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )
    tokenizer.train_from_iterator(texts, trainer)
    if tokenizer.get_vocab_size() != VOCAB_SIZE:
        raise ValueError(f"the corpus yields {tokenizer.get_vocab_size()} tokens, {VOCAB_SIZE} wanted: give more text")
    return _with_plain_markup(tokenizer)


def _with_plain_markup(tokenizer: Tokenizer) -> Tokenizer:
    """Make the markup tokens ordinary added tokens, so that decoding with specials skipped keeps tool calls."""
    document = json.loads(tokenizer.to_str())
    for added in document["added_tokens"]:
        added["special"] = added["content"] in CONTROL_TOKENS
    return Tokenizer.from_str(json.dumps(document))


def tokenizer_config() -> dict[str, object]:
    """The contents of `tokenizer_config.json`."""
    ids = [*CONTROL_TOKENS, *MARKUP_TOKENS]
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "added_tokens_decoder": {
            str(index): {
                "content": name,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "single_word": False,
                "special": name in CONTROL_TOKENS,
            }
            for index, name in enumerate(ids)
        },
        "bos_token": None,
        "eos_token": END,
        "pad_token": PAD,
        "unk_token": None,
        "add_bos_token": False,
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": False,
        "model_max_length": MAX_POSITIONS,
        "chat_template": CHAT_TEMPLATE_PATH.read_text(encoding="utf-8").rstrip("\n"),
    }


def save_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """Write `tokenizer.json`, `tokenizer_config.json` and `chat_template.jinja` into `folder`."""
    tokenizer.save(str(folder / "tokenizer.json"))
    config = tokenizer_config()
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    (folder / "chat_template.jinja").write_text(str(config["chat_template"]), encoding="utf-8")
