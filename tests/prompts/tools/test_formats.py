"""Each format on what its models write, whole and in pieces. The texts follow the formats' public descriptions."""

import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pagemill.prompts.message_events import Content, Event, ToolCallArguments, ToolCallStart
from pagemill.prompts.reasoning import COHERE
from pagemill.prompts.tools import TOOL_FORMATS, tool_format
from support.answer_events import call, cut, read, read_format, scrambled

PARIS = '{"city": "Paris"}'
NESTED = (
    '{"city": "S\\u00e3o \\"P\\" }{", "place": {"at": [1, [2, {"x": "]}"}]], "ok": true}, "days": -3.5e2, "note": null}'
)
BEGIN, END = "<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>"
CALLS_BEGIN, CALLS_END, SEPARATOR = "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>", "<｜tool▁sep｜>"
KIMI_BEGIN, KIMI_END = "<|tool_calls_section_begin|>", "<|tool_calls_section_end|>"


def kimi(call_id: str, arguments: str) -> str:
    return f"<|tool_call_begin|>{call_id}<|tool_call_argument_begin|>{arguments}<|tool_call_end|>"


def of_id(call_id: str, events: list[Event]) -> list[Event]:
    """The events of a call with the model's own id."""
    return [event._replace(id=call_id) if isinstance(event, ToolCallStart) else event for event in events]


def dsml(text: str) -> str:
    """With DeepSeek's mark in every tag."""
    return re.sub("<(/?)(?=[a-z])", r"<\1｜DSML｜", text)


