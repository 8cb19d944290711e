"""The format of an answer that calls tools, with their parameters' schemas inside. Owns no state."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pagemill.prompts.message_format import MessageFormat
from pagemill.prompts.structured_output.formats import (
    JSON_OBJECT,
    AnyText,
    Concat,
    Format,
    JSONSchema,
    OneOf,
    Regex,
    Repeat,
    Text,
    Until,
)
from pagemill.prompts.tools import CallSyntax, tool_format

ELSEWHERE = ("allOf", "anyOf", "oneOf", "$ref", "if", "not", "patternProperties")  # may say more of the properties
INDEX = Regex("[0-9]{1,3}", "tools")  # of a call
NamedSchema = tuple[str, JSONSchema]  # a tool's name, and what its arguments look like


def arguments_schema(parameters: Mapping[str, Any] | None, field: str) -> JSONSchema:
    """What the arguments of a tool look like: an object, with no other members than the schema names. None: any."""
    if parameters is None:
        return JSONSchema(JSON_OBJECT, field)
    closed = {} if any(key in parameters for key in ELSEWHERE) else {"additionalProperties": False}
    return JSONSchema.of({"type": "object", **closed, **parameters}, field)


def calls_only(message_format: MessageFormat, tools: Sequence[NamedSchema], *, maximum: int | None) -> Format:
    """Nothing but calls, at least one of them, in the model's own notation."""
    if message_format.is_harmony:
        heads = "<|channel|>commentary to=functions.{name} <|constrain|>json<|message|>"
        return _one_of([Concat((Text(heads.replace("{name}", name)), schema)) for name, schema in tools])
    assert message_format.tools is not None, "only models that call tools are held to calls"
    syntaxes = tool_format(message_format.tools).SYNTAXES
    return _one_of([_calls(syntax, tools, maximum, "") for syntax in syntaxes])


def call_or_content(message_format: MessageFormat, tools: Sequence[NamedSchema], *, maximum: int | None) -> Format:
    """Calls that may stand beside a format of the content. Where nothing marks them, and the content may be JSON, too,
    a call is a JSON value like that: one notation can't be told from the other character by character.
    """
    if message_format.is_harmony or message_format.tools is None or tool_format(message_format.tools).TRIGGER:
        return calls_only(message_format, tools, maximum=maximum)
    return _one_of([_call_object(name, schema) for name, schema in tools])


def _call_object(name: str, schema: JSONSchema) -> JSONSchema:
    parameters = json.loads(schema.source)
    shared = {
        key: parameters.pop(key) for key in ("$defs", "definitions") if key in parameters
    }  # their refs are absolute
    members = {"name": {"const": name}, "parameters": parameters}
    call = {"type": "object", "properties": members, "required": list(members), "additionalProperties": False}
    return JSONSchema.of({**call, **shared}, schema.field)


def text_or_calls(message_format: MessageFormat, tools: Sequence[NamedSchema], *, maximum: int | None) -> Format | None:
    """Free text, and if the model begins a call, then one that its schema allows. None: the notation has no text by
    which a call's beginning is known.
    """
    if message_format.is_harmony or message_format.tools is None:
        return None
    written = tool_format(message_format.tools)
    if not written.TRIGGER:
        return None
    calls = _one_of([_calls(syntax, tools, maximum, written.TRIGGER) for syntax in written.SYNTAXES])
    return OneOf((AnyText(without=written.TRIGGER), Concat((Until((written.TRIGGER,)), calls))))


def _calls(syntax: CallSyntax, tools: Sequence[NamedSchema], maximum: int | None, read: str) -> Format:
    """The calls after `read`, which is there already."""
    first = _one_of([_call(syntax, tool, syntax.begin, read) for tool in tools])
    if maximum == 1:
        return Concat((first, Text(syntax.end)))
    further = Concat((Text(syntax.between), _one_of([_call(syntax, tool) for tool in tools])))
    more = Repeat(further, maximum=None if maximum is None else maximum - 1)
    return Concat((first, more, Text(syntax.end)))


def _call(syntax: CallSyntax, tool: NamedSchema, begin: str = "", read: str = "") -> Format:
    name, schema = tool
    before = (begin + syntax.before.replace("{name}", name)).removeprefix(read)
    head, *numbered = before.split("{index}")
    counted = [part for text in numbered for part in (INDEX, Text(text))]
    return Concat((Text(head), *counted, schema, Text(syntax.after)))


def _one_of(parts: list[Format]) -> Format:
    return parts[0] if len(parts) == 1 else OneOf(tuple(parts))
