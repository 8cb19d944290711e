"""What a model folder's files say about its tokens, beside tokenizer.json itself. Owns no state; imports no tokenizers.

tokenizer_config.json, special_tokens_map.json, config.json, generation_config.json, and where the chat template is.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pagemill.backends.paged.model_folder import DOWNLOAD_AGAIN, read_optional_json
from pagemill.errors import ModelLoadError

TOKENIZER = "tokenizer.json"
CHAT_TEMPLATES = ("chat_template.jinja", "chat_template.json")
DEFAULT_TEMPLATE = "default"  # of several named ones
NAMED_TOKENS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
MORE_TOKENS = ("additional_special_tokens", "extra_special_tokens")


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenizerConfig:
    """Texts of tokens, None where the files name none."""

    bos_token: str | None
    eos_token: str | None
    special_tokens: tuple[str, ...]  # all that are named as special


def read_tokenizer_config(folder: Path) -> TokenizerConfig:
    """
    Raises:
        ModelLoadError: a file is no JSON, or names a token in a way that makes no sense.
    """
    path = folder / "tokenizer_config.json"
    declared = read_optional_json(folder / "special_tokens_map.json") | read_optional_json(path)
    named = {name: _token_text(folder, name, declared.get(name)) for name in NAMED_TOKENS}
    more = [text for name in MORE_TOKENS for text in _token_texts(folder, name, declared.get(name))]
    added = _marked_special(declared.get("added_tokens_decoder"))
    special = [*(text for text in named.values() if text is not None), *more, *added]
    return TokenizerConfig(
        bos_token=named["bos_token"], eos_token=named["eos_token"], special_tokens=tuple(dict.fromkeys(special))
    )


def read_chat_template(folder: Path) -> str | None:
    """The Jinja source of the model's chat template, None if it has none; the newer places before the older ones.

    Raises:
        ModelLoadError: a file can't be read, or has no text where the template belongs.
    """
    jinja, legacy = (folder / name for name in CHAT_TEMPLATES)
    if jinja.is_file():
        try:
            return jinja.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ModelLoadError(f"can't read {jinja}: {error}") from error
    for path in (legacy, folder / "tokenizer_config.json"):
        template = read_optional_json(path).get("chat_template")
        if template is not None:
            return _one_template(path, template)
    return None


def eos_token_ids(config: Mapping[str, Any], generation_config: Mapping[str, Any]) -> frozenset[int]:
    """The ends of a generation that config.json and generation_config.json name.

    Raises:
        ModelLoadError: one is no token id.
    """
    found: set[int] = set()
    for name, source in (("config.json", config), ("generation_config.json", generation_config)):
        declared = source.get("eos_token_id")
        for token_id in declared if isinstance(declared, list) else [declared]:
            if token_id is None:
                continue
            if type(token_id) is not int or token_id < 0:
                raise ModelLoadError(f"eos_token_id in {name} is {declared!r}, not a token id or a list of them")
            found.add(token_id)
    return frozenset(found)


def why_no_tokenizer(folder: Path) -> str:
    """What to do about a folder that lacks tokenizer.json."""
    others = ("tokenizer.model", "spiece.model", "tekken.json", "tiktoken.model", "vocab.json")
    found = next((name for name in others if (folder / name).is_file()), None)
    if found is None:
        return f"{folder} has no {TOKENIZER}; download it"
    return (
        f"{folder} has {found} but no {TOKENIZER}, which is what is read here. Convert it, with transformers and "
        f'sentencepiece or tiktoken installed: python -c "from transformers import AutoTokenizer; '
        f"AutoTokenizer.from_pretrained('{folder}').save_pretrained('{folder}')\""
    )


def _marked_special(added_tokens: object) -> list[str]:
    """The texts in `added_tokens_decoder`, which maps ids to tokens and their attributes."""
    tokens = added_tokens.values() if isinstance(added_tokens, dict) else ()
    return [str(token.get("content")) for token in tokens if isinstance(token, dict) and token.get("special")]


def _one_template(path: Path, template: object) -> str | None:
    """Of named templates the default one; None if there is none of that name."""
    if isinstance(template, list):
        named = {item.get("name"): item.get("template") for item in template if isinstance(item, dict)}
        template = named.get(DEFAULT_TEMPLATE)
        if template is None and named:
            return None
    if not isinstance(template, str):
        raise ModelLoadError(f"chat_template in {path} is neither a text nor a list of named ones; {DOWNLOAD_AGAIN}")
    return template


def _token_texts(folder: Path, name: str, declared: object) -> list[str]:
    """Of a list of tokens, or a mapping of names to tokens."""
    tokens = declared.values() if isinstance(declared, dict) else declared if isinstance(declared, list) else []
    texts = (_token_text(folder, name, token) for token in tokens)
    return [text for text in texts if text is not None]


def _token_text(folder: Path, name: str, declared: object) -> str | None:
    text = declared.get("content") if isinstance(declared, dict) else declared
    if text is None or isinstance(text, str):
        return text
    raise ModelLoadError(f"{name} of the tokenizer in {folder} is {declared!r}, not the text of a token")