TRANSCRIPTS: list[tuple[str, str, list[Event]]] = [
    (
        "hermes",
        '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>',
        call(0, "get_weather", PARIS),
    ),
    (
        "hermes",
        "Let me look.\n<tool_call>\n"
        f'{{"name": "get_weather", "arguments": {NESTED}}}\n</tool_call>\n'
        '<tool_call>\n{"name": "get_time", "arguments": {"city": "Zürich 😀"}}\n</tool_call>\nDone. ',
        [
            Content("Let me look."),
            *call(0, "get_weather", NESTED),
            *call(1, "get_time", '{"city": "Zürich 😀"}'),
            Content("\nDone."),
        ],
    ),
    (
        "hermes",
        f'<tool_call>{{"arguments": {PARIS}, "name": "get_weather"}}{{"name": "get_time"}}</tool_call>',
        [*call(0, "get_weather", PARIS), *call(1, "get_time", "{}")],
    ),
    (
        "llama3_json",
        '{"name": "get_weather", "parameters": {"city": "Paris"}}',
        call(0, "get_weather", PARIS),
    ),
    (
        "llama3_json",
        '<|python_tag|>{"type": "function", "name": "get_weather", "parameters": {"city": "Paris"}}; '
        '{"name": "get_time", "parameters": {"city": "Rome"}}',
        [*call(0, "get_weather", PARIS), *call(1, "get_time", '{"city": "Rome"}')],
    ),
    (
        "llama3_json",
        f'I will call two:\n[{{"name": "get_weather", "arguments": {NESTED}}}, {{"name": "get_time"}}]',
        [Content("I will call two:"), *call(0, "get_weather", NESTED), *call(1, "get_time", "{}")],
    ),
    (
        "mistral",
        '[TOOL_CALLS] [{"name": "get_weather", "arguments": {"city": "Paris"}}, '
        '{"name": "get_time", "arguments": {"city": "Rome"}}]',
        [*call(0, "get_weather", PARIS), *call(1, "get_time", '{"city": "Rome"}')],
    ),
    (
        "mistral",
        f"Yes.[TOOL_CALLS]get_weather[ARGS]{NESTED}[TOOL_CALLS]get_time[CALL_ID]a1B2c3D4e[ARGS]{PARIS}",
        [Content("Yes."), *call(0, "get_weather", NESTED), *call(1, "get_time", PARIS)],
    ),
    ("mistral", f"[TOOL_CALLS]get_weather{PARIS}", call(0, "get_weather", PARIS)),
    (
        "qwen3_coder",
        '<tool_call>\n<function=get_weather>\n<parameter=city>\nPa"ris\nFrance\n</parameter>\n'
        "<parameter=days>\n3\n</parameter>\n<parameter=metric>\nTrue\n</parameter>\n"
        '<parameter=tags>\n["a", {"b": 1}]\n</parameter>\n<parameter=note>\nnull\n</parameter>\n'
        "</function>\n</tool_call>",
        call(
            0,
            "get_weather",
            '{"city": "Pa\\"ris\\nFrance", "days": 3, "metric": true, "tags": ["a", {"b": 1}], "note": null}',
        ),
    ),
    (
        "qwen3_coder",
        "First.\n<function=get_time>\n<parameter=city>\nRome\n<parameter=zone>\n7\n</function>\n"
        "<tool_call><function=get_time></function></tool_call>",
        [Content("First."), *call(0, "get_time", '{"city": "Rome", "zone": "7"}'), *call(1, "get_time", "{}")],
    ),
    (
        "seed_oss",
        "<seed:tool_call>\n<function=get_time>\n<parameter=city>Rome</parameter>\n</function>\n</seed:tool_call>",
        call(0, "get_time", '{"city": "Rome"}'),
    ),
    (
        "glm45",
        'I look.\n<tool_call>get_weather\n<arg_key>city</arg_key>\n<arg_value>Pa"ris</arg_value>\n'
        "<arg_key>days</arg_key>\n<arg_value>3</arg_value>\n</tool_call>\n<tool_call>get_time</tool_call>",
        [Content("I look."), *call(0, "get_weather", '{"city": "Pa\\"ris", "days": 3}'), *call(1, "get_time", "{}")],
    ),
    (
        "pythonic",
        f'<|tool_call_start|>[{{"name": "get_time", "arguments": {PARIS}}}]<|tool_call_end|>',
        call(0, "get_time", PARIS),
    ),
    (
        "pythonic",
        "[get_weather(city=\"Par'is\", days=-3, tags=['a', (1, 2.5), {'b': None}], metric=True), get_time('Rome')]",
        [
            *call(
                0,
                "get_weather",
                '{"city": "Par\'is", "days": -3, "tags": ["a", [1, 2.5], {"b": null}], "metric": true}',
            ),
            *call(1, "get_time", '{"city": "Rome"}'),
        ],
    ),
    (
        "pythonic",
        'Sure:\n<|tool_call_start|>[get_time(city="a \\"b\\" \\n\\u00e9")]<|tool_call_end|>ok',
        [Content("Sure:"), *call(0, "get_time", '{"city": "a \\"b\\" \\né"}'), Content("ok")],
    ),
    ("llama4_pythonic", "<|python_start|>[get_time()]<|python_end|>", call(0, "get_time", "{}")),
    (
        "deepseek_v3",
        f"{CALLS_BEGIN}{BEGIN}function{SEPARATOR}get_weather\n```json\n{NESTED}\n```{END}\n"
        f"{BEGIN}function{SEPARATOR}get_time\n```json\n{PARIS}\n```{END}{CALLS_END}",
        [*call(0, "get_weather", NESTED), *call(1, "get_time", PARIS)],
    ),
    (
        "deepseek_v31",
        f"I look.{CALLS_BEGIN}{BEGIN}get_weather{SEPARATOR}{PARIS}{END}{BEGIN}get_time{SEPARATOR}{{}}{END}{CALLS_END}",
        [Content("I look."), *call(0, "get_weather", PARIS), *call(1, "get_time", "{}")],
    ),
    (
        "granite",
        '<|tool_call|>[{"name": "get_weather", "arguments": {"city": "Paris"}}]',
        call(0, "get_weather", PARIS),
    ),
    (
        "phi4_mini_json",
        f'<|tool_call|>[{{"name": "get_weather", "arguments": {PARIS}}}, {{"name": "get_time"}}]<|/tool_call|>',
        [*call(0, "get_weather", PARIS), *call(1, "get_time", "{}")],
    ),
    (
        "hermes",
        f'<tool_call>[{{"name": "get_weather", "arguments": {PARIS}}}, {{"name": "get_time"}}]</tool_call>',
        [*call(0, "get_weather", PARIS), *call(1, "get_time", "{}")],
    ),
    ("granite4", f'<tool_call>{{"name": "get_time", "arguments": {PARIS}}}</tool_call>', call(0, "get_time", PARIS)),
    (
        "minimax",
        f'I look.\n<tool_calls>\n{{"name": "get_weather", "arguments": {NESTED}}}\n'
        f'{{"name": "get_time", "arguments": {PARIS}}}\n</tool_calls>',
        [Content("I look."), *call(0, "get_weather", NESTED), *call(1, "get_time", PARIS)],
    ),
    (
        "jamba",
        f'<tool_calls>[\n  {{"name": "get_weather", "arguments": {PARIS}}},\n  {{"name": "get_time"}}\n]'
        "</tool_calls>Ok",
        [*call(0, "get_weather", PARIS), *call(1, "get_time", "{}"), Content("Ok")],
    ),
    (
        "nemotron_json",
        f'<TOOLCALL>[{{"name": "get_weather", "arguments": {NESTED}}}, {{"name": "get_time", "arguments": {PARIS}}}]'
        "</TOOLCALL>",
        [*call(0, "get_weather", NESTED), *call(1, "get_time", PARIS)],
    ),
    (
        "cohere_command3",
        f'<|START_ACTION|>[\n    {{"tool_call_id": "0", "tool_name": "get_weather", "parameters": {NESTED}}},\n'
        f'    {{"tool_call_id": "1", "tool_name": "get_time", "parameters": {PARIS}}}\n]<|END_ACTION|>',
        [*call(0, "get_weather", NESTED), *call(1, "get_time", PARIS)],
    ),
    ("cohere_command3", "<|START_RESPONSE|>It is sunny.<|END_RESPONSE|>", [Content("It is sunny.")]),
    (
        "cohere_command4",
        '<|START_TEXT|>I look.<|END_TEXT|><|START_ACTION|>[{"tool_name": "get_time", "parameters": {}}]<|END_ACTION|>',
        [Content("I look."), *call(0, "get_time", "{}")],
    ),
    (
        "kimi_k2",
        f"I look.{KIMI_BEGIN}{kimi('functions.get_weather:0', NESTED)}{kimi('functions.get_time:1', PARIS)}{KIMI_END}",
        [
            Content("I look."),
            *of_id("functions.get_weather:0", call(0, "get_weather", NESTED)),
            *of_id("functions.get_time:1", call(1, "get_time", PARIS)),
        ],
    ),
    (
        "kimi_k2",
        f"{KIMI_BEGIN}\n{kimi(' a.b/c:d:7 ', '')}\n{kimi('functions.f:0', '{}')}{kimi('functions.f:0', PARIS)}",
        [
            *of_id("a.b/c:d:7", call(0, "a.b/c:d", "{}")),
            *of_id("functions.f:0", call(1, "f", "{}")),
            *of_id("call0", call(2, "f", PARIS)),  # no two calls have the same
        ],
    ),
    (
        "minimax_m2",
        '\n<minimax:tool_call>\n<invoke name="get_weather">\n<parameter name="city">Pa"ris\n</parameter>\n'
        '<parameter name="days">3</parameter>\n<parameter name="metric">true</parameter>\n'
        '<parameter name="tags">["a", {"b": 1}]</parameter>\n<parameter name="note">null</parameter>\n'
        '</invoke>\n<invoke name="get_time">\n</invoke>\n</minimax:tool_call>',
        [
            *call(
                0,
                "get_weather",
                '{"city": "Pa\\"ris\\n", "days": 3, "metric": true, "tags": ["a", {"b": 1}], "note": null}',
            ),
            *call(1, "get_time", "{}"),
        ],
    ),
    (
        "deepseek_v32",
        "I look.\n\n"
        + dsml(
            '<function_calls>\n<invoke name="get_weather">\n<parameter name="city" string="true">5</parameter>\n'
            '<parameter name="days" string="false">3</parameter>\n'
            '<parameter name="x" string="false">{"a": [1]}</parameter>\n'
            '<parameter name="y" string="false">a < b</parameter>\n</invoke>\n'
            '<invoke name="get_time">\n<parameter name="city" string="true">杭州</parameter>\n</invoke>\n'
            "</function_calls>"
        ),
        [
            Content("I look."),
            *call(0, "get_weather", '{"city": "5", "days": 3, "x": {"a": [1]}, "y": "a < b"}'),
            *call(1, "get_time", '{"city": "杭州"}'),
        ],
    ),
    ("deepseek_v4", dsml('<tool_calls>\n<invoke name="f">\n\n</invoke>\n</tool_calls>'), call(0, "f", "{}")),
    (
        "qwen3_xml",
        "<tool_call>\n<function=get_time>\n<parameter=city>\nRome\n</parameter>\n</function>\n</tool_call>",
        call(0, "get_time", '{"city": "Rome"}'),
    ),
    (
        "glm47",
        "<tool_call>get_time<arg_key>city</arg_key><arg_value>Rome</arg_value></tool_call>",
        call(0, "get_time", '{"city": "Rome"}'),
    ),
]

