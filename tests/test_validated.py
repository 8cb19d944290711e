"""Classes whose fields are checked: by their types, limits and own checks, one by one and together."""

from typing import Annotated, Any, ClassVar, Literal

import pytest

from pagemill.errors import InvalidRequestError
from pagemill.validated import After, Before, Validated, ValidationError, field, fields


def _as_list(value: object, name: str) -> object:
    return [value] if isinstance(value, str) else value


def _even(value: int, name: str) -> int:
    if value % 2:
        raise InvalidRequestError(f"{name} must be even, got {value}", param=name)
    return value


class Base(Validated):
    kind: ClassVar[str] = "base"

    number: int = field(1, ge=1, le=9, description="a number")
    names: tuple[str, ...] = ()


class Whole(Base):
    text: str = field(min_length=1)
    choice: Literal["a", "b"] | None = None
    table: dict[str, float] | None = None
    lines: Annotated[list[str] | None, Before(_as_list)] = None
    even: Annotated[int, After(_even)] = 2
    inner: Base | None = None
    anything: Any = None

    def check_together(self) -> None:
        if self.choice == "b" and self.number > 5:
            raise InvalidRequestError("b needs a number up to 5", param="choice")


class Strict(Validated):
    strict_types = True
    unknown_fields = "allow"

    number: int | None = None


def wrong(body: str, cls: type[Validated] = Whole) -> tuple[str, tuple[int | str, ...]]:
    """The kind and place of the first error."""
    with pytest.raises(ValidationError) as raised:
        cls.from_json(body.encode())
    first = raised.value.errors(include_url=False)[0]
    return first["type"], first["loc"]


def test_fields_have_their_defaults_and_remember_which_were_given() -> None:
    made = Whole(text="x", number=1)
    assert (made.number, made.names, made.choice, made.even) == (1, (), None, 2)
    assert made.given_fields == {"text", "number"}


def test_a_body_is_read_with_all_that_is_inside() -> None:
    made = Whole.from_json(
        b'{"text": "x", "table": {"a": 1}, "lines": "one", "inner": {"number": 3, "names": ["n"]}, "anything": [1]}'
    )
    assert made == Whole(text="x", table={"a": 1.0}, lines=["one"], inner=Base(number=3, names=("n",)), anything=[1])


@pytest.mark.parametrize(
    ("body", "kind", "place"),
    [
        ("{}", "missing", ("text",)),
        ('{"text": ""}', "string_too_short", ("text",)),
        ('{"text": "x", "number": 10}', "less_than_equal", ("number",)),
        ('{"text": "x", "choice": "c"}', "literal_error", ("choice",)),
        ('{"text": "x", "inner": {"number": 0}}', "greater_than_equal", ("inner", "number")),
        ('{"text": "x", "table": {"a": NaN}}', "finite_number", ("table", "a")),
        ('{"text": "x", "other": 1}', "extra_forbidden", ("other",)),
        ('{"text": ', "json_invalid", ()),
    ],
)
def test_what_is_wrong_is_told_with_its_place(body: str, kind: str, place: tuple[str, ...]) -> None:
    assert wrong(body) == (kind, place)


def test_checks_are_told_the_name_of_their_field_and_raise_their_own_errors() -> None:
    with pytest.raises(InvalidRequestError, match="even must be even, got 3"):
        Whole(text="x", even=3)


def test_fields_are_checked_together_when_each_is_right() -> None:
    assert Whole(text="x", choice="b", number=5).choice == "b"
    with pytest.raises(InvalidRequestError, match="b needs a number up to 5"):
        Whole(text="x", choice="b", number=6)


def test_text_that_says_a_value_is_taken_unless_strict() -> None:
    assert Base.from_json(b'{"number": "4"}').number == 4
    assert wrong('{"number": "4"}', Strict) == ("int_type", ("number",))


def test_unknown_fields_are_kept_where_they_are_allowed() -> None:
    assert Strict.from_json(b'{"other": [1], "number": 2}').further_fields == {"other": [1]}


def test_what_was_made_is_frozen() -> None:
    made = Base()
    with pytest.raises(AttributeError, match="Base is frozen: can't set number"):
        made.number = 2  # type: ignore[misc]
    assert made.number == 1


def test_equal_values_are_equal_in_the_same_class_only() -> None:
    assert Base(number=2) == Base(number=2)
    assert Base(number=2) != Base(number=3)
    assert Strict(number=2) != Base(number=2)
    assert repr(Base(number=2)) == "Base(number=2, names=())"


def test_a_field_knows_what_was_declared_of_it() -> None:
    assert list(fields(Whole))[:3] == ["number", "names", "text"]
    assert fields(Whole)["number"].description == "a number"
    assert fields(Whole)["text"].default is ...


def test_a_type_that_is_not_known_is_refused() -> None:
    class Odd(Validated):
        value: bytes = b""

    with pytest.raises(TypeError, match="value: no fields of type <class 'bytes'>"):
        Odd()
