"""A model's chat template: messages in, prompt text out, by Hugging Face's conventions.

A `ChatTemplate` owns its compiled template, which is made at the first rendering (jinja2 is imported only then) and
never changes after. The text holds the model's special tokens, BOS included where the template has one: tokenize it
with `add_special=False, parse_special=True`. May not import a backend, HTTP or numpy.
"""

import copy
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from pagemill.errors import InvalidRequestError, ModelLoadError

if TYPE_CHECKING:
    from jinja2 import Template

    from pagemill.prompts.message_format import MessageFormat

CONTINUE_MARK = "\N{NULL}CONTINUE_FINAL_MESSAGE\N{NULL} "  # what no message and no template contains


class ChatTemplate:
    """One Jinja chat template with the tokens that it may name.

    Safe for use from several threads: compiling twice in a race gives two equal templates, of which one is kept.
    """

    def __init__(
        self,
        source: str,
        *,
        bos_token: str,
        eos_token: str,
        tool_call_parser: str = "auto",
        reasoning_parser: str = "auto",
    ) -> None:
        """The parsers are of the answers: "auto" has the template's source choose."""
        self.source = source
        self._parsers = (tool_call_parser, reasoning_parser)
        self._special_tokens = {"bos_token": bos_token, "eos_token": eos_token}
        self._template: Template | None = None

    @cached_property
    def message_format(self) -> "MessageFormat":
        """How the model writes tool calls and reasoning."""
        from pagemill.prompts.message_format import message_format

        return message_format(self.source, *self._parsers)

    def render(
        self,
        messages: Sequence[Mapping[str, object]],
        *,
        tools: Sequence[Mapping[str, object]] | None = None,
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
        **kwargs: object,
    ) -> str:
        """The prompt for these messages. `kwargs` (as `documents`, `enable_thinking`) become template variables.

        `continue_final_message` leaves the last message open, for the model to go on with it.

        Raises:
            InvalidRequestError: the template refuses the messages, or can't cope with them (param="messages").
            ModelLoadError: the template itself is not valid Jinja.
        """
        if continue_final_message:
            _require(not add_generation_prompt, "continue_final_message and add_generation_prompt exclude one another")
            messages = _mark_end(messages)
        variables: dict[str, object] = {"documents": None, **self._special_tokens, **kwargs}
        variables |= {"messages": messages, "tools": tools, "add_generation_prompt": add_generation_prompt}
        text = self._render(variables)
        return _cut_at_mark(text) if continue_final_message else text

    def _render(self, variables: Mapping[str, object]) -> str:
        template = self.compile()
        from pagemill.prompts.jinja_environment import RaisedByTemplateError

        try:
            return template.render(variables)
        except RaisedByTemplateError as error:
            raise InvalidRequestError(str(error), param="messages") from error
        except Exception as error:  # a template is a program: given odd messages, it can fail in any way
            reason = f"{type(error).__name__}: {error}"
            raise InvalidRequestError(
                f"the model's chat template can't render these messages: {reason}", param="messages"
            ) from error

    def compile(self) -> "Template":
        """Compile the template now rather than at the first rendering. Importing jinja2 takes tens of milliseconds,
        which a loader can spend in a thread beside the model's load.

        Raises:
            ModelLoadError: the template is not valid Jinja.
        """
        if self._template is None:
            from jinja2.exceptions import TemplateError

            from pagemill.prompts.jinja_environment import make_environment

            try:
                self._template = make_environment().from_string(self.source)
            except TemplateError as error:
                raise ModelLoadError(f"the chat template is not valid Jinja: {error}") from error
        return self._template


def _mark_end(messages: Sequence[Mapping[str, object]]) -> list[Mapping[str, object]]:
    """The messages with a mark at the end of the last one's text. The given ones stay as they are."""
    _require(len(messages) > 0, "continue_final_message needs a message to continue")
    last = dict(copy.deepcopy(messages[-1]))
    content = last.get("content")
    if isinstance(content, str):
        last["content"] = content + CONTINUE_MARK
    else:
        parts = content if isinstance(content, list) else []
        texts = [part for part in parts if isinstance(part, dict) and isinstance(part.get("text"), str)]
        _require(len(texts) > 0, "continue_final_message needs text in the last message")
        texts[-1]["text"] += CONTINUE_MARK
    return [*messages[:-1], last]


def _cut_at_mark(text: str) -> str:
    """What comes before the mark; trailing space goes too if the template trimmed that of the mark."""
    at = text.rfind(CONTINUE_MARK.strip())
    _require(at >= 0, "the model's chat template drops or changes the last message, so it can't be continued")
    return text[:at] if text.startswith(CONTINUE_MARK, at) else text[:at].rstrip()


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise InvalidRequestError(message, param="messages")
