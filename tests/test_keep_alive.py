"""Keep-alive durations: what Ollama and Go accept, and nothing else."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagemill.errors import InvalidRequestError
from pagemill.keep_alive import parse_keep_alive


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (300, 300.0),
        (0, 0.0),
        (1.5, 1.5),
        ("300", 300.0),
        ("0", 0.0),
        ("5m", 300.0),
        ("1h30m", 5400.0),
        ("1h30m10s", 5410.0),
        ("250ms", 0.25),
        ("1.5h", 5400.0),
        (".5s", 0.5),
        ("10us", 1e-5),
        ("10µs", 1e-5),
        (" 5m ", 300.0),
        ("+5m", 300.0),
        ("0s", 0.0),
    ],
)
def test_durations_become_seconds(value: str | int | float, seconds: float) -> None:
    assert parse_keep_alive(value) == pytest.approx(seconds)


@pytest.mark.parametrize("value", [-1, -0.5, "-1", "-1m", "-1s", 10**30, 1e300, math.inf, -math.inf, "999999999h"])
def test_negative_and_endless_durations_mean_for_ever(value: str | int | float) -> None:
    assert parse_keep_alive(value) < 0


@pytest.mark.parametrize(
    "value", ["", "m", "5 m", "5x", "five", "1h30", "--1m", "1e3", "5m!", "\u0665m", True, math.nan]
)
def test_what_is_no_duration_is_refused_by_name(value: str | int | float) -> None:
    with pytest.raises(InvalidRequestError, match="keep_alive must be") as caught:
        parse_keep_alive(value)
    assert caught.value.param == "keep_alive"


@given(st.text(max_size=12) | st.integers() | st.floats())
def test_any_input_is_parsed_or_refused(value: str | int | float) -> None:
    try:
        seconds = parse_keep_alive(value)
    except InvalidRequestError:
        return
    assert math.isfinite(seconds)
