"""Modelfiles, as Ollama reads them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagemill.api.ollama.modelfile import modelfile
from pagemill.cli.failure import CommandError
from pagemill.cli.modelfile import Modelfile, parse_modelfile
from pagemill.store.model_defaults import ModelDefaults

WHOLE = '''# what it is made of
from ./grist.gguf

PARAMETER temperature 0.5
parameter stop "<|im_end|>"
PARAMETER stop AI assistant:
  PARAMETER num_ctx 4096
PARAMETER use_mmap false
SYSTEM """You are "Mario".
# no comment

Be brief. """
TEMPLATE """{{ .System }}
{{ .Prompt }}"""
MESSAGE user Is Toronto in Canada?
MESSAGE assistant """yes,
it is"""
LICENSE "Apache
2.0"
License MIT
'''


TEXTS = st.text(alphabet='ab "#\n', min_size=1).filter(lambda text: '"""' not in text)


def parse(text: str) -> Modelfile:
    return parse_modelfile(text.encode())


def test_every_instruction_is_read_in_any_letters() -> None:
    assert parse(WHOLE) == Modelfile(
        source="./grist.gguf",
        template="{{ .System }}\n{{ .Prompt }}",
        system='You are "Mario".\n# no comment\n\nBe brief. ',
        parameters={
            "temperature": 0.5,
            "stop": ["<|im_end|>", "AI assistant:"],
            "num_ctx": 4096,
            "use_mmap": False,
        },
        messages=[
            {"role": "user", "content": "Is Toronto in Canada?"},
            {"role": "assistant", "content": "yes,\nit is"},
        ],
        licenses=["Apache\n2.0", "MIT"],
    )


@pytest.mark.parametrize("ending", ["\r\n", "\r", "\n"])
def test_lines_may_end_in_any_way(ending: str) -> None:
    assert parse(WHOLE.replace("\n", ending)) == parse(WHOLE)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_mark_at_the_start_tells_the_encoding(encoding: str) -> None:
    assert parse_modelfile("FROM x\nSYSTEM ä".encode(encoding)).system == "ä"


def test_the_last_of_several_counts() -> None:
    made = parse("FROM x\nSYSTEM one\nSYSTEM two\nPARAMETER seed 1\nPARAMETER seed 2")
    assert (made.system, made.parameters) == ("two", {"seed": 2})


@pytest.mark.parametrize(
    ("value", "read"),
    [
        ("plain text ", "plain text"),
        ('"in quotes"', "in quotes"),
        ('"say "it" twice"', 'say "it" twice'),
        ('""', ""),
        ('""""""', ""),
        ('"""one line"""  ', "one line"),
        ('"""ends in a quote\n""""', 'ends in a quote\n"'),
        ('a "quote" within', 'a "quote" within'),
        ("it's", "it's"),
    ],
)
def test_quotes_are_taken_off(value: str, read: str) -> None:
    assert parse(f"SYSTEM {value}\nFROM x") == Modelfile(source="x", system=read)


def test_a_value_may_be_behind_any_blanks() -> None:
    assert parse("FROM\t  x \nPARAMETER\tstop\t a b").parameters == {"stop": ["a b"]}


def test_what_ollama_gave_up_is_passed_over_with_a_warning() -> None:
    made = parse("FROM x\nPARAMETER mirostat 2")
    assert (made.parameters, made.warnings) == ({}, ["line 2: parameter mirostat has no effect"])


def test_only_what_is_there_is_asked_for() -> None:
    assert parse("FROM x").request() == {}
    assert parse("FROM x\nSYSTEM s\nPARAMETER top_k 5").request() == {"system": "s", "parameters": {"top_k": 5}}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "it has no FROM"),
        ("# FROM x", "it has no FROM"),
        ("FROM", "line 1: FROM: it has no value"),
        ("FROM x\nFROM y", "line 2: FROM: there is one before, x"),
        ("FROM x\n\nFROB y", "line 3: FROB: no such instruction; there are FROM, PARAMETER, "),
        ("FROM x\nPARAMETER", "line 2: PARAMETER: it has no value"),
        ("FROM x\nPARAMETER top_k", "line 2: PARAMETER: top_k has no value"),
        ("FROM x\nPARAMETER top_k many", "line 2: PARAMETER: top_k is an integer, got 'many'"),
        ("FROM x\nPARAMETER temperature hot", "line 2: PARAMETER: temperature is a number, got 'hot'"),
        ("FROM x\nPARAMETER temperature inf", "line 2: PARAMETER: temperature is a number, got 'inf'"),
        ("FROM x\nPARAMETER temperature nan", "line 2: PARAMETER: temperature is a number, got 'nan'"),
        ("FROM x\nPARAMETER use_mmap perhaps", "line 2: PARAMETER: use_mmap is true or false, got 'perhaps'"),
        ("FROM x\nPARAMETER colour red", "line 2: PARAMETER: unknown parameter 'colour'; there are frequency_penalty,"),
        ("FROM x\nMESSAGE nobody hi", "line 2: MESSAGE: a message is of system, user, assistant, not of nobody"),
        ("FROM x\nMESSAGE user", "line 2: MESSAGE: user has no value"),
        ('FROM x\nSYSTEM """a\nb', "line 2: SYSTEM: its quotes are never closed"),
        ('FROM x\nSYSTEM """', "line 2: SYSTEM: its quotes are never closed"),
        ('FROM x\nSYSTEM "a', "line 2: SYSTEM: its quotes are never closed"),
        ("FROM x\nADAPTER ./lora.gguf", "line 2: ADAPTER: not supported: adapters can't be applied"),
        ("FROM x\nRENDERER qwen3", "line 2: RENDERER: not supported"),
    ],
)
def test_what_is_wrong_is_told_with_its_line_and_instruction(text: str, complaint: str) -> None:
    with pytest.raises(CommandError) as refused:
        parse(text)
    assert complaint in str(refused.value)


def test_what_is_no_text_is_refused() -> None:
    with pytest.raises(CommandError, match="it is no text"):
        parse_modelfile(b"FROM \xff\xfe\x00")


@given(st.lists(TEXTS, min_size=5, max_size=5))
def test_what_show_prints_makes_the_same_model(texts: list[str]) -> None:
    template, system, message, license_text, stop = texts
    messages = ({"role": "user", "content": message},)
    parameters: dict[str, object] = {"temperature": 1.0, "top_k": 5, "use_mmap": False, "stop": [stop, "END"]}
    shown = modelfile(
        "x", template, ModelDefaults(system=system, parameters=parameters, messages=messages), [license_text]
    )
    assert parse(shown) == Modelfile("x", template, system, parameters, list(messages), [license_text])
