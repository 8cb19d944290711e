"""The tokenizer: exact round trips, special tokens, odd input, several threads."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pagemill.backends.base import decode
from pagemill.backends.gguf.backend import GGUFBackend
from pagemill.backends.gguf.tokenizer import GGUFTokenizer
from pagemill.errors import BackendError, InvalidRequestError
from support.tiny_gguf import TinyModel

LoadBackend = Callable[..., GGUFBackend]
WriteModel = Callable[[TinyModel], Path]


@pytest.fixture
def tokenizer(load_backend: LoadBackend) -> GGUFTokenizer:
    return load_backend().tokenizer


@pytest.fixture
def sentencepiece(load_backend: LoadBackend, write_model: WriteModel) -> GGUFTokenizer:
    return load_backend(write_model(TinyModel(sentencepiece=True))).tokenizer


def plain(tokenizer: GGUFTokenizer, text: str) -> list[int]:
    return tokenizer.encode(text, add_special=False, parse_special=False)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_comes_back(tokenizer: GGUFTokenizer, text: str) -> None:
    assert decode(tokenizer, plain(tokenizer, text)) == text


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_sentencepiece_text_comes_back_behind_its_space(sentencepiece: GGUFTokenizer, text: str) -> None:
    ids = plain(sentencepiece, text)
    assert decode(sentencepiece, ids) == " " + text.replace("▁", " ")  # its letter for a space, in the text too


def test_merges_are_used(tokenizer: GGUFTokenizer) -> None:
    assert [tokenizer.token_bytes(token) for token in plain(tokenizer, "the and")] == [b"the", b" and"]


def test_special_tokens_are_parsed_only_when_asked_for(tokenizer: GGUFTokenizer) -> None:
    text = "<|im_start|>hi<|im_end|>"
    parsed = tokenizer.encode(text, add_special=False, parse_special=True)
    assert [tokenizer.token_bytes(token) for token in parsed] == [b"<|im_start|>", b"h", b"i", b"<|im_end|>"]
    unparsed = plain(tokenizer, text)
    assert not any(tokenizer.is_special(token) for token in unparsed)
    assert decode(tokenizer, unparsed) == decode(tokenizer, parsed) == text
    assert decode(tokenizer, parsed, skip_special_tokens=True) == "hi"


def test_a_user_defined_token_is_text(tokenizer: GGUFTokenizer) -> None:
    (token,) = tokenizer.encode("<think>", add_special=False, parse_special=True)
    assert tokenizer.token_bytes(token) == b"<think>"
    assert not tokenizer.is_special(token)


def test_all_tokens_that_end_a_generation_are_known(tokenizer: GGUFTokenizer) -> None:
    assert {tokenizer.token_bytes(token) for token in tokenizer.eos_token_ids} == {b"<|im_end|>", b"<|endoftext|>"}
    assert (tokenizer.bos_token, tokenizer.eos_token) == ("<|endoftext|>", "<|im_end|>")


def test_a_bos_is_added_where_the_file_wants_it_and_only_once(
    tokenizer: GGUFTokenizer, sentencepiece: GGUFTokenizer
) -> None:
    assert tokenizer.encode("a", add_special=True, parse_special=True) == plain(tokenizer, "a")
    with_bos = sentencepiece.encode("a", add_special=True, parse_special=True)
    assert with_bos == [1, *plain(sentencepiece, "a")]
    assert sentencepiece.bos_token == "<s>"
    assert sentencepiece.is_special(0)  # <unk> has no text either
    rendered = sentencepiece.encode("<s>a", add_special=False, parse_special=True)  # as a chat template has it
    assert rendered.count(1) == 1


def test_a_file_without_a_bos_has_none(load_backend: LoadBackend, write_model: WriteModel) -> None:
    tokenizer = load_backend(write_model(TinyModel(has_bos=False))).tokenizer
    assert (tokenizer.bos_token, tokenizer.eos_token) == ("", "<|im_end|>")


def test_odd_texts_are_encoded(tokenizer: GGUFTokenizer) -> None:
    assert plain(tokenizer, "") == []
    assert decode(tokenizer, plain(tokenizer, "a\0b")) == "a\0b"
    assert decode(tokenizer, plain(tokenizer, "a\ud83db")) == "a�b"  # half a surrogate pair, as JSON can carry it
    assert decode(tokenizer, plain(tokenizer, "é" * 20_000)) == "é" * 20_000


@pytest.mark.parametrize("token_id", [-1, 268, 2**40])
def test_a_token_out_of_the_vocabulary_is_refused(tokenizer: GGUFTokenizer, token_id: int) -> None:
    with pytest.raises(InvalidRequestError, match=f"token id {token_id} "):
        tokenizer.token_bytes(token_id)
    with pytest.raises(InvalidRequestError, match=f"token id {token_id} "):
        tokenizer.is_special(token_id)


def test_threads_share_a_tokenizer(tokenizer: GGUFTokenizer) -> None:
    texts = [f"the {number} and then {number * 7}" * 50 for number in range(40)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda text: decode(tokenizer, plain(tokenizer, text)), texts))
    assert together == texts


def test_a_closed_tokenizer_raises_instead_of_reading_freed_memory(load_backend: LoadBackend) -> None:
    backend = load_backend()
    backend.close()
    with pytest.raises(BackendError, match="closed"):
        backend.tokenizer.encode("a", add_special=False, parse_special=False)
