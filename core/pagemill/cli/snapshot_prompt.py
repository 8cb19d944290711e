"""The prefix that a snapshot is made of: from a file to the tokens that all prompts with it begin with. Owns no state.

Where a prefix ends and a prompt goes on, a tokenizer may join the two, and a chat template has its own words. So
several continuations are tried, and what their tokens have in common is the prefix.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pagemill.api.openai.messages import Message, template_messages
from pagemill.backends.base import Tokenizer
from pagemill.cli.failure import CommandError
from pagemill.engine.common_prefix import common_prefix_length
from pagemill.prompts.chat_template import ChatTemplate
from pagemill.validated import ValidationError

# They begin with all kinds of characters, so that no token reaches from the prefix into all of them.
CONTINUATIONS = ("a", "Z", "1", " a", "\n\na", ".", "(", "é", "世", "\N{GRINNING FACE}")
CHAT_FIELDS = ("messages", "tools", "chat_template_kwargs")
ANSWERED_ROLES = ("user", "tool")  # after them comes the assistant, after all others the user


class TextPrompt(NamedTuple):
    """A prefix of raw prompts, as of the completions API."""

    text: str

    def token_ids(self, tokenizer: Tokenizer, template: ChatTemplate | None) -> tuple[int, ...]:
        """What all prompts that begin with this text begin with."""
        return _shared(tokenizer, [self.text + more for more in CONTINUATIONS], add_special=True)


class ChatPrompt(NamedTuple):
    """The messages, and tools, with which chats begin."""

    messages: list[dict[str, object]]
    tools: list[dict[str, Any]] | None
    template_kwargs: Mapping[str, Any]

    def token_ids(self, tokenizer: Tokenizer, template: ChatTemplate | None) -> tuple[int, ...]:
        """What all chats that begin with these messages begin with.

        Raises:
            CommandError: the model has no chat template.
            InvalidRequestError: the template refuses the messages.
        """
        if template is None:
            raise CommandError("the model has no chat template: give the prefix as text, or set --chat-template")
        role = "assistant" if self.messages[-1]["role"] in ANSWERED_ROLES else "user"
        texts = [
            template.render(
                [*self.messages, {"role": role, "content": more}],
                tools=self.tools,
                add_generation_prompt=role == "user",
                **self.template_kwargs,
            )
            for more in CONTINUATIONS
        ]
        return _shared(tokenizer, texts, add_special=False)


def read_prompt(path: Path) -> TextPrompt | ChatPrompt:
    """A chat if the file's name ends in .json, else its text as it is.

    Raises:
        CommandError: it can't be read, or is no such JSON; names the file and the field.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise CommandError(f"can't read the prompt {path}: {reason}") from error
    if path.suffix != ".json":
        return TextPrompt(text)
    try:
        chat = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CommandError(f"the prompt {path} is not valid JSON: {error}") from error
    return _chat(path, chat)


def _chat(path: Path, chat: object) -> ChatPrompt:
    if not isinstance(chat, dict) or not isinstance(chat.get("messages"), list) or not chat["messages"]:
        raise CommandError(f"the prompt {path} must be an object with a list of messages")
    for name in chat:
        if name not in CHAT_FIELDS:
            raise CommandError(f"the prompt {path} has a field {name!r}: only {', '.join(CHAT_FIELDS)} shape a prefix")
    tools, template_kwargs = chat.get("tools"), chat.get("chat_template_kwargs", {})
    if not isinstance(tools, list | None) or not isinstance(template_kwargs, dict):
        raise CommandError(f"the prompt {path}: tools must be a list, chat_template_kwargs an object")
    try:
        messages = [Message(**_object(message, path)) for message in chat["messages"]]
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        raise CommandError(f"the prompt {path}: messages: {problem['loc']}: {problem['msg']}") from error
    return ChatPrompt(template_messages(messages), tools or None, template_kwargs)


def _object(message: object, path: Path) -> dict[str, Any]:
    if not isinstance(message, dict):
        raise CommandError(f"the prompt {path}: each of the messages must be an object, got {message!r}")
    return message


def _shared(tokenizer: Tokenizer, texts: Sequence[str], *, add_special: bool) -> tuple[int, ...]:
    prompts = [tokenizer.encode(text, add_special=add_special, parse_special=True) for text in texts]
    first = prompts[0]
    length = min(common_prefix_length(first, other, min(len(first), len(other))) for other in prompts[1:])
    return tuple(first[:length])
