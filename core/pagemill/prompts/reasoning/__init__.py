"""Reasoning as models write it: before the answer, between two tags. Owns no state.

Which tags a model has, and whether the prompt has opened them already, is all that tells the formats apart (gpt-oss has
its own, see `harmony`).
"""

from typing import NamedTuple


class ReasoningTags(NamedTuple):
    """Any of the openings begins it, any of the closings ends it. `always`: it has begun even without an opening.
    A model may put one of the pairs of tags `around_answer`, which are layout.
    """

    openings: tuple[str, ...]
    closings: tuple[str, ...]
    always: bool = False
    around_answer: tuple[tuple[str, str], ...] = ()

    @property
    def layout(self) -> tuple[str, ...]:
        """All tags that may stand around the answer."""
        return tuple(tag for pair in self.around_answer for tag in pair)

    def opened_by(self, prompt: str, continued: str = "") -> bool:
        """Whether an answer to the prompt begins within the reasoning: the prompt ends with an opening, or the message
        that it `continued` has one without a closing.
        """
        if self.always or prompt.rstrip().endswith(self.openings):
            return True
        opened = max(continued.rfind(tag) for tag in self.openings)
        return opened > max(continued.rfind(tag) for tag in self.closings)


THINK = ReasoningTags(("<think>",), ("</think>",))
COHERE = ReasoningTags(
    ("<|START_THINKING|>",),
    ("<|END_THINKING|>",),
    around_answer=(("<|START_RESPONSE|>", "<|END_RESPONSE|>"), ("<|START_TEXT|>", "<|END_TEXT|>")),
)

# Names are those of vLLM's --reasoning-parser, as far as it has them.
REASONING_FORMATS = {
    "think": THINK,
    "qwen3": THINK,
    "deepseek_r1": THINK._replace(always=True),
    "mistral": ReasoningTags(("[THINK]",), ("[/THINK]",)),
    "reasoning": ReasoningTags(("<reasoning>",), ("</reasoning>",)),
    "cohere_command3": COHERE,
    "cohere_command4": COHERE,
    "seed_oss": ReasoningTags(("<seed:think>",), ("</seed:think>",)),
    "granite": ReasoningTags(
        ("Here is my thought process:", "Here's my thought process:"), ("Here is my response:", "Here's my response:")
    ),
}
