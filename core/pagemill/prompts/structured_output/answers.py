"""Where in a model's answer a format holds: after what it thinks, and in the channel for the answer. Owns no state."""

from pagemill.prompts.message_format import MessageFormat
from pagemill.prompts.structured_output.formats import Concat, Format, OneOf, Regex, Text, Until, optional

SPACE = Regex(r"\s{0,4}", "thinking")


def within_answer(message_format: MessageFormat, content: Format, *, prompt: str, continued: str = "") -> Format:
    """The format of an answer to the prompt, which has `continued` a message, whose content is to look like `content`.

    A model that reasons may do so before. Where the prompt lets it answer at once, it may do that, too.
    """
    if message_format.is_harmony:
        analysis = Concat((Text("<|channel|>analysis<|message|>"), Until(("<|end|>",)), Text("<|start|>assistant")))
        return Concat((optional(analysis), Text("<|channel|>final<|message|>"), content))
    tags = message_format.reasoning_tags
    if tags is None:
        return content
    rest = Concat((Until(tags.closings), SPACE))
    if tags.opened_by(prompt, continued):
        return Concat((rest, content))
    opening = OneOf(tuple(Text(tag) for tag in tags.openings))
    return Concat((optional(Concat((SPACE, opening, rest))), content))
