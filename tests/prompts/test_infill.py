"""Fill in the middle: which tokens a vocabulary has for it, and the prompts made of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagemill.backends.fake import BOS, FakeTokenizer
from pagemill.errors import ContextLengthError
from pagemill.generation import InfillTokens
from pagemill.prompts.infill import END_NAMES, NOTATIONS, InfillPrompt, find_infill_tokens, infill_names, infill_prompt

PREFIX, SUFFIX, MIDDLE = 0xF8, 0xF9, 0xFA
PREFIX_FIRST = InfillTokens(PREFIX, SUFFIX, MIDDLE, ())
SUFFIX_FIRST = InfillTokens(PREFIX, SUFFIX, None, ())
TOKEN_IDS = st.lists(st.integers(0, 9), max_size=40).map(tuple)


def vocabulary(*names: str) -> dict[str, int]:
    return {name: 100 + index for index, name in enumerate(names)}


@pytest.mark.parametrize("names", NOTATIONS)
def test_each_family_is_known_by_its_names(names: tuple[str, ...]) -> None:
    found = find_infill_tokens(vocabulary(*names).get, frozenset())
    assert found == InfillTokens(100, 101, 102 if len(names) == 3 else None, tuple(range(100, 100 + len(names))))


@pytest.mark.parametrize("names", NOTATIONS)
def test_a_vocabulary_that_lacks_one_of_the_names_can_not_fill_in(names: tuple[str, ...]) -> None:
    for missing in names:
        others = vocabulary(*(name for name in names if name != missing), "<|fim_pad|>")
        assert find_infill_tokens(others.get, frozenset()) is None
        assert infill_names(others.get) == []


def test_what_the_file_declares_goes_before_names() -> None:
    has = vocabulary("<fim_prefix>", "<fim_suffix>", "<fim_middle>", "<fim_pad>")
    assert find_infill_tokens(has.get, frozenset(), (7, 8, 9)) == InfillTokens(7, 8, 9, (7, 8, 9, 103))
    assert find_infill_tokens(vocabulary().get, frozenset(), (7, 8, 9)) == InfillTokens(7, 8, 9, (7, 8, 9))


def test_an_answer_ends_at_every_token_that_can_not_be_its_text() -> None:
    has = vocabulary("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>", *END_NAMES, "<|im_end|>")
    found = find_infill_tokens(has.get, {has["<|im_end|>"], has["<|endoftext|>"]})
    assert found is not None
    assert set(found.ends) == set(has.values()) - {has["<|im_end|>"], has["<|endoftext|>"]}, "these end any answer"
    assert set(infill_names(has.get)) == set(has) - {"<|im_end|>"}


def test_a_prompt_is_prefix_suffix_and_then_the_middles_mark() -> None:
    prompt = infill_prompt(FakeTokenizer(infill=True), PREFIX_FIRST, "ab", "cd", add_special=True)
    assert prompt.token_ids() == (BOS, PREFIX, *b"ab", SUFFIX, *b"cd", MIDDLE)


def test_codestral_has_the_suffix_first_and_goes_on_from_the_prefix() -> None:
    prompt = infill_prompt(FakeTokenizer(infill=True), SUFFIX_FIRST, "ab", "cd", add_special=True)
    assert prompt.token_ids() == (BOS, SUFFIX, *b"cd", PREFIX, *b"ab")


def test_no_bos_token_if_none_is_to_be_added() -> None:
    prompt = infill_prompt(FakeTokenizer(infill=True), PREFIX_FIRST, "", "cd", add_special=False)
    assert prompt.token_ids() == (PREFIX, SUFFIX, *b"cd", MIDDLE)


def test_names_of_special_tokens_in_the_texts_are_texts() -> None:
    before, after = "a<|fim_middle|>", "<|im_end|><|fim_suffix|>b"
    prompt = infill_prompt(FakeTokenizer(infill=True), PREFIX_FIRST, before, after, add_special=True)
    assert prompt.token_ids() == (BOS, PREFIX, *before.encode(), SUFFIX, *after.encode(), MIDDLE)


@pytest.mark.parametrize(
    ("limit", "prefix", "suffix"),
    [
        (44, b"p" * 30, b"s" * 10),
        (43, b"p" * 30, b"s" * 9),
        (24, b"p" * 15, b"s" * 5),
        (5, b"p", b""),
        (4, b"", b""),
    ],
)
def test_what_is_nearest_to_the_gap_stays(limit: int, prefix: bytes, suffix: bytes) -> None:
    far_and_near = InfillPrompt(PREFIX_FIRST, (BOS,), tuple(b"." * 10 + b"p" * 30), tuple(b"s" * 10 + b"." * 10))
    assert far_and_near.token_ids(limit) == (BOS, PREFIX, *prefix, SUFFIX, *suffix, MIDDLE)


def test_a_short_prefix_leaves_its_share_to_the_suffix() -> None:
    prompt = InfillPrompt(PREFIX_FIRST, (), (1,), tuple(range(10, 30)))
    assert prompt.token_ids(14) == (PREFIX, 1, SUFFIX, *range(10, 20), MIDDLE)


@given(prefix=TOKEN_IDS, suffix=TOKEN_IDS, limit=st.integers(4, 100), middle=st.booleans())
def test_a_limited_prompt_is_as_long_as_it_may_be(
    prefix: tuple[int, ...], suffix: tuple[int, ...], limit: int, middle: bool
) -> None:
    prompt = InfillPrompt(PREFIX_FIRST if middle else SUFFIX_FIRST, (BOS,), prefix, suffix)
    limited = prompt.token_ids(limit)
    assert len(limited) == min(limit, len(prompt.token_ids()))
    assert [token for token in limited if token > 9] == [token for token in prompt.token_ids() if token > 9]


def test_a_limit_below_the_special_tokens_is_refused_with_both_numbers() -> None:
    with pytest.raises(ContextLengthError, match="at least 4 tokens, but only 3 are allowed") as caught:
        InfillPrompt(PREFIX_FIRST, (BOS,), (1, 2), (3,)).token_ids(3)
    assert caught.value.param == "suffix"