NO_CALLS = [
    ("hermes", "<tool_call> is what I would write"),
    ("hermes", '<tool_call>\n{"city": "Paris"}\n</tool_call>'),
    ("hermes", '<tool_call>\n{"name": "get_weather", "argum'),
    ("hermes", "2 < 3 <tool"),
    ("llama3_json", '{"city": "Paris", "name": "get_weather"}'),
    ("llama3_json", '{"name": "Bob", "parameters": {}}'),
    ("llama3_json", "[1, 2]\n{}\n[]"),
    ("llama3_json", '<|python_tag|>brave_search.call(query="x")'),
    ("mistral", "[TOOL_CALLS] none"),
    ("mistral", '[TOOL_CALLS][{"x": 1}]'),
    ("qwen3_coder", "<tool_call>\nget_weather\n</tool_call> <function= x>"),
    ("pythonic", "[link](get_weather)\n[get_news(city='x')]\nget_time()"),
    ("pythonic", "[get_weather, get_time]"),
    ("deepseek_v3", f"{BEGIN}function{SEPARATOR} what? {END}"),
    ("granite", "<|tool_call|> no list"),
    ("glm45", '<tool_call>{"name": "f"}</tool_call> <tool_call> a b'),
    ("minimax", "<tool_calls> is what I would write </tool_calls>"),
    ("nemotron_json", '<TOOLCALL>[{"x": 1}]</TOOLCALL>'),
    ("cohere_command3", "<|START_ACTION|>[]<|END_ACTION|>"),
    ("kimi_k2", "<|tool_call_begin|>functions.f:0 and no more"),
    ("kimi_k2", "<|tool_call_begin|><|tool_call_argument_begin|>{}"),
    ("minimax_m2", '<minimax:tool_call> <invoke name=""> <invoke name="f"> and then </minimax:tool_call>'),
    ("minimax_m2", '<invoke name="f"></invoke>'),
    ("deepseek_v32", '<｜DSML｜function_calls><invoke name="f"></invoke></｜DSML｜function_calls>'),
    ("deepseek_v32", '<｜DSML｜function_calls><｜DSML｜invoke name="f'),
]


