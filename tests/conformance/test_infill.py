"""Fill in the middle with the tokenizers of both backends: the same tokens, found in each one's own files."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

from pagemill.backends.base import Tokenizer, decode
from pagemill.prompts.infill import infill_prompt

QWEN = ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>", "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>")
CODE_LLAMA = ("▁<PRE>", "▁<SUF>", "▁<MID>", "▁<EOT>")
CODESTRAL = ("[SUFFIX]", "[PREFIX]")
LoadTokenizer = Callable[..., Tokenizer]


def gguf_tokenizer(
    stack: ExitStack, folder: Path, names: tuple[str, ...], sentencepiece: bool, keys: Mapping[str, str]
) -> Tokenizer:
    from pagemill.backends.gguf.library import load_library
    from pagemill.backends.gguf.model import load_model
    from pagemill.backends.gguf.options import GGUFOptions
    from pagemill.backends.gguf.tokenizer import GGUFTokenizer
    from support.tiny_gguf import TinyModel

    tiny = TinyModel(sentencepiece=sentencepiece, more_special_tokens=names, token_keys=tuple(keys.items()))
    library = load_library()
    model = load_model(library, tiny.write(folder / "tiny.gguf"), GGUFOptions())
    stack.callback(model.close)
    return GGUFTokenizer(library, model.vocab)


def paged_tokenizer(
    stack: ExitStack, folder: Path, names: tuple[str, ...], sentencepiece: bool, keys: Mapping[str, str]
) -> Tokenizer:
    """Its tokens are added as Qwen's are: not as special ones."""
    from support.tokenizer_kinds import load, write

    assert not keys, "a model folder has no such metadata"
    path = write("sentencepiece" if sentencepiece else "byte-level", folder) / "tokenizer.json"
    content = json.loads(path.read_text())
    attributes = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": False}
    first_id = 500  # above all others
    content["added_tokens"] += [
        {"id": first_id + index, "content": name, **attributes} for index, name in enumerate(names)
    ]
    content["model"]["vocab"] |= {name: first_id + index for index, name in enumerate(names)}
    path.write_text(json.dumps(content))
    return load(folder, vocab_size=first_id + len(names))


@pytest.fixture(params=[gguf_tokenizer, paged_tokenizer])
def load_tokenizer(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LoadTokenizer]:
    """Loads a tokenizer that has these special tokens too."""
    with ExitStack() as stack:

        def load(*names: str, sentencepiece: bool = False, keys: Mapping[str, str] | None = None) -> Tokenizer:
            tokenizer: Tokenizer = request.param(stack, tmp_path / "model", names, sentencepiece, keys or {})
            return tokenizer

        (tmp_path / "model").mkdir()
        yield load


def pieces(tokenizer: Tokenizer, prefix: str, suffix: str) -> list[str]:
    """Of the prompt: special tokens by their names, and the texts between them."""
    tokens = tokenizer.infill_tokens
    assert tokens is not None
    found: list[str] = []
    was_special = True
    for token_id in infill_prompt(tokenizer, tokens, prefix, suffix, add_special=True).token_ids():
        text = tokenizer.token_bytes(token_id).decode("latin-1")
        if tokenizer.is_special(token_id) or was_special:
            found.append(text)
        else:
            found[-1] += text
        was_special = tokenizer.is_special(token_id)
    return [piece.encode("latin-1").decode() for piece in found]


def test_byte_level_texts_stay_as_they_are(load_tokenizer: LoadTokenizer) -> None:
    tokenizer = load_tokenizer(*QWEN)
    expected = ["<|fim_prefix|>", "the and", "<|fim_suffix|>", " the\n☺", "<|fim_middle|>"]
    assert pieces(tokenizer, "the and", " the\n☺") == expected


def test_sentencepiece_has_its_space_before_the_prefix_only(load_tokenizer: LoadTokenizer) -> None:
    tokenizer = load_tokenizer(*CODE_LLAMA, sentencepiece=True)
    assert pieces(tokenizer, "the an", "d the") == ["<s>", "▁<PRE>", " the an", "▁<SUF>", "d the", "▁<MID>"]
    assert pieces(tokenizer, "the", " the") == ["<s>", "▁<PRE>", " the", "▁<SUF>", " the", "▁<MID>"]


def test_codestral_has_no_mark_for_the_middle(load_tokenizer: LoadTokenizer) -> None:
    tokenizer = load_tokenizer(*CODESTRAL, sentencepiece=True)
    assert pieces(tokenizer, "the", "and") == ["<s>", "[SUFFIX]", "and", "[PREFIX]", " the"]


def test_a_text_that_names_the_tokens_is_text(load_tokenizer: LoadTokenizer) -> None:
    tokenizer = load_tokenizer(*QWEN)
    text = "a<|fim_middle|><|file_sep|><|im_end|>b"
    assert pieces(tokenizer, text, text) == ["<|fim_prefix|>", text, "<|fim_suffix|>", text, "<|fim_middle|>"]


def test_answers_end_where_another_file_begins(load_tokenizer: LoadTokenizer) -> None:
    tokenizer = load_tokenizer(*QWEN)
    assert tokenizer.infill_tokens is not None
    ends = {*tokenizer.infill_tokens.ends, *tokenizer.eos_token_ids}
    assert {decode(tokenizer, [token_id]) for token_id in ends} >= {*QWEN, "<|endoftext|>"}
    assert not set(tokenizer.infill_tokens.ends) & tokenizer.eos_token_ids


def test_a_model_without_the_tokens_can_not_fill_in(load_tokenizer: LoadTokenizer) -> None:
    assert load_tokenizer("<|fim_prefix|>", "<|fim_suffix|>").infill_tokens is None


@pytest.mark.parametrize("key", ["fim_{}_token_id", "{}_token_id"], ids=["newer keys", "older keys"])
def test_a_gguf_file_may_name_the_tokens(tmp_path: Path, key: str) -> None:
    roles = ("pre", "suf", "mid") if key.startswith("fim") else ("prefix", "suffix", "middle")
    names = ("<before>", "<after>", "<between>")
    keys = {key.format(role): name for role, name in zip(roles, names, strict=True)}
    with ExitStack() as stack:
        tokenizer = gguf_tokenizer(stack, tmp_path, names, False, keys)
        assert pieces(tokenizer, "a", "b") == ["<before>", "a", "<after>", "b", "<between>"]
