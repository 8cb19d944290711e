"""The variables of the Lambda handler."""

import pytest

from pagemill.errors import SettingsError
from pagemill_handlers.aws_lambda.settings import load_lambda_settings, max_concurrency


def test_the_defaults_are_lambdas_own_limits() -> None:
    settings = load_lambda_settings({})
    assert settings.mode == "streamed"
    assert settings.max_response_bytes == 6_291_556
    assert settings.shutdown_budget_s == 0.5


def test_variables_set_them_and_empty_ones_do_not() -> None:
    settings = load_lambda_settings({"PAGEMILL_LAMBDA_MODE": "buffered", "PAGEMILL_LAMBDA_DEADLINE_MARGIN_S": ""})
    assert (settings.mode, settings.deadline_margin_s) == ("buffered", 1.0)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MODE", "both"),
        ("MAX_RESPONSE_BYTES", "10"),
        ("DEADLINE_MARGIN_S", "0"),
        ("SHUTDOWN_BUDGET_S", "soon"),
        ("X", "1"),
    ],
)
def test_a_wrong_variable_is_named_with_its_value(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"PAGEMILL_LAMBDA_{name}: "):
        load_lambda_settings({f"PAGEMILL_LAMBDA_{name}": value})


@pytest.mark.parametrize(("text", "expected"), [(None, 1), ("", 1), ("1", 1), ("16", 16)])
def test_as_many_pollers_as_lambda_says(text: str | None, expected: int) -> None:
    assert max_concurrency({} if text is None else {"AWS_LAMBDA_MAX_CONCURRENCY": text}) == expected


@pytest.mark.parametrize("text", ["0", "-1", "many", "1.5"])
def test_a_concurrency_that_is_no_positive_number_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="AWS_LAMBDA_MAX_CONCURRENCY"):
        max_concurrency({"AWS_LAMBDA_MAX_CONCURRENCY": text})
