"""The public JSON-Schema-Test-Suite: schemas, each with values that are valid for it and values that are not.

`json_schema_test_suite/draft2020-12.jsonl` has the cases of its tests/draft2020-12 (with optional/, without
optional/format/), a group a line, as they come in the sdist of jsonschema 4.26.0 under json/. The licence is beside it.
"""

import json
import re
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

from jsonschema import Draft202012Validator, ValidationError
from jsonschema.protocols import Validator
from jsonschema.validators import extend

from pagemill.errors import InvalidRequestError
from pagemill.prompts.structured_output.compiler import GrammarCompiler
from pagemill.prompts.structured_output.formats import JSONSchema
from pagemill.prompts.structured_output.matcher import CompiledGrammar

PATH = Path(__file__).parent / "json_schema_test_suite" / "draft2020-12.jsonl"
DIGITS_OF_FLOAT = 15
# Their patterns have \p{digit}, which Python's re, and so jsonschema, does not know.
UNCHECKABLE = ("pattern with non-ASCII digits", "patternProperties with non-ASCII digits")


def _pattern(validator: Validator, pattern: str, value: object, schema: object) -> Iterator[ValidationError]:
    r"""As ECMAScript has it: \w and \d are ASCII, \s is not. Python has either; no pattern of the suite has both."""
    if isinstance(value, str) and not any(re.search(pattern, value, flags) for flags in (re.UNICODE, re.ASCII)):
        yield ValidationError(f"{value!r} does not match {pattern!r}")


def _multiple_of(validator: Validator, divisor: float, value: object, schema: object) -> Iterator[ValidationError]:
    """In decimals, as JSON writes numbers: 0.58 is a multiple of 0.01, though in binary it is none. A number of more
    digits than a float has is not known well enough to say.
    """
    if not isinstance(value, int | float) or isinstance(value, bool):
        return
    exact = Decimal(repr(value))
    if len(exact.as_tuple().digits) <= DIGITS_OF_FLOAT and exact % Decimal(repr(divisor)):
        yield ValidationError(f"{value!r} is not a multiple of {divisor!r}")


SuiteValidator = extend(Draft202012Validator, {"pattern": _pattern, "multipleOf": _multiple_of})  # type: ignore[no-untyped-call]


class Group(NamedTuple):
    """One schema of the suite."""

    name: str
    schema: Any
    valid: list[Any]
    invalid: list[Any]

    def is_valid(self, value: Any) -> bool:
        return bool(SuiteValidator(self.schema).is_valid(value))


def groups() -> Iterator[Group]:
    """All of the suite whose schemas are objects: true and false are no formats."""
    with PATH.open(encoding="utf-8") as lines:
        for line in lines:
            item = json.loads(line)
            if isinstance(item["schema"], dict) and item["description"] not in UNCHECKABLE:
                data: dict[bool, list[Any]] = {True: [], False: []}
                for case in item["tests"]:
                    data[case["valid"]].append(case["data"])
                yield Group(f"{item['file']}: {item['description']}", item["schema"], data[True], data[False])


def supported(compiler: GrammarCompiler) -> Iterator[tuple[Group, CompiledGrammar]]:
    """The groups whose schemas can be held to, compiled."""
    for group in groups():
        try:
            yield group, compiler.compile(JSONSchema.of(group.schema, "schema"))
        except InvalidRequestError:
            continue
