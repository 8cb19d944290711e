"""The tokenizer of model folders, against transformers and llama.cpp: ids, bytes, special tokens, the files' words."""

import ctypes
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

pytest.importorskip("torch")
tokenizers = pytest.importorskip("tokenizers")
transformers = pytest.importorskip("transformers")

from pagemill.backends.base import decode  # noqa: E402
from pagemill.backends.paged.tokenizer import PagedTokenizer  # noqa: E402
from pagemill.errors import InvalidRequestError  # noqa: E402
from pagemill.store.references import DEMO_FOLDER  # noqa: E402
from support import tokenizer_kinds  # noqa: E402
from support.tokenizer_kinds import KINDS, load, write_kind  # noqa: E402

GRIST = DEMO_FOLDER / "grist"
SPECIAL = ["<s>", "</s>", "<unk>", "<|im_start|>", "<|im_end|>", "<|endoftext|>"]
PIECES = [
    "the",
    " the",
    "  ",
    "\n",
    "and",
    "é",
    "中",
    "😀",
    "e\u0301",
    "<",
    "s>",
    "<|",
    "im",
    "<think>",
    "<0x0A>",
    "\0",
    "'s",
    *SPECIAL,
]
UNICODE = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="▁"), max_size=40)
TEXT = UNICODE | st.lists(st.sampled_from(PIECES) | UNICODE, max_size=10).map("".join)


class Case:
    """One kind's tokenizer, and transformers' own of the same files."""

    def __init__(self, kind: tokenizer_kinds.Kind, folder: Path) -> None:
        self.kind = kind
        self.folder = tokenizer_kinds.write(kind, folder)
        self.tokenizer = load(self.folder)
        self.oracle: Any = transformers.AutoTokenizer.from_pretrained(self.folder)

    @property
    def special_ids(self) -> set[int]:
        return {token_id for token_id in range(self.tokenizer.vocab_size) if self.tokenizer.is_special(token_id)}


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Case]:
    return {kind: Case(kind, tmp_path_factory.mktemp(kind)) for kind in KINDS}


@pytest.fixture(params=KINDS)
def case(request: pytest.FixtureRequest, cases: dict[str, Case]) -> Case:
    return cases[request.param]


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=300, deadline=None)
@given(text=TEXT, add_special=st.booleans())
def test_ids_are_those_of_transformers(kind: str, text: str, add_special: bool, cases: dict[str, Case]) -> None:
    case = cases[kind]
    ids = case.tokenizer.encode(text, add_special=add_special, parse_special=True)
    assert ids == case.oracle(text, add_special_tokens=add_special)["input_ids"]


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=300, deadline=None)
@given(text=TEXT)
def test_joined_bytes_are_what_transformers_decodes_but_for_the_first_space(
    kind: str, text: str, cases: dict[str, Case]
) -> None:
    case = cases[kind]
    ids = case.tokenizer.encode(text, add_special=False, parse_special=True)
    decoded = case.oracle.decode(ids, skip_special_tokens=False)
    assert decode(case.tokenizer, ids) in (decoded, " " + decoded)


@pytest.mark.parametrize("kind", ["byte-level", "ignore-merges", "sentencepiece"])
@settings(max_examples=300, deadline=None)
@given(text=TEXT)
@example(text="<|im_end|>")
@example(text="a <s>b")
def test_a_text_that_is_only_text_comes_back_whole(kind: str, text: str, cases: dict[str, Case]) -> None:
    """Special tokens' names in it too, as text and not as tokens."""
    case = cases[kind]
    ids = case.tokenizer.encode(text, add_special=False, parse_special=False)
    assert case.special_ids.isdisjoint(ids)
    assert decode(case.tokenizer, ids) == (f" {text}" if kind == "sentencepiece" and text else text)


@settings(max_examples=200, deadline=None)
@given(
    text=st.text(tokenizer_kinds.LETTERS + " ", max_size=30)
    | st.lists(st.sampled_from(["<s>", "</s>", "a", " "])).map("".join)
)
def test_a_vocabulary_with_special_pieces_takes_no_text_for_them(text: str, cases: dict[str, Case]) -> None:
    case = cases["unigram"]
    ids = case.tokenizer.encode(text, add_special=False, parse_special=False)
    assert case.special_ids.isdisjoint(ids)
    assert decode(case.tokenizer, ids).lstrip(" ") == text.lstrip(" ")


