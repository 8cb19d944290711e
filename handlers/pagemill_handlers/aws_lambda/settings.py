"""The settings that only Lambda has, from PAGEMILL_LAMBDA_* variables. Everything else is `pagemill.settings`.

Owns no state.
"""

import os
from collections.abc import Mapping
from typing import Literal

from pagemill.errors import SettingsError
from pagemill.validated import Validated, field
from pagemill_handlers.variables import read_variables

PREFIX = "PAGEMILL_LAMBDA_"


class LambdaSettings(Validated):
    """How this function answers. Units are in the names."""

    mode: Literal["streamed", "buffered"] = field(
        "streamed", description="of the bootstrap process: streamed needs a function URL or REST API that streams"
    )
    max_response_bytes: int = field(
        6_291_556, ge=1024, description="largest buffered answer, as JSON; larger ones become an error (Lambda's limit)"
    )
    init_wait_s: float = field(
        0, ge=0, description="longest time that init waits for the model; for provisioned concurrency: see the docs"
    )
    deadline_margin_s: float = field(
        1.0, gt=0, description="time before the function's timeout at which a request is ended with an error"
    )
    shutdown_budget_s: float = field(
        0.5, gt=0, description="time from SIGTERM to the end; with an external extension Lambda allows 2 s"
    )


def load_lambda_settings(environment: Mapping[str, str] | None = None) -> LambdaSettings:
    """Read the variables.

    Raises:
        SettingsError: a value is wrong, or there is no such setting; names the variable.
    """
    return read_variables(LambdaSettings, PREFIX, environment)


def max_concurrency(environment: Mapping[str, str] | None = None) -> int:
    """How many invocations Lambda sends to this process at once: 1, but on Managed Instances.

    Raises:
        SettingsError: AWS_LAMBDA_MAX_CONCURRENCY is not a positive number.
    """
    environment = os.environ if environment is None else environment
    text = environment.get("AWS_LAMBDA_MAX_CONCURRENCY") or "1"
    if not text.isdecimal() or int(text) < 1:
        raise SettingsError(f"AWS_LAMBDA_MAX_CONCURRENCY: not a positive number, got {text!r}")
    return int(text)
