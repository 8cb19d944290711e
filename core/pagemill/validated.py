"""Frozen classes that check what they are made of: the bodies of requests, and the settings.

Owns no state. A class names its fields by annotations, and pydantic's core checks them. Its model classes are not used,
since they cost 50 ms of every start, a fifth of all: here is the small part of them that Pagemill needs, with the same
rules and the same errors. Its schemas are dictionaries, described in pydantic's documentation (`core_schema`). May
import nothing of Pagemill but `partial_import`.
"""

import json
from collections.abc import Callable, Mapping
from functools import cache, partial
from types import NoneType, UnionType
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    ClassVar,
    Literal,
    NamedTuple,
    Self,
    Union,
    dataclass_transform,
    get_args,
    get_origin,
    get_type_hints,
)

from pagemill.partial_import import import_without_package

if TYPE_CHECKING:
    from pydantic_core import SchemaValidator
    from pydantic_core import ValidationError as ValidationError
else:  # the package around it costs ten times as much: functions that build the dictionaries that are written here
    _core = import_without_package("pydantic_core._pydantic_core")
    SchemaValidator, ValidationError = _core.SchemaValidator, _core.ValidationError

Schema = Mapping[str, Any]  # pydantic's `CoreSchema`
Check = Callable[[Any, str], Any]  # (value, field name) -> value; raises what is wrong with it
SCALARS = {bool: "bool", int: "int", float: "float", str: "str"}


class Before(NamedTuple):
    """In `Annotated`: a check that sees a field's value before its type is checked. It may return another value.
    `accepts` is a JSON schema of what passes, where the type does not tell.
    """

    check: Check
    accepts: Schema | None = None


class After(NamedTuple):
    """In `Annotated`: a check of a value whose type is right. It may return another value. `accepts` as of `Before`."""

    check: Check
    accepts: Schema | None = None


class Field(NamedTuple):
    """What is known of a field. A required one has `...` for a default."""

    default: Any
    description: str = ""
    limits: Mapping[str, float] = {}  # of its scalar, in pydantic's words: ge, gt, le, min_length
    annotation: Any = None


def field(default: Any = ..., *, description: str = "", **limits: float) -> Any:
    """Declares a field that has more than a type and a default."""
    return Field(default, description, limits)


@dataclass_transform(kw_only_default=True, frozen_default=True)
class Validated:
    """Base of such classes. Defaults are immutable values; they are not checked.

    Raises:
        ValidationError: from the constructor and `from_json`; and whatever the checks raise that is no
            ValueError comes out as it is.
    """

    __slots__ = ("__dict__", "__pydantic_extra__", "__pydantic_fields_set__", "__pydantic_private__")

    strict_types: ClassVar[bool] = False  # whether a value must have its type, or may be text that says it
    unknown_fields: ClassVar[Literal["forbid", "allow"]] = "forbid"

    def __init__(self, /, **values: Any) -> None:
        _validator(type(self)).validate_python(values, self_instance=self)  # type: ignore[arg-type]  # as in `_class_schema`

    @classmethod
    def from_json(cls, body: bytes) -> Self:
        """One from the text of a JSON object."""
        made = _validator(cls).validate_json(body)  # type: ignore[arg-type]  # as in `_class_schema`
        assert isinstance(made, cls)
        return made

    def check_together(self) -> None:
        """What concerns several fields; called when each of them is right."""

    def with_changes(self, **values: Any) -> Self:
        """Another, with these values in place of its own."""
        return type(self)(**{name: getattr(self, name) for name in self.given_fields} | values)

    @property
    def given_fields(self) -> set[str]:
        """The names of the fields that were given a value, if only the default."""
        given: set[str] = self.__pydantic_fields_set__  # type: ignore[attr-defined]  # a slot that pydantic fills
        return given

    @property
    def further_fields(self) -> Mapping[str, Any]:
        """The unknown fields, where they are allowed."""
        return self.__pydantic_extra__ or {}  # type: ignore[attr-defined]  # likewise

    def _checked(self, context: object) -> None:
        self.check_together()

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} is frozen: can't set {name}")

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and vars(self) == vars(other)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in vars(self).items())})"


