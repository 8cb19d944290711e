"""The settings that only one runtime has, from variables with its prefix. Owns no state."""

import os
from collections.abc import Mapping
from typing import TypeVar

from pagemill.errors import SettingsError
from pagemill.validated import Validated, ValidationError

S = TypeVar("S", bound=Validated)


def read_variables(cls: type[S], prefix: str, environment: Mapping[str, str] | None = None) -> S:
    """Read the variables that begin with the prefix; empty ones are as if absent.

    Raises:
        SettingsError: a value is wrong, or there is no such setting; names the variable.
    """
    environment = os.environ if environment is None else environment
    given = {
        name.removeprefix(prefix).lower(): value
        for name, value in environment.items()
        if name.startswith(prefix) and value != ""
    }
    try:
        return cls(**given)
    except ValidationError as error:
        raise SettingsError(_explain(error, prefix)) from error


def _explain(error: ValidationError, prefix: str) -> str:
    lines = []
    for item in error.errors():
        name = prefix + str(item["loc"][0]).upper()
        unknown = item["type"] == "extra_forbidden"
        lines.append(f"{name}: " + ("there is no such setting" if unknown else f"{item['msg']}, got {item['input']!r}"))
    return "; ".join(lines)
