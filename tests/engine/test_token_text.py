from pagemill.backends.fake import EOS, FakeTokenizer
from pagemill.backends.fake.tokenizer import BOS, IM_START
from pagemill.engine.token_text import TokenText
from pagemill.generation import SamplingParams


def texts(sampling: SamplingParams) -> list[bytes]:
    look_up = TokenText(FakeTokenizer()).lookup(sampling)
    return [look_up(token_id) for token_id in (ord("a"), BOS, EOS, IM_START)]


def test_special_tokens_have_no_text_unless_they_are_asked_for() -> None:
    assert texts(SamplingParams()) == [b"a", b"", b"", b""]
    assert texts(SamplingParams(skip_special_tokens=False)) == [b"a", b"<|bos|>", b"<|im_end|>", b"<|im_start|>"]


def test_single_special_tokens_can_be_shown_while_others_are_not() -> None:
    assert texts(SamplingParams(shown_special_tokens=frozenset({IM_START}))) == [b"a", b"", b"", b"<|im_start|>"]
    assert texts(SamplingParams(shown_special_tokens=frozenset({BOS}))) == [b"a", b"<|bos|>", b"", b""]
