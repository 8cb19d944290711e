"""Tool calls as models write them: one module for each format, all with the same face.

A module's `read(source, out, tools)` is a reader (`text_source`) of an answer's text: it writes content and tool calls.
What begins like a call and turns out to be none is content. `tools` are the parameters' JSON schemas by tool name.
"""

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from pagemill.prompts.message_events import EventWriter
    from pagemill.prompts.text_source import Reading, TextSource

ToolSchemas = Mapping[str, Mapping[str, Any]]

# Names are those of vLLM's --tool-call-parser, as far as it has them.
TOOL_FORMATS = {
    "hermes": "hermes",
    "llama3_json": "llama3_json",
    "granite": "granite",
    "phi4_mini_json": "granite",
    "llama4_pythonic": "pythonic",
    "mistral": "mistral",
    "qwen3_coder": "qwen3_coder",
    "seed_oss": "qwen3_coder",
    "glm45": "glm45",
    "pythonic": "pythonic",
    "deepseek_v3": "deepseek",
    "deepseek_v31": "deepseek",
    "deepseek_v32": "invoke",
    "deepseek_v4": "invoke",
    "kimi_k2": "kimi_k2",
    "minimax": "minimax_m1",
    "jamba": "minimax_m1",
    "minimax_m2": "invoke",
    "nemotron_json": "nemotron_json",
    "cohere_command3": "cohere",
    "cohere_command4": "cohere",
    "qwen3_xml": "qwen3_coder",
    "glm47": "glm45",
    "granite4": "hermes",
}
# Where arguments are no JSON they can't be held to a schema: then calls are written in another way.
HELD_FORMATS = {
    "qwen3_coder": "hermes",
    "seed_oss": "hermes",
    "glm45": "hermes",
    "qwen3_xml": "hermes",
    "glm47": "hermes",
    "minimax_m2": "hermes",
    "deepseek_v32": "hermes",
    "deepseek_v4": "hermes",
    "pythonic": "llama3_json",
    "llama4_pythonic": "llama3_json",
}
ID_CHARACTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"


class CallSyntax(NamedTuple):
    """How a model writes calls with arguments in JSON, for holding it to them. `{name}` stands for the tool's name,
    `{index}` for a number by which the model counts.
    """

    before: str  # a call's arguments
    after: str
    between: str = ""  # two calls
    begin: str = ""  # all of them
    end: str = ""


class ReadTools(Protocol):
    """What a format's module gives."""

    def __call__(self, source: "TextSource", out: "EventWriter", tools: ToolSchemas) -> "Reading[None]": ...


class ToolFormat(Protocol):
    """What a module of this package is. Where `MARKERS` are special tokens of the model, they must not be skipped.
    Models of the format write calls in one of the `SYNTAXES`; all begin with `TRIGGER`, if there is one.
    """

    MARKERS: tuple[str, ...]
    SYNTAXES: tuple[CallSyntax, ...]
    TRIGGER: str
    read: ReadTools


def tool_format(name: str) -> ToolFormat:
    """The module that reads the format, imported when it is first needed."""
    module: Any = importlib.import_module(f"{__name__}.{TOOL_FORMATS[name]}")
    found: ToolFormat = module
    return found


def new_call_id(prefix: str = "call_") -> str:
    """Names one call: nine letters and digits after the prefix."""
    import secrets

    return prefix + "".join(secrets.choice(ID_CHARACTERS) for _ in range(9))
