"""Ollama's options: their types, defaults and meaning, and the warnings for those without effect."""

import logging
from typing import Any

import pytest

from pagemill.errors import InvalidRequestError
from pagemill.generation import SamplingParams
from pagemill.ollama_options import Options, read_options

MAX_STOP = 4


def read(**options: Any) -> Options:
    return read_options(options, max_stop=MAX_STOP)


def sampling(**options: Any) -> SamplingParams:
    return read(**options).sampling(max_tokens=10, logprobs=None)


def test_the_defaults_are_ollamas() -> None:
    assert sampling() == SamplingParams(
        max_tokens=10, temperature=0.8, top_k=40, top_p=0.9, repetition_penalty=1.0, penalty_last_n=64
    )


def test_every_option_reaches_the_sampling_parameters() -> None:
    given = sampling(
        seed=7,
        top_k=5,
        top_p=0.5,
        min_p=0.1,
        typical_p=0.7,
        repeat_last_n=33,
        repeat_penalty=1.1,
        temperature=0.2,
        presence_penalty=0.3,
        frequency_penalty=0.4,
        stop=["a", "b"],
    )
    assert given == SamplingParams(
        max_tokens=10,
        seed=7,
        top_k=5,
        top_p=0.5,
        min_p=0.1,
        typical_p=0.7,
        penalty_last_n=33,
        repetition_penalty=1.1,
        temperature=0.2,
        presence_penalty=0.3,
        frequency_penalty=0.4,
        stop=("a", "b"),
    )


@pytest.mark.parametrize(
    ("options", "field", "value"),
    [
        ({"seed": -1}, "seed", None),
        ({"seed": 0}, "seed", 0),
        ({"top_k": 0}, "top_k", 0),
        ({"top_k": -1}, "top_k", 0),
        ({"repeat_last_n": 0}, "penalty_last_n", 0),
        ({"repeat_last_n": -1}, "penalty_last_n", None),
        ({"top_p": 0}, "top_k", 1),
        ({"temperature": 1}, "temperature", 1.0),
        ({"top_k": 3.0}, "top_k", 3),
        ({"temperature": None}, "temperature", 0.8),
        ({"stop": []}, "stop", ()),
    ],
)
def test_special_values_mean_what_they_mean_to_ollama(options: dict[str, Any], field: str, value: object) -> None:
    assert getattr(sampling(**options), field) == value


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [
        ("num_ctx", "4096", "integer"),
        ("num_predict", 1.5, "integer"),
        ("num_predict", True, "integer"),
        ("seed", [1], "integer"),
        ("top_k", {}, "integer"),
        ("temperature", "hot", "float"),
        ("temperature", False, "float"),
        ("top_p", [], "float"),
        ("frequency_penalty", 10**400, "float"),
        ("stop", "word", "array of strings"),
        ("stop", [1], "array of strings"),
        ("num_gpu", "all", "integer"),
        ("use_mmap", 1, "boolean"),
    ],
)
def test_a_wrong_type_is_refused_by_the_options_name(name: str, value: object, kind: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        read(**{name: value})
    assert caught.value.message.startswith(f'option "{name}" must be of type {kind}, got ')
    assert caught.value.param == name


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("num_ctx", 0),
        ("num_ctx", -1),
        ("num_predict", -3),
        ("repeat_last_n", -2),
        ("repeat_penalty", 0),
        ("repeat_penalty", -1),
        ("temperature", -0.1),
        ("top_p", 1.5),
        ("min_p", -1),
        ("typical_p", 0),
        ("presence_penalty", 3),
        ("frequency_penalty", -3),
        ("seed", 2**63),
        ("stop", [""]),
    ],
)
def test_a_value_out_of_range_is_refused_by_the_options_name(name: str, value: object) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        read(**{name: value})
    assert caught.value.message.startswith(f"{name} must be ")
    assert caught.value.param == name


def test_too_many_stop_strings_are_refused() -> None:
    read(stop=["x"] * MAX_STOP)
    with pytest.raises(InvalidRequestError, match='"stop" has 5 strings, at most 4'):
        read(stop=["x"] * (MAX_STOP + 1))


@pytest.mark.parametrize(
    "options", [{"num_gpu": 1}, {"use_mmap": True}, {"num_thread": 2}, {"mirostat": 1}, {"x": [1]}]
)
def test_options_without_effect_pass_with_a_warning(options: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert read(**options) == Options()
    assert f"{next(iter(options))}" in caplog.text
    assert "has no effect" in caplog.text


def test_known_options_give_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    read(num_ctx=100, num_keep=1, num_predict=-2, temperature=0.0)
    assert caplog.text == ""


def test_num_ctx_limits_the_context_and_never_extends_it(caplog: pytest.LogCaptureFixture) -> None:
    assert read().context_length(1000) == 1000
    assert read(num_ctx=100).context_length(1000) == 100
    assert caplog.text == ""
    assert read(num_ctx=8192).context_length(1000) == 1000
    assert "num_ctx is 8192, the model is loaded with a context of 1000" in caplog.text
