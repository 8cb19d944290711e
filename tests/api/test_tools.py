"""The tools of a request: what is taken, and what is refused by the place where it is wrong."""

from typing import Any

import pytest

from pagemill.api.tools import Tool, ToolUse, read_tool_use, read_tools
from pagemill.errors import InvalidRequestError, UnsupportedParameterError


def function(name: Any = "f", **fields: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, **fields}}


TOOLS = read_tools([function("f"), function("g")], 10)


def test_tools_are_kept_as_the_client_wrote_them() -> None:
    given = function("f", description="Does f", strict=True, parameters={"type": "object", "properties": {}}, more=1)
    path = "tools[0].function"
    wanted = Tool("f", {"type": "object", "properties": {}}, True, given, path, f"{path}.parameters")
    assert read_tools([given], 1) == (wanted,)
    assert read_tools([{"function": {"name": "f"}}], 1)[0].parameters == {}
    assert read_tools([function("a.b/c:d-e_F9", parameters=None, description=None, strict=None)], 1)
    assert read_tools(None, 1) == read_tools([], 1) == ()


@pytest.mark.parametrize(
    ("tools", "param"),
    [
        (["x"], "tools[0]"),
        ([function(), {"type": "function"}], "tools[1].function"),
        ([{"type": "custom", "custom": {"name": "f"}}], "tools[0].type"),
        ([{"type": "web_search"}], "tools[0].type"),
        ([function(None)], "tools[0].function.name"),
        ([function("")], "tools[0].function.name"),
        ([function("a b")], "tools[0].function.name"),
        ([function("f\n")], "tools[0].function.name"),
        ([function("x" * 129)], "tools[0].function.name"),
        ([function("f"), function("g"), function("f")], "tools[2].function.name"),
        ([function(description=5)], "tools[0].function.description"),
        ([function(strict="yes")], "tools[0].function.strict"),
        ([function(parameters="x")], "tools[0].function.parameters"),
        ([function(parameters=[])], "tools[0].function.parameters"),
        ([function(parameters={"type": "array"})], "tools[0].function.parameters.type"),
        ([function(parameters={"properties": []})], "tools[0].function.parameters.properties"),
        ([function(f"f{i}") for i in range(6)], "tools"),
    ],
)
def test_a_wrong_tool_is_refused_by_its_place(tools: list[Any], param: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        read_tools(tools, 5)
    assert caught.value.param == param
    assert param in caught.value.message


def test_a_tool_of_another_kind_is_not_supported() -> None:
    with pytest.raises(UnsupportedParameterError, match="web_search"):
        read_tools([{"type": "web_search"}], 5)


@pytest.mark.parametrize(
    ("choice", "parallel", "use"),
    [
        (None, None, ToolUse(TOOLS, "auto")),
        ("auto", True, ToolUse(TOOLS, "auto")),
        ("auto", False, ToolUse(TOOLS, "auto", parallel=False)),
        ("required", None, ToolUse(TOOLS, "required")),
        ("none", None, ToolUse()),
        ({"type": "function", "function": {"name": "g"}}, None, ToolUse(TOOLS, "g", is_named=True, parallel=False)),
    ],
)
def test_choices_say_what_may_be_called(choice: Any, parallel: bool | None, use: ToolUse) -> None:
    found = read_tool_use(TOOLS, choice, parallel)
    assert found == use
    assert found.forced is (choice not in (None, "auto", "none"))
    assert [tool.name for tool in found.callable] == (["g"] if use.is_named else [tool.name for tool in use.tools])


@pytest.mark.parametrize(
    "choice",
    [
        "any",
        "f",
        5,
        {},
        {"type": "function"},
        {"type": "function", "function": {}},
        {"type": "function", "function": {"name": "h"}},
        {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": []}},
    ],
)
def test_another_choice_is_refused(choice: Any) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        read_tool_use(TOOLS, choice, None)
    assert caught.value.param == "tool_choice"


@pytest.mark.parametrize("choice", ["auto", "required", {"type": "function", "function": {"name": "f"}}])
def test_a_choice_needs_tools(choice: Any) -> None:
    with pytest.raises(InvalidRequestError, match="needs tools"):
        read_tool_use((), choice, None)
    assert read_tool_use((), None, None) == read_tool_use((), "none", None) == ToolUse()


def test_a_tool_may_be_named_as_a_choice_is() -> None:
    tools = read_tools([function("auto"), function("required")], 5)
    use = read_tool_use(tools, {"type": "function", "function": {"name": "auto"}}, None)
    assert (use.forced, [tool.name for tool in use.callable]) == (True, ["auto"])
