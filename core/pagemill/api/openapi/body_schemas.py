"""JSON schemas of the classes that check bodies, read from their fields. Owns the schemas that it has made."""

from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pagemill.api.documentation import NULL, Schema, ref
from pagemill.validated import After, Before, Field, Validated, fields

SCALARS = {bool: "boolean", int: "integer", float: "number", str: "string"}
LIMITS = {
    "ge": "minimum",
    "gt": "exclusiveMinimum",
    "le": "maximum",
    "lt": "exclusiveMaximum",
    "min_length": "minLength",
}
ROOM = "pagemill.api."


class BodySchemas:
    """Makes schemas, and keeps those of classes by name."""

    def __init__(self) -> None:
        self.named: dict[str, Schema] = {}
        self._classes: dict[str, type[Validated]] = {}

    def of_body(self, cls: type[Validated]) -> Schema:
        """Of a whole body. Fields that it does not know may be null: that asks for nothing."""
        return self._refer(cls, NULL)

    def _refer(self, cls: type[Validated], unknown: Schema | bool) -> Schema:
        name = f"{cls.__module__.removeprefix(ROOM).partition('.')[0]}.{cls.__name__}"
        known = self._classes.setdefault(name, cls)
        assert known is cls, f"{known} and {cls} would have the same name in the OpenAPI document"
        if name not in self.named:
            self.named[name] = {}  # a class may hold others of its own
            self.named[name] = self._of_class(cls, unknown)
        return ref(name)

    def _of_class(self, cls: type[Validated], unknown: Schema | bool) -> Schema:
        known = fields(cls)  # type: ignore[arg-type]  # mypy takes the hash of a class for that of its instances
        unnamed = getattr(cls, "unnamed", {})
        takes_any = cls.unknown_fields == "allow" and not unnamed
        return {
            "type": "object",
            "description": cls.__doc__ or "",
            "properties": {**{name: self._of_field(item) for name, item in known.items()}, **unnamed},
            "required": [name for name, item in known.items() if item.default is ...],
            "additionalProperties": True if takes_any else unknown,
        }

    def _of_field(self, item: Field) -> Schema:
        told: dict[str, Any] = {"description": item.description} if item.description else {}
        if item.default is not ... and item.default is not None:
            told["default"] = item.default
        return {**self._of_type(item.annotation, item.limits), **told}

    def _of_type(self, annotation: Any, limits: Mapping[str, float]) -> Schema:
        """Of the types that fields have, as `validated` knows them. The limits are those of the scalar inside."""
        parts = get_args(annotation)
        match get_origin(annotation) or annotation:
            case scalar if scalar in SCALARS:
                return {"type": SCALARS[scalar], **{LIMITS[name]: limit for name, limit in limits.items()}}
            case other if other is Any:
                return {}
            case other if other is NoneType:
                return NULL
            case other if other is Annotated:
                return _accepted(parts[1:]) or self._of_type(parts[0], limits)
            case other if other in (Union, UnionType):
                return {"anyOf": [self._of_type(part, limits) for part in parts]}
            case other if other is Literal:
                return {"enum": list(parts)}
            case other if other in (list, tuple):
                return {"type": "array", "items": self._of_type(parts[0], limits)}
            case other if other is dict:
                return {"type": "object", "additionalProperties": self._of_type(parts[1], limits)}
            case cls if issubclass(cls, Validated):
                return self._refer(cls, False)
        raise TypeError(f"no schema of {annotation}")


def _accepted(checks: tuple[Any, ...]) -> Schema | None:
    """What the first check says that passes it, if one does."""
    said = (check.accepts for check in checks if isinstance(check, Before | After))
    return next((schema for schema in said if schema is not None), None)
