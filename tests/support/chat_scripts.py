"""Fake models that say what they are told: all messages, or what the last one says, behind chat templates of several
kinds.
"""

import re

from pagemill.backends.base import decode
from pagemill.backends.fake import EOS, FakeBackend, FakeTokenizer

USER_MESSAGE = re.compile(r"<\|im_start\|>user\n(.*?)<\|im_end\|>", re.DOTALL)
SYSTEM_MESSAGE = re.compile(r"<\|im_start\|>system\n(.*?)<\|im_end\|>", re.DOTALL)
LAST_MESSAGE = re.compile(r".*<\|im_start\|>user\n(.*?)<\|im_end\|>", re.DOTALL)

# What it is given is to be seen in the prompt, so tests can look there.
TOOLS = (
    "{% if tools %}TOOLS{% for tool in tools %}{{ tool | tojson }}{% endfor %}\n"
    "A call is <tool_call>{...}</tool_call>\n{% endif %}"
)
MESSAGES = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}"
    "{% if message.reasoning_content is defined %}THOUGHT {{ message.reasoning_content }}{% endif %}"
    "{% for call in message.tool_calls or [] %}"
    "CALL {{ call.id }} {{ call.function.name }} {{ call.function.arguments | tojson }}{% endfor %}"
    "{% if message.role == 'tool' %}OF {{ message.tool_call_id }} {{ message.name }}{% endif %}<|im_end|>\n{% endfor %}"
)
GENERATION = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
THINKING = (
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% else %}<think>\n{% endif %}"
    "{% endif %}{% if reasoning_effort is defined %}{# {{ reasoning_effort }} #}{% endif %}"
)
TOOL_TEMPLATE = TOOLS + MESSAGES + GENERATION
THINKING_TEMPLATE = TOOLS + MESSAGES + THINKING


def parrot(prompt: tuple[int, ...]) -> list[int]:
    """All system messages in braces, then all user messages, joined by bars."""
    text = decode(FakeTokenizer(), prompt)
    systems = "".join(f"{{{found}}}" for found in SYSTEM_MESSAGE.findall(text))
    return [*(systems + "|".join(USER_MESSAGE.findall(text))).encode(), EOS]


def told(prompt: tuple[int, ...]) -> list[int]:
    found = LAST_MESSAGE.match(decode(FakeTokenizer(), prompt))
    return [*(found[1] if found else "").encode(), EOS]


def scripted(template: str) -> FakeBackend:
    """A model that answers with the last user message, told by the template what it can do."""
    return FakeBackend(reply=told, chat_template=template)
