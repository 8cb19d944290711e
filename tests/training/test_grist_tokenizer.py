"""The tokenizer in `tokenizers` and the one llama.cpp reads from the GGUF give the same ids for any text."""

import ctypes
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

llama_cpp = pytest.importorskip("llama_cpp")
tokenizers = pytest.importorskip("tokenizers")

ARTEFACTS = Path(__file__).parents[2] / "core" / "pagemill" / "store" / "demo" / "grist"
Tokenize = Callable[[str], list[int]]

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=60)
MIXED = st.lists(
    st.sampled_from(
        [
            "'s",
            "'LL",
            "\u017f",
            "'\u017f",
            " ",
            "  ",
            "\n",
            "\r\n",
            "\t",
            "\u00a0",
            "\u0085",
            "\u2028",
            "3",
            "\u00bd",
            "\u0663",
            "apple",
            " Paris",
            "!",
            " ?!",
            "e\u0301",
            "\u4e2d",
            "\U0001f600",
            "\u200d",
            "\ufeff",
            "<tool_call>",
            "\n\n",
            "_",
            "-",
            "<|im_end|>",
            '{"a": ',
            "\x1c",
            "\x0b",
            "\u3000",
            "\u180e",
            "\u0130",
            "\ue000",
            "\u0378",
        ]
    ),
    max_size=12,
).map("".join)


@pytest.fixture(scope="module")
def by_llama_cpp() -> Iterator[Tokenize]:
    """Tokenize through llama.cpp's C API, on the vocabulary alone."""
    parameters = llama_cpp.llama_model_default_params()
    parameters.vocab_only = True
    model = llama_cpp.llama_model_load_from_file(str(ARTEFACTS / "grist-q8_0.gguf").encode(), parameters)
    assert model
    vocab = llama_cpp.llama_model_get_vocab(model)

    def tokenize(text: str) -> list[int]:
        data = text.encode()
        ids = (ctypes.c_int32 * (len(data) + 8))()
        num_ids = llama_cpp.llama_tokenize(vocab, data, len(data), ids, len(ids), True, True)
        assert num_ids >= 0
        return list(ids[:num_ids])

    yield tokenize
    llama_cpp.llama_model_free(model)


@pytest.fixture(scope="module")
def by_tokenizers() -> Tokenize:
    """Tokenize through Hugging Face `tokenizers`."""
    tokenizer = tokenizers.Tokenizer.from_file(str(ARTEFACTS / "tokenizer.json"))
    return lambda text: list(tokenizer.encode(text, add_special_tokens=False).ids)


@settings(max_examples=1500, deadline=None)
@given(text=TEXT | MIXED)
@example(text="it'\u017f 3's I'LL")
@example(text="a \u2028\n\n  b\u0085 c")
def test_both_tokenizers_give_the_same_ids_for_any_text(
    text: str, by_llama_cpp: Tokenize, by_tokenizers: Tokenize
) -> None:
    assert by_llama_cpp(text) == by_tokenizers(text)


def test_every_code_point_is_tokenized_alike_between_words(by_llama_cpp: Tokenize, by_tokenizers: Tokenize) -> None:
    points = (chr(point) for point in range(1, sys.maxunicode + 1) if not 0xD800 <= point <= 0xDFFF)
    different = [
        f"U+{ord(char):04X}"
        for char in points
        if by_llama_cpp(text := f"the {char}the {char} {char}\n\n {char}  {char}!? the{char}the") != by_tokenizers(text)
    ]
    assert different == []


@settings(max_examples=300, deadline=None)
@given(text=TEXT)
def test_decoding_gives_the_text_back(text: str, by_tokenizers: Tokenize) -> None:
    tokenizer = tokenizers.Tokenizer.from_file(str(ARTEFACTS / "tokenizer.json"))
    assert tokenizer.decode(by_tokenizers(text), skip_special_tokens=False) == text


def test_digits_are_single_tokens(by_tokenizers: Tokenize) -> None:
    assert len(by_tokenizers("2026")) == 4
