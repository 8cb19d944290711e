"""From flags, environment, settings file and defaults to `Settings`: each layer goes before those after it.

Owns no state. An error names the flag, variable or file that the value came from.
"""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pagemill.errors import SettingsError
from pagemill.settings import SECRETS, Settings
from pagemill.validated import ValidationError, fields

ENVIRONMENT_PREFIX = "PAGEMILL_"
CONFIG_VARIABLE = "PAGEMILL_CONFIG"


class Fallback(NamedTuple):
    """A value that holds when no layer says another, and where it comes from, for error messages."""

    value: Any
    source: str


def flag_of(name: str) -> str:
    """The command-line flag of a field."""
    return "--" + name.replace("_", "-")


def load_settings(
    flags: Mapping[str, Any],
    environment: Mapping[str, str] | None = None,
    *,
    fallbacks: Mapping[str, Fallback] | None = None,
    source_of: Callable[[str], str] = flag_of,
) -> Settings:
    """Merge the layers. `flags` holds only those that were given, by field name, and perhaps `config` (a TOML path).
    `fallbacks` stand in for defaults; `source_of` says what a flag is called where it was given.

    Raises:
        SettingsError: a value is wrong, or a key unknown; the message names the flag, variable or file it came from.
    """
    environment = os.environ if environment is None else environment
    given = dict(flags)
    config = given.pop("config", None) or environment.get(CONFIG_VARIABLE)
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for name, (value, source) in (fallbacks or {}).items():
        values[name], sources[name] = value, source
    if config:
        for name, value in _read_toml(Path(config)).items():
            is_one_of_list = isinstance(value, str) and name in fields(Settings) and is_list(name)
            values[name], sources[name] = [value] if is_one_of_list else value, f"{name} in {config}"
    for name, value in _read_environment(environment).items():
        values[name], sources[name] = value, ENVIRONMENT_PREFIX + name.upper()
    for name, value in given.items():
        values[name], sources[name] = value, source_of(name)
    try:
        return Settings(**values)
    except ValidationError as error:
        raise SettingsError(_explain(error, sources)) from error


def is_list(name: str) -> bool:
    """Whether a field takes several values (flags repeat it, variables separate them by commas)."""
    return isinstance(fields(Settings)[name].default, tuple)


def _read_toml(path: Path) -> dict[str, Any]:
    import tomllib

    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise SettingsError(f"can't read the settings file {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"the settings file {path} is not valid TOML: {error}") from error


def _read_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in fields(Settings):
        variable = ENVIRONMENT_PREFIX + name.upper()
        text = environment.get(variable)
        if text is not None and text != "":
            found[name] = _read_list(text, variable) if is_list(name) else text
    return found


def _read_list(text: str, variable: str) -> tuple[str, ...]:
    """None in it is a mistake: a server whose key is a lone comma would be open to everybody."""
    parts = tuple(part.strip() for part in text.split(",") if part.strip())
    if not parts:
        raise SettingsError(f"{variable} holds nothing but commas and spaces, got {text!r}")
    return parts


def _explain(error: ValidationError, sources: Mapping[str, str]) -> str:
    lines = []
    for item in error.errors(include_url=False):
        name = str(item["loc"][0]) if item["loc"] else "settings"
        source = sources.get(name, name)
        if item["type"] == "extra_forbidden":
            lines.append(f"{source}: there is no such setting")
        else:
            got = "" if name in SECRETS else f", got {item['input']!r}"
            lines.append(f"{source}: {item['msg'].replace('tuple', 'list')}{got}")
    return "; ".join(lines)
