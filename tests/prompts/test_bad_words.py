"""Outputs without certain words: which tokens may come, along any output."""

from hypothesis import given
from hypothesis import strategies as st

from pagemill.backends.fake import EOS, FakeTokenizer
from pagemill.prompts.bad_words import BadWords, BadWordsMatcher

TOKENIZER = FakeTokenizer()  # a token is a byte
WORDS = st.lists(st.text("ab ", min_size=1, max_size=4).filter(str.strip), min_size=1, max_size=4)


def allowed(matcher: BadWordsMatcher) -> set[int]:
    mask = matcher.allowed()
    assert len(mask) % 4 == 0, "as the masks of formats"
    return {token_id for token_id in range(8 * len(mask)) if mask[token_id >> 3] >> (token_id & 7) & 1}


class Only:
    """Another constraint, of an output that may end once it has its one token."""

    def __init__(self, token_id: int) -> None:
        self.token_id, self.may_end = token_id, False

    def matcher(self) -> "Only":
        return Only(self.token_id)

    def allowed(self) -> bytes:
        return (1 << self.token_id).to_bytes(36, "little")

    def advance(self, token_id: int) -> None:
        self.may_end = True


@given(WORDS, st.lists(st.sampled_from(b"ab "), max_size=12))
def test_the_last_token_of_a_word_and_no_other_is_banned(words: list[str], wanted: list[int]) -> None:
    matcher = BadWords.of(TOKENIZER, words).matcher()
    bad = [word.lstrip() for word in words]
    said = ""
    for token_id in wanted:
        may = allowed(matcher)
        banned = {ord(word[-1]) for word in bad if (said + word[-1]).endswith(word)}
        assert may == set(range(TOKENIZER.vocab_size)) - banned
        if token_id in may:
            matcher.advance(token_id)
            said += chr(token_id)
    assert not any(word in said for word in bad)


def test_an_output_may_end_and_matchers_share_nothing() -> None:
    words = BadWords.of(TOKENIZER, ["no"])
    first, second = words.matcher(), words.matcher()
    first.advance(ord("n"))
    assert ord("o") not in allowed(first)
    assert {ord("o"), EOS} <= allowed(second)
    assert first.may_end


def test_a_format_holds_too() -> None:
    held = BadWords.of(TOKENIZER, ["x"], Only(ord("y"))).matcher()
    assert (allowed(held), held.may_end) == ({ord("y")}, False)
    held.advance(ord("y"))
    assert held.may_end
    assert allowed(BadWords.of(TOKENIZER, ["y"], Only(ord("y"))).matcher()) == set()
