"""How the answer to a chat's prompt is held to what the request asks for, and how it is read. For all dialects.

Owns no state. What holds it is compiled off the event loop, and imported when a request first asks for it.
"""

from typing import TYPE_CHECKING, NamedTuple

from pagemill.api.answer_reader import AnswerReader
from pagemill.api.structured_output import compiled
from pagemill.api.tools import ToolUse
from pagemill.generation import TokenConstraint
from pagemill.prompts.message_format import MessageFormat

if TYPE_CHECKING:
    from pagemill.pool import LoadedModel
    from pagemill.prompts.structured_output.formats import Format


class AnswerPlan(NamedTuple):
    """What a generation request and its readers are made from. `prompt` is the text; it has `continued` a message."""

    message_format: MessageFormat
    tools: ToolUse
    prompt: str
    continued: str
    constraint: TokenConstraint | None
    shown_special_tokens: frozenset[int]

    def reader(self, *, shows_reasoning: bool = True) -> AnswerReader:
        """A new reader of one choice."""
        schemas = self.tools.schemas if self.tools.tools else None
        parser = self.message_format.parser(schemas, prompt=self.prompt, continued=self.continued)
        return AnswerReader(
            parser,
            max_calls=self.tools.max_calls,
            demands_calls=self.tools.forced,
            shows_reasoning=shows_reasoning,
        )


async def plan_answer(
    model: "LoadedModel", content: "Format | None", tools: ToolUse, *, prompt: str, continued: str = ""
) -> AnswerPlan:
    """The plan of an answer whose content is to look like `content`, and which may or must call tools.

    Raises:
        InvalidRequestError: a schema, pattern or grammar is wrong; names the field, and in a schema the place.
    """
    template = model.chat_template
    assert template is not None, "the prompt was rendered"
    message_format = template.message_format
    if tools.forced or (content is not None and tools.tools):  # then all of the answer is held to a format
        message_format = message_format.of_held_calls
    wanted = _answer_format(message_format, content, tools, prompt=prompt, continued=continued)
    shown = model.marker_ids(message_format if tools.tools else message_format._replace(tools=None))
    return AnswerPlan(message_format, tools, prompt, continued, await compiled(model, wanted), shown)


def _answer_format(
    message_format: MessageFormat, content: "Format | None", tools: ToolUse, *, prompt: str, continued: str
) -> "Format | None":
    strict = any(tool.strict for tool in tools.tools)
    if content is None and not tools.forced and not strict:
        return None
    from pagemill.prompts.structured_output.answers import within_answer
    from pagemill.prompts.structured_output.tool_calls import (
        arguments_schema,
        call_or_content,
        calls_only,
        text_or_calls,
    )

    named = [
        (tool.name, arguments_schema(tool.parameters if tool.strict or tools.forced else None, tool.schema_field))
        for tool in tools.callable
    ]
    calls: Format | None = None
    if tools.forced:
        content, calls = None, calls_only(message_format, named, maximum=tools.max_calls)
    elif content is not None and named:
        calls = call_or_content(message_format, named, maximum=tools.max_calls)
    elif strict:
        calls = text_or_calls(message_format, named, maximum=tools.max_calls)
    if content is None and calls is None:
        return None
    return within_answer(message_format, content, calls, prompt=prompt, continued=continued)