@pytest.mark.parametrize("kind", KINDS)
def test_a_text_naming_a_special_token_is_one_only_if_asked(kind: str, cases: dict[str, Case]) -> None:
    tokenizer = cases[kind].tokenizer
    name = "<s>" if kind in ("sentencepiece", "unigram") else "<|im_end|>"
    parsed = tokenizer.encode(name, add_special=False, parse_special=True)
    assert [tokenizer.token_bytes(token_id) for token_id in parsed] == [name.encode()]
    assert tokenizer.is_special(parsed[0])
    assert parsed[0] not in tokenizer.encode(name, add_special=False, parse_special=False)


@pytest.mark.parametrize("kind", KINDS)
def test_what_surrounds_a_text_is_added_to_a_literal_one_too(kind: str, cases: dict[str, Case]) -> None:
    tokenizer = cases[kind].tokenizer
    for text in ("the", "the <s><|im_end|>"):
        alone = tokenizer.encode(text, add_special=False, parse_special=False)
        around = tokenizer.encode(text, add_special=True, parse_special=False)
        assert around == ([1, *alone] if kind in ("sentencepiece", "unigram") else alone)


def test_every_byte_token_is_its_byte(cases: dict[str, Case]) -> None:
    tokenizer = cases["sentencepiece"].tokenizer
    assert [tokenizer.token_bytes(3 + byte) for byte in range(256)] == [bytes([byte]) for byte in range(256)]


def test_every_letter_of_a_byte_level_vocabulary_is_its_byte(cases: dict[str, Case]) -> None:
    tokenizer = cases["byte-level"].tokenizer
    assert [tokenizer.token_bytes(byte) for byte in range(256)] == [bytes([byte]) for byte in range(256)]


def test_a_word_keeps_its_space_at_the_beginning_of_an_output(cases: dict[str, Case]) -> None:
    for kind in ("sentencepiece", "unigram"):
        tokenizer = cases[kind].tokenizer
        ids = tokenizer.encode("the", add_special=False, parse_special=True)
        assert b"".join(map(tokenizer.token_bytes, ids)) == b" the"


@pytest.mark.parametrize("kind", KINDS)
def test_a_literal_text_keeps_what_is_an_added_token_but_no_special_one(
    kind: tokenizer_kinds.Kind, tmp_path: Path
) -> None:
    """Also beside a special token's name, which takes another way through the library."""
    path = write_kind(tmp_path, kind) / "tokenizer.json"
    content = json.loads(path.read_text())
    first_free = tokenizers.Tokenizer.from_file(str(path)).get_vocab_size()
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    for index, (text, special) in enumerate((("<|later|>", True), ("<tool>", False))):
        content["added_tokens"].append({"id": first_free + index, "content": text, "special": special, **plain})
    path.write_text(json.dumps(content))
    tokenizer = load(tmp_path)
    for parse_special in (True, False):
        ids = tokenizer.encode("<tool><|later|>", add_special=False, parse_special=parse_special)
        assert (first_free + 1) in ids
        assert (first_free in ids) == parse_special


def test_half_a_surrogate_pair_becomes_the_replacement_character(case: Case) -> None:
    for parse_special in (True, False):
        found = case.tokenizer.encode("the\ud800 é", add_special=False, parse_special=parse_special)
        assert found == case.tokenizer.encode("the\ufffd é", add_special=False, parse_special=parse_special)
    whole = case.tokenizer.encode("\ud83d\ude00", add_special=False, parse_special=True)
    assert whole == case.tokenizer.encode("😀", add_special=False, parse_special=True)