@cache
def fields(cls: type[Validated]) -> Mapping[str, Field]:
    """The fields of a class, those of its bases first."""
    found = {}
    for name, annotation in get_type_hints(cls, include_extras=True).items():
        if get_origin(annotation) is not ClassVar:
            declared = getattr(cls, name, ...)
            known = declared if isinstance(declared, Field) else Field(declared)
            found[name] = known._replace(annotation=annotation)
    return found


@cache
def _validator(cls: type[Validated]) -> SchemaValidator:
    return SchemaValidator(_class_schema(cls))


def _class_schema(cls: type[Validated]) -> Schema:
    known = fields(cls)  # type: ignore[arg-type]  # mypy takes the hash of a class for that of its instances
    config = {"title": cls.__name__, "strict": cls.strict_types, "extra_fields_behavior": cls.unknown_fields}
    members = {name: {"type": "model-field", "schema": _field_schema(name, item)} for name, item in known.items()}
    return {
        "type": "model",
        "cls": cls,
        "schema": {"type": "model-fields", "fields": members, **_extras(cls)},
        "post_init": "_checked",
        "config": {**config, "allow_inf_nan": False},
    }


def _extras(cls: type[Validated]) -> Schema:
    return {"extras_schema": ANY} if cls.unknown_fields == "allow" else {}


def _field_schema(name: str, item: Field) -> Schema:
    schema = _schema(item.annotation, name, item.limits)
    return schema if item.default is ... else {"type": "default", "schema": schema, "default": item.default}


def _schema(annotation: Any, name: str, limits: Mapping[str, float]) -> Schema:
    """Of the types that fields have. `name` is the field's; the limits are those of the scalar inside."""
    of = partial(_schema, name=name, limits=limits)
    parts = get_args(annotation)
    match get_origin(annotation) or annotation:
        case scalar if scalar in SCALARS:
            return {"type": SCALARS[scalar], **limits}
        case other if other is Any:
            return ANY
        case other if other is Annotated:
            return _checked_schema(of(parts[0]), name, parts[1:])
        case other if other in (Union, UnionType):
            choices = [of(part) for part in parts if part is not NoneType]
            schema = choices[0] if len(choices) == 1 else {"type": "union", "choices": choices}
            return {"type": "nullable", "schema": schema} if NoneType in parts else schema
        case other if other is Literal:
            return {"type": "literal", "expected": list(parts)}
        case other if other is list:
            return {"type": "list", "items_schema": of(parts[0])}
        case other if other is tuple:  # tuple[part, ...]
            return {"type": "tuple", "items_schema": [of(parts[0])], "variadic_item_index": 0}
        case other if other is dict:
            return {"type": "dict", "keys_schema": of(parts[0]), "values_schema": of(parts[1])}
        case cls if issubclass(cls, Validated):
            return _class_schema(cls)
    raise TypeError(f"{name}: no fields of type {annotation}")


def _checked_schema(schema: Schema, name: str, checks: tuple[Any, ...]) -> Schema:
    for item in checks:
        kind = "function-before" if isinstance(item, Before) else "function-after"
        check = {"type": "no-info", "function": partial(_call, item.check, name)}
        schema = {"type": kind, "function": check, "schema": schema}
    return schema


def _json_value(value: Any) -> Any:
    """The value. pydantic's parser takes numbers that JSON does not have; those of fields with a type it refuses."""
    if isinstance(value, float | list | dict):
        try:
            json.dumps(value, allow_nan=False)
        except ValueError:
            raise ValueError("NaN, Infinity and numbers that are too large are not JSON") from None
    return value


ANY: Schema = {
    "type": "function-after",
    "function": {"type": "no-info", "function": _json_value},
    "schema": {"type": "any"},
}


def _call(check: Check, name: str, value: Any) -> Any:
    return check(value, name)
