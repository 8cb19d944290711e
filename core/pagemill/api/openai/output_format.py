"""The fields of a completion that say what its output has to look like: OpenAI's `response_format`, vLLM's
`structured_outputs` and its older `guided_...` fields. Owns no state; imports the formats when one is asked for.
"""

from typing import TYPE_CHECKING, Any

from pagemill.api.wire import WireModel, shown
from pagemill.errors import InvalidRequestError, UnsupportedParameterError

if TYPE_CHECKING:
    from pagemill.prompts.structured_output.formats import JSONSchema, Source


class NamedSchema(WireModel):
    """`response_format.json_schema`. With `strict` or without, the schema is held to."""

    name: str
    schema: Any
    strict: bool | None = None
    description: str | None = None


class ResponseFormat(WireModel):
    """`response_format`."""

    type: str
    json_schema: NamedSchema | None = None

    def format(self) -> "Source | None":
        """None for text. Raises InvalidRequestError: names what is wrong."""
        if self.type == "text":
            return None
        if self.type == "json_object":
            return json_object("response_format")
        if self.type != "json_schema":
            raise UnsupportedParameterError(
                f"response_format.type must be text, json_object or json_schema, got {shown(self.type)}",
                param="response_format.type",
            )
        if self.json_schema is None:
            raise InvalidRequestError("response_format.json_schema is required", param="response_format.json_schema")
        return json_schema(self.json_schema.schema, "response_format.json_schema.schema")


class StructuredOutputs(WireModel):
    """vLLM's `structured_outputs`: one of these kinds."""

    json: Any = None  # a schema, or its text
    regex: str | None = None
    choice: list[str] | None = None
    grammar: str | None = None
    json_object: bool | None = None
    disable_any_whitespace: bool | None = None

    def formats(self, field: str) -> "list[Source]":
        """All that are given; `field` is what stands before their names in errors."""
        from pagemill.prompts.structured_output.formats import Choice, Grammar, Regex

        compact = bool(self.disable_any_whitespace)
        found: list[Source] = []
        if self.json is not None:
            found.append(json_schema(self.json, f"{field}json", compact=compact))
        if self.regex is not None:
            found.append(Regex(self.regex, f"{field}regex"))
        if self.choice is not None:
            found.append(Choice(tuple(_options(self.choice, f"{field}choice")), f"{field}choice"))
        if self.grammar is not None:
            found.append(Grammar(self.grammar, f"{field}grammar"))
        if self.json_object:
            found.append(json_object(f"{field}json_object", compact=compact))
        return found


def json_object(field: str, *, compact: bool = False) -> "JSONSchema":
    """Any JSON object."""
    from pagemill.prompts.structured_output.formats import JSON_OBJECT, JSONSchema

    return JSONSchema(JSON_OBJECT, field, compact)


def json_schema(schema: Any, field: str, *, compact: bool = False) -> "JSONSchema":
    """What the schema, or its text, allows. Raises InvalidRequestError: it is neither."""
    from pagemill.prompts.structured_output.formats import JSONSchema

    if isinstance(schema, str):
        return JSONSchema(schema, field, compact)
    if not isinstance(schema, dict):
        raise InvalidRequestError(f"{field} must be a JSON schema, got {shown(schema)}", param=field)
    return JSONSchema.of(schema, field, compact=compact)


def _options(options: list[str], field: str) -> list[str]:
    if not options:
        raise InvalidRequestError(f"{field} must have at least one option", param=field)
    for index, option in enumerate(options):
        if not option:
            raise InvalidRequestError(f"{field}[{index}] must not be empty", param=field)
    return options