def test_threads_do_not_disturb_one_another(cases: dict[str, Case]) -> None:
    tokenizer = load(cases["byte-level"].folder)  # a new one, whose second form is not yet made
    text = "the <|im_end|> and " * 50
    found: dict[tuple[int, bool], list[int]] = {}

    def encode(number: int) -> None:
        for parse_special in (True, False):
            found[number, parse_special] = tokenizer.encode(text, add_special=False, parse_special=parse_special)

    threads = [threading.Thread(target=encode, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({tuple(ids) for (_, parse), ids in found.items() if parse}) == 1
    assert len({tuple(ids) for (_, parse), ids in found.items() if not parse}) == 1
    assert len(found[0, False]) > len(found[0, True])


def test_ids_of_a_padded_vocabulary_are_special_and_have_no_text(tmp_path: Path) -> None:
    tokenizer = load(write_kind(tmp_path), vocab_size=512)
    assert tokenizer.vocab_size == 512
    assert tokenizer.token_bytes(511) == b""
    assert tokenizer.is_special(511)


@pytest.mark.parametrize("token_id", [-1, 512, 2**40])
def test_an_id_outside_the_vocabulary_is_refused(token_id: int, tmp_path: Path) -> None:
    tokenizer = load(write_kind(tmp_path), vocab_size=512)
    for ask in (tokenizer.token_bytes, tokenizer.is_special):
        with pytest.raises(InvalidRequestError, match=f"token id {token_id} is not in the vocabulary of 512"):
            ask(token_id)


def test_an_added_token_that_is_no_special_one_is_text_and_is_its_own(tmp_path: Path) -> None:
    tokenizer = load(write_kind(tmp_path))
    for parse_special in (True, False):
        (token_id,) = tokenizer.encode("<think>", add_special=False, parse_special=parse_special)
        assert not tokenizer.is_special(token_id)
        assert tokenizer.token_bytes(token_id) == b"<think>"


def test_truncation_and_padding_in_the_file_do_not_apply(tmp_path: Path) -> None:
    path = write_kind(tmp_path) / "tokenizer.json"
    content = json.loads(path.read_text())
    content["truncation"] = {"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0}
    content["padding"] = {
        "strategy": {"Fixed": 500}, "direction": "Right", "pad_to_multiple_of": None,
        "pad_id": 0, "pad_type_id": 0, "pad_token": "x",
    }  # fmt: skip
    path.write_text(json.dumps(content))
    tokenizer = load(tmp_path)
    assert (
        decode(tokenizer, tokenizer.encode("the people know", add_special=True, parse_special=True))
        == "the people know"
    )


# Our demo model


@pytest.fixture(scope="module")
def by_llama_cpp() -> Iterator[Callable[[str, bool], list[int]]]:
    """Tokenize through llama.cpp's C API, on the vocabulary of the GGUF form alone."""
    llama_cpp = pytest.importorskip("llama_cpp")
    parameters = llama_cpp.llama_model_default_params()
    parameters.vocab_only = True
    model = llama_cpp.llama_model_load_from_file(str(GRIST / "grist-q8_0.gguf").encode(), parameters)
    vocab = llama_cpp.llama_model_get_vocab(model)

    def tokenize(text: str, parse_special: bool) -> list[int]:
        data = text.encode()
        ids = (ctypes.c_int32 * (len(data) + 8))()
        return list(ids[: llama_cpp.llama_tokenize(vocab, data, len(data), ids, len(ids), True, parse_special)])

    yield tokenize
    llama_cpp.llama_model_free(model)


@pytest.fixture(scope="module")
def grist() -> PagedTokenizer:
    config, generation = (json.loads((GRIST / f"{name}.json").read_text()) for name in ("config", "generation_config"))
    return load(GRIST, config=config, generation=generation, vocab_size=config["vocab_size"])


@settings(max_examples=500, deadline=None)
@given(text=TEXT.map(lambda text: text.replace("\0", "")), parse_special=st.booleans())
@example(text="<|im_start|>user\nHello<|im_end|>", parse_special=False)
@example(text="<tool_call>{}</tool_call>", parse_special=False)
def test_grist_has_the_same_ids_in_both_forms(
    text: str, parse_special: bool, grist: PagedTokenizer, by_llama_cpp: Callable[[str, bool], list[int]]
) -> None:
    assert grist.encode(text, add_special=True, parse_special=parse_special) == by_llama_cpp(text, parse_special)


def test_grist_knows_its_ends_and_its_template(grist: PagedTokenizer) -> None:
    assert grist.eos_token_ids == {0, 2}
    assert (grist.bos_token, grist.eos_token) == ("", "<|im_end|>")
    assert grist.vocab_size == 2048
    assert grist.chat_template == json.loads((GRIST / "tokenizer_config.json").read_text())["chat_template"]