@pytest.mark.parametrize(("name", "text", "events"), TRANSCRIPTS)
def test_what_models_write_is_read(name: str, text: str, events: list[Event]) -> None:
    assert read_format(name, text) == events


def test_every_format_has_a_transcript() -> None:
    assert {name for name, _text, _events in TRANSCRIPTS} == set(TOOL_FORMATS)


@pytest.mark.parametrize(("name", "text", "events"), TRANSCRIPTS)
def test_a_character_at_a_time_says_the_same(name: str, text: str, events: list[Event]) -> None:
    assert read(text, tools=tool_format(name).read) == events


@pytest.mark.parametrize(("name", "text"), NO_CALLS)
def test_what_only_looks_like_a_call_is_content(name: str, text: str) -> None:
    assert read_format(name, text) == [Content(text)]
    assert read(text, tools=tool_format(name).read) == [Content(text)]


@pytest.mark.parametrize("name", sorted(TOOL_FORMATS))
@pytest.mark.parametrize("text", ["", " ", "Hello.\n\n- a\n- b\n", "f(x) = {1, [2]} <b>bold</b>", "  {}"])
def test_plain_text_stays_as_it_is(name: str, text: str) -> None:
    assert read_format(name, text) == ([Content(text)] if text else [])


@settings(max_examples=400, deadline=None)
@given(data=st.data())
def test_wherever_a_text_is_cut_the_same_comes_out(data: st.DataObject) -> None:
    name, text, _events = data.draw(st.sampled_from(TRANSCRIPTS))
    found = tool_format(name)
    text = data.draw(st.just(text) | scrambled(text, found.MARKERS))
    assert read(data.draw(cut(text)), tools=found.read) == read([text], tools=found.read)


