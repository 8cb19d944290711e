"""gpt-oss: an answer is several messages, each on a channel: analysis is reasoning, final is content.

    <|channel|>analysis<|message|>They ask for the weather.<|end|><|start|>assistant<|channel|>commentary
    to=functions.get_weather <|constrain|>json<|message|>{"city": "Paris"}<|call|>

Source: OpenAI's guide to the harmony response format. Owns no state.
"""

import re

from pagemill.prompts.message_events import EventWriter
from pagemill.prompts.text_source import Reading, TextSource, Write, until
from pagemill.prompts.tools import ToolSchemas

START, CHANNEL, MESSAGE, CONSTRAIN = "<|start|>", "<|channel|>", "<|message|>", "<|constrain|>"
ENDS = ("<|end|>", "<|return|>", "<|call|>")
MARKERS: tuple[str, ...] = (START, CHANNEL, MESSAGE, CONSTRAIN, *ENDS)
RECIPIENT = re.compile(r"to=([^\s<]+)")
CHANNEL_NAME = re.compile(r"<\|channel\|>\s*(\w+)")


def read(source: TextSource, out: EventWriter, tools: ToolSchemas) -> Reading[None]:
    """The whole answer. A text without channels is content; so is that of commentary that calls nothing."""
    marker = yield from until(source, (START, CHANNEL, MESSAGE, *ENDS), out.content)
    while marker is not None:
        if marker in ENDS:
            marker = yield from until(source, (START, CHANNEL, MESSAGE, *ENDS), out.content)
            continue
        header = [marker]
        if marker != MESSAGE and not (yield from until(source, (MESSAGE,), header.append)):
            return  # cut off in a header, which nobody is to read
        write = _begin_message("".join(header), out)
        marker = yield from until(source, (START, *ENDS), write)
        out.end_reasoning()


def _begin_message(header: str, out: EventWriter) -> Write:
    """What the header begins; returns where the message's text goes."""
    recipient = RECIPIENT.search(header)
    if recipient is not None and recipient[1].startswith("functions."):
        out.start_call(recipient[1].removeprefix("functions."))
        return out.arguments
    channel = CHANNEL_NAME.search(header)
    if recipient is not None or (channel is not None and channel[1] == "analysis"):
        out.begin_reasoning()
        return out.reasoning
    return out.content
