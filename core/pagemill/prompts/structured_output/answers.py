"""Where in a model's answer a format holds: after what it thinks, and in the channel for the answer. Owns no state."""

from pagemill.prompts.message_format import MessageFormat
from pagemill.prompts.structured_output.formats import Concat, Format, OneOf, Regex, Text, Until, optional

SPACE = Regex(r"\s{0,4}", "thinking")


def within_answer(
    message_format: MessageFormat,
    content: Format | None,
    calls: Format | None = None,
    *,
    prompt: str,
    continued: str = "",
) -> Format:
    """The format of an answer to the prompt, which has `continued` a message, whose content is to look like `content`,
    or which is `calls` of tools: at least one of the two.

    A model that reasons may do so before. Where the prompt lets it answer at once, it may do that, too.
    """
    if content is not None:
        content = _within_tags(message_format, content)
    answers = tuple(part for part in (content, calls) if part is not None)
    answer = answers[0] if len(answers) == 1 else OneOf(answers)
    if message_format.is_harmony:
        analysis = Concat((Text("<|channel|>analysis<|message|>"), Until(("<|end|>",)), Text("<|start|>assistant")))
        return Concat((optional(analysis), answer))
    tags = message_format.reasoning_tags
    if tags is None:
        return answer
    rest = Concat((Until(tags.closings), SPACE))
    if tags.opened_by(prompt, continued):
        return Concat((rest, answer))
    opening = OneOf(tuple(Text(tag) for tag in tags.openings))
    return Concat((optional(Concat((SPACE, opening, rest))), answer))


def _within_tags(message_format: MessageFormat, content: Format) -> Format:
    """The content, and what a model puts around it: harmony must, others may."""
    if message_format.is_harmony:
        return Concat((Text("<|channel|>final<|message|>"), content))
    tags = message_format.reasoning_tags
    if tags is None or not tags.around_answer:
        return content
    before, after = (OneOf(tuple(Text(tag) for tag in side)) for side in zip(*tags.around_answer, strict=True))
    return Concat((optional(before), content, optional(after)))