@settings(max_examples=400, deadline=None)
@given(data=st.data())
def test_no_text_is_lost_however_wrong_it_is(data: st.DataObject) -> None:
    """Every letter of the text is in some event, except for what belongs to a call's notation."""
    name, text, _events = data.draw(st.sampled_from(TRANSCRIPTS))
    found = tool_format(name)
    text = data.draw(scrambled(text, found.MARKERS))
    events = read([text], tools=found.read)
    if not any(isinstance(event, ToolCallStart) for event in events):
        kept = "".join(event.text for event in events if isinstance(event, Content))
        layout = [*found.MARKERS] if name in ("deepseek_v3", "deepseek_v31", "kimi_k2") else []
        layout += COHERE.layout if name.startswith("cohere") else ()
        assert without(kept, layout) == without(text, layout)


def without(text: str, markers: list[str]) -> str:
    for marker in markers:
        text = text.replace(marker, "")
    return "".join(text.split())


@pytest.mark.parametrize(("name", "text", "events"), TRANSCRIPTS)
def test_what_has_come_out_is_never_taken_back(name: str, text: str, events: list[Event]) -> None:
    for length in range(len(text)):
        found = read([text[:length]], tools=tool_format(name).read, to_the_end=False)
        *whole, last = found or [Content("")]
        assert whole == events[: len(whole)]
        wanted = events[len(whole)]
        if isinstance(last, ToolCallStart):
            assert last == wanted
        else:
            assert type(last) is type(wanted) or not found
            assert isinstance(wanted, ToolCallStart) or wanted.text.startswith(last.text)


JSON_OBJECTS = st.dictionaries(
    st.text(max_size=4),
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(max_size=6),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
        max_leaves=6,
    ),
    max_size=4,
)
WRITERS = {
    "hermes": lambda text: f'<tool_call>\n{{"name": "f", "arguments": {text}}}\n</tool_call>',
    "mistral": lambda text: f"[TOOL_CALLS]f[ARGS]{text}",
    "deepseek_v31": lambda text: f"{CALLS_BEGIN}{BEGIN}f{SEPARATOR}{text}{END}{CALLS_END}",
    "llama3_json": lambda text: f'<|python_tag|>{{"name": "f", "parameters": {text}}}',
    "granite": lambda text: f'<|tool_call|>[{{"name": "f", "arguments": {text}}}]',
    "minimax": lambda text: f'<tool_calls>\n{{"name": "f", "arguments": {text}}}\n</tool_calls>',
    "nemotron_json": lambda text: f'<TOOLCALL>[{{"name": "f", "arguments": {text}}}]</TOOLCALL>',
    "cohere_command3": lambda text: f'<|START_ACTION|>[{{"tool_name": "f", "parameters": {text}}}]<|END_ACTION|>',
    "kimi_k2": lambda text: KIMI_BEGIN + kimi("functions.f:0", text) + KIMI_END,
    "pythonic": lambda text: f"<|python_start|>[f(x={json.loads(text)!r})]",
}


@pytest.mark.parametrize("name", sorted(WRITERS))
@given(arguments=JSON_OBJECTS, ascii_only=st.booleans(), indent=st.none() | st.just(2))
def test_any_arguments_come_through(name: str, arguments: dict[str, Any], ascii_only: bool, indent: int | None) -> None:
    text = json.dumps(arguments, ensure_ascii=ascii_only, indent=indent)
    start, found = read_format(name, WRITERS[name](text))
    assert isinstance(start, ToolCallStart)
    assert isinstance(found, ToolCallArguments)
    assert json.loads(found.text) == ({"x": arguments} if name == "pythonic" else arguments)
