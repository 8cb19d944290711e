"""gpt-oss's channels, by OpenAI's description of the harmony format."""

from hypothesis import given, settings
from hypothesis import strategies as st

from pagemill.prompts import harmony
from pagemill.prompts.message_events import Content, Event, Reasoning
from support.answer_events import call, cut, read, scrambled

NEXT = "<|end|><|start|>assistant"
ANSWER = f"<|channel|>analysis<|message|>Easy: 2 + 2.{NEXT}<|channel|>final<|message|>2 + 2 = 4.<|return|>"
CALL = (
    f"<|channel|>analysis<|message|>I need the weather.{NEXT}<|channel|>analysis<|message|>In Paris.{NEXT}"
    f"<|channel|>commentary<|message|>I will look.{NEXT}"
    '<|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>{"city": "Paris"}<|call|>'
)


def events(text: str) -> list[Event]:
    return read([text], tools=harmony.read)


def test_analysis_is_reasoning_and_final_is_content() -> None:
    assert events(ANSWER) == [Reasoning("Easy: 2 + 2."), Content("2 + 2 = 4.")]


def test_commentary_to_a_function_is_a_call_and_other_commentary_is_content() -> None:
    assert events(CALL) == [
        Reasoning("I need the weather.\nIn Paris."),
        Content("I will look."),
        *call(0, "get_weather", '{"city": "Paris"}'),
    ]


def test_the_recipient_may_stand_in_the_role() -> None:
    text = (
        "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant to=functions.get_time<|channel|>commentary"
        "<|constrain|>json<|message|>{}<|call|>"
    )
    assert events(text) == [Reasoning("Hm."), *call(0, "get_time", "{}")]


def test_text_without_channels_is_content() -> None:
    assert events("Just text.\n") == [Content("Just text.\n")]
    assert events("<|message|>Just text.<|return|>") == [Content("Just text.")]


def test_what_is_cut_off_stays_what_it_was() -> None:
    assert events("<|channel|>analysis<|message|>So fa") == [Reasoning("So fa")]
    assert events("<|channel|>final<|message|>So <|en") == [Content("So <|en")]
    assert events("<|channel|>fin") == []


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_wherever_a_text_is_cut_the_same_comes_out(data: st.DataObject) -> None:
    text = data.draw(st.sampled_from([ANSWER, CALL]) | scrambled(CALL, harmony.MARKERS))
    assert read(data.draw(cut(text)), tools=harmony.read) == events(text)
