"""What of a prompt stays when an answer outgrows its context. Owns no state."""

from collections.abc import Awaitable, Callable, Sequence
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from pagemill.api.model_defaults import SYSTEM_ROLES
from pagemill.api.prompting import encode
from pagemill.engine.common_prefix import common_prefix_length
from pagemill.generation import ContextShift

if TYPE_CHECKING:
    from pagemill.pool import LoadedModel

FIRST_MARK = "\N{NULL}FIRST\N{NULL}"  # stands for the first message that is not a system message


def context_shift(
    num_keep: int, token_ids: Sequence[int], *, num_opening: int = 0, context_length: int | None = None
) -> ContextShift:
    """A shift that keeps the prompt's opening, and at least `num_keep` of its tokens (below 0: all of them)."""
    wanted = num_keep if num_keep >= 0 else len(token_ids)
    return ContextShift(max(wanted, num_opening), context_length)


async def opening_length(
    model: "LoadedModel",
    messages: Sequence[dict[str, Any]],
    token_ids: Sequence[int],
    render: Callable[[Sequence[dict[str, Any]]], Awaitable[str]],
) -> int:
    """How many of a chat prompt's tokens come before what users say: the system prompt, and tools where the template
    tells of them there.
    """
    system = list(takewhile(lambda message: message["role"] in SYSTEM_ROLES, messages))
    text = await render([*system, {"role": "user", "content": FIRST_MARK}])
    opening = await encode(model.tokenizer, text.partition(FIRST_MARK)[0], add_special=False)
    return common_prefix_length(opening, token_ids, min(len(opening), len(token_ids)))
