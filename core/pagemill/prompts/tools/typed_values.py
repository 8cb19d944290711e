"""Arguments in formats that write them without JSON's quotes: what type a value has, its parameter's schema says.

Owns no state.
"""

import json
from collections.abc import Mapping
from typing import Any

from pagemill.prompts.message_events import EventWriter
from pagemill.prompts.text_source import Reading, TextSource, until

TYPES = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}
PYTHON_LITERALS = {"True": True, "False": False, "None": None}


def parameter_schema(tool: Mapping[str, Any] | None, name: str) -> Mapping[str, Any]:
    """The schema of one parameter, {} if it is not known."""
    properties = (tool or {}).get("properties")
    found = properties.get(name) if isinstance(properties, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def allowed_types(schema: Mapping[str, Any]) -> set[str]:
    """The JSON types that the schema names, empty if it names none."""
    given = schema.get("type")
    if isinstance(given, str):
        return {given}
    if isinstance(given, list):
        return {item for item in given if isinstance(item, str)}
    if isinstance(choices := schema.get("enum"), list):
        return {TYPES.get(type(choice), "null") for choice in choices}
    if "const" in schema:
        return {TYPES.get(type(schema["const"]), "null")}
    options = schema.get("anyOf") or schema.get("oneOf")
    if isinstance(options, list):
        return {kind for option in options if isinstance(option, Mapping) for kind in allowed_types(option)}
    return set()


def is_text(schema: Mapping[str, Any]) -> bool:
    """Whether every value is a string: also where the schema does not say."""
    return allowed_types(schema) <= {"string"}


def typed_json(text: str, schema: Mapping[str, Any]) -> str:
    """The JSON of a value that is written as `text`. One that has none of the schema's types is a string."""
    allowed = allowed_types(schema)
    stripped = text.strip()
    try:
        value = PYTHON_LITERALS[stripped] if stripped in PYTHON_LITERALS else json.loads(stripped)
        kind = TYPES.get(type(value), "null")
        if kind in allowed or (kind == "integer" and "number" in allowed):
            return to_json(value)
    except (ValueError, RecursionError):
        pass
    return json.dumps(text, ensure_ascii=False)


def to_json(value: Any) -> str:
    """A value's JSON, with no more escapes than it needs.

    Raises:
        TypeError, ValueError, RecursionError: JSON has no such value.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    return text if text.isascii() or _is_unicode(text) else json.dumps(value)


def _is_unicode(text: str) -> bool:
    """Whether it has no half of a surrogate pair, which can't be sent."""
    return text.encode("utf-8", "replace").decode() == text


def read_typed(
    source: TextSource, out: EventWriter, ends: tuple[str, ...], schema: Mapping[str, Any]
) -> Reading[str | None]:
    """Read a value up to one of the ends, and that too; returns it. A string is given out as it comes, else the whole
    value. One that is cut off stays so.
    """
    if is_text(schema):
        out.arguments('"')
        end = yield from until(source, ends, lambda text: out.arguments(json.dumps(text, ensure_ascii=False)[1:-1]))
        out.arguments('"' if end else "")
        return end
    parts: list[str] = []
    end = yield from until(source, ends, parts.append)
    out.arguments(typed_json("".join(parts), schema) if end else "")
    return end
