"""Why a format can't be compiled: which of the request's fields is at fault, and where in a schema.

The library says what is wrong, but not where in a schema. So its subschemas are compiled alone, down to the innermost
one that fails for the same reason. Owns no state.
"""

import json
import re
import time
from collections.abc import Iterator
from typing import Any

from llguidance import LLMatcher, LLTokenizer

from pagemill.errors import InvalidRequestError, UnsupportedParameterError
from pagemill.prompts.structured_output.formats import Choice, Format, Grammar, JSONSchema, Regex, Source, sources
from pagemill.prompts.structured_output.lark import parse_schema, to_lark
from pagemill.prompts.structured_output.matcher import reworded, start

HOLDER = "/$defs/root"  # where the schema stands in one that refers to a part of it
SCHEMAS_BY_NAME = ("$defs", "definitions", "properties", "patternProperties")
SCHEMAS = ("items", "additionalProperties", "additionalItems")
SCHEMA_LISTS = ("allOf", "anyOf", "oneOf", "prefixItems", "items")
MAX_REASON = 400  # characters
MAX_PATTERN_PROPERTIES = 100  # of a schema in all: each pair is compared, 300 take half a minute
SEARCH_S = 1.0  # for the place where a schema is wrong


def explain(wanted: Format, problem: str, tokenizer: LLTokenizer) -> InvalidRequestError:
    """The error to raise. `problem` is what the library said of the whole."""
    for part in sources(wanted):
        found = _problem_of(part, tokenizer)
        if found is not None:
            place, reason = found
            where = f"{part.field} at {place}" if place else part.field
            kind = UnsupportedParameterError if "not supported" in reason else InvalidRequestError
            return kind(f"{where}: {reworded(reason[:MAX_REASON])}", param=part.field)
    field = next((part.field for part in sources(wanted)), None)
    return InvalidRequestError(f"{field}: {reworded(_first_line(problem))}", param=field)


def check_holdable(wanted: Format) -> None:
    """Raises UnsupportedParameterError for what the library would compile, but not hold."""
    for part in sources(wanted):
        if isinstance(part, JSONSchema):
            num_patterns = 0
            for place, schema in _all_schemas(parse_schema(part.source)):
                patterns = schema.get("patternProperties")
                num_patterns += len(patterns) if isinstance(patterns, dict) else 0
                reason = _unholdable(schema, num_patterns)
                if reason:
                    where = f"{part.field} at {place}" if place else part.field
                    raise UnsupportedParameterError(f"{where}: {reason}", param=part.field)


def _unholdable(schema: dict[str, Any], num_patterns: int) -> str | None:
    if "x-guidance" in schema:
        return "x-guidance is not supported"
    if num_patterns > MAX_PATTERN_PROPERTIES:
        return f"more than {MAX_PATTERN_PROPERTIES} patternProperties are not supported"
    least, required = schema.get("minProperties"), schema.get("required")
    num_required = len(required) if isinstance(required, list) else 0
    if isinstance(least, int) and least > num_required + 1:
        # Of members that the schema does not name, a grammar does not know which names came before.
        return f"minProperties {least} is not supported: at most one more than the {num_required} that are required"
    return None


def _problem_of(part: Source, tokenizer: LLTokenizer) -> tuple[str, str] | None:
    """The place in it ("" for all of it) and what is wrong there."""
    try:
        match part:
            case JSONSchema(source):
                return _locate(parse_schema(source), tokenizer)
            case Regex(source):
                problem = _validate(LLMatcher.grammar_from_regex(source), tokenizer)
                return ("", _without_context(problem)) if problem else None
            case Choice():
                return None
            case Grammar(source):
                problem = _validate(LLMatcher.grammar_from_lark(to_lark(source)), tokenizer)
                return ("", problem.strip()) if problem else None
    except ValueError as error:
        return "", str(error)


def _validate(grammar: str, tokenizer: LLTokenizer) -> str:
    """What is wrong, "" if nothing; without the address of the definition that the library was at."""
    return start(tokenizer, grammar).get_error().partition("\n  while processing ")[0]


def _locate(schema: Any, tokenizer: LLTokenizer) -> tuple[str, str] | None:
    if not isinstance(schema, dict):
        return None if schema is True else ("", f"a schema must be an object, got {json.dumps(schema)[:MAX_REASON]}")
    reason = _validate(LLMatcher.grammar_from_json_schema(schema), tokenizer)
    if not reason:
        return None
    place, holder = "", _hold(schema)
    subschemas = _subschemas(schema)
    ends_at = time.monotonic() + SEARCH_S
    while (inner := next(subschemas, None)) is not None and time.monotonic() < ends_at:
        pointer, subschema = inner
        alone = {**holder, "$ref": f"#{HOLDER}{place}{pointer}"}
        if _validate(LLMatcher.grammar_from_json_schema(alone), tokenizer).replace(HOLDER, "") == reason:
            place += pointer
            subschemas = _subschemas(subschema)
    return place, _reworded(reason)


def _hold(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema that has the given one as a definition; references inside it are turned to where it stands now."""
    text = json.dumps({key: value for key, value in schema.items() if key not in ("$id", "$schema")})
    held = json.loads(re.sub(r'("\$ref": "#)(?=[/"])', rf"\g<1>{HOLDER}", text))
    return {"$defs": {"root": held}} | ({"$schema": schema["$schema"]} if "$schema" in schema else {})


def _subschemas(schema: Any) -> Iterator[tuple[str, Any]]:
    """Those right inside, with their JSON pointers from there."""
    if not isinstance(schema, dict):
        return
    for keyword in SCHEMAS_BY_NAME:
        members = schema.get(keyword)
        for name, subschema in members.items() if isinstance(members, dict) else ():
            yield f"/{keyword}/{name.replace('~', '~0').replace('/', '~1')}", subschema
    for keyword in SCHEMA_LISTS:
        items = schema.get(keyword)
        for index, subschema in enumerate(items) if isinstance(items, list) else ():
            yield f"/{keyword}/{index}", subschema
    for keyword in SCHEMAS:
        if isinstance(schema.get(keyword), dict):
            yield f"/{keyword}", schema[keyword]


def _all_schemas(schema: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """The schema and all inside of it, with their places."""
    left = [("", schema)]
    while left:
        place, inner = left.pop()
        if isinstance(inner, dict):
            yield place, inner
        left += [(place + pointer, subschema) for pointer, subschema in _subschemas(inner)]


def _reworded(reason: str) -> str:
    if reason.startswith("oneOf constraints are not supported"):
        return "oneOf is not supported unless its schemas plainly exclude one another: use anyOf"
    found = re.fullmatch(r'Unimplemented keys: \["(.*)"\]', reason)
    if found is None:
        return reason
    names = found[1].split('", "')
    return f"{', '.join(names)} {'is' if len(names) == 1 else 'are'} not supported"


def _without_context(problem: str) -> str:
    """What is wrong with a pattern, without the grammar around it that the client never wrote."""
    lines = [line for line in problem.splitlines() if not re.match(r" +\d+ \|", line)]
    text = "\n".join(lines).strip().strip("^").strip()
    return re.sub(r"^at \d+\(\d+\): ", "", text)


def _first_line(problem: str) -> str:
    return problem.partition("\n")[0][:MAX_REASON]
