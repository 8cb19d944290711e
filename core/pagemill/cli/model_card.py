"""What a model is, as `pagemill show` and `/show info` print it, from the answer of `/api/show`. Owns no state."""

import shlex
from collections.abc import Mapping
from typing import Any

from pagemill.cli.tables import write_line

MAX_VALUE = 80  # characters of a metadata value that are shown


def write_model_card(shown: Mapping[str, Any], *, verbose: bool = False) -> None:
    """Sections of indented, aligned pairs. `verbose` adds the metadata of the model's file."""
    _write_section("Model", _facts(shown))
    _write_section("Capabilities", [(capability, "") for capability in shown.get("capabilities", ())])
    _write_section("Parameters", parameters(shown))
    if verbose:
        _write_section("Metadata", [(name, _cut(value)) for name, value in shown["model_info"].items()])
    if shown.get("system"):
        _write_section("System", [(line, "") for line in shown["system"].strip().splitlines()])
    if shown.get("license"):
        _write_section("License", [(line, "") for line in shown["license"].strip().splitlines()[:2]])


def parameters(shown: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The parameters that the model's file or its maker sets, one pair a line."""
    pairs = (line.split(maxsplit=1) for line in shown.get("parameters", "").splitlines())
    return [(pair[0], pair[1]) for pair in pairs if len(pair) > 1]


def _facts(shown: Mapping[str, Any]) -> list[tuple[str, str]]:
    details, info = shown["details"], shown["model_info"]
    architecture = info.get("general.architecture") or details["family"]
    facts = [
        ("architecture", architecture),
        ("parameters", details["parameter_size"]),
        ("context length", info.get(f"{architecture}.context_length")),
        ("embedding length", info.get(f"{architecture}.embedding_length")),
        ("quantization", details["quantization_level"]),
    ]
    return [(name, str(value)) for name, value in facts if value not in (None, "")]


def _write_section(title: str, pairs: list[tuple[str, str]]) -> None:
    if not pairs:
        return
    width = max(len(name) for name, _value in pairs)
    write_line(f"  {title}")
    for name, value in pairs:
        write_line(f"    {name.ljust(width)}    {value}".rstrip())
    write_line()


def _cut(value: object) -> str:
    text = shlex.quote(value) if isinstance(value, str) else str(value)
    text = text.replace("\n", "\\n")
    return text if len(text) <= MAX_VALUE else text[: MAX_VALUE - 3] + "..."
