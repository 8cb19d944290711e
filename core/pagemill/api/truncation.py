"""Making a long chat fit by leaving out its oldest messages, for requests that ask for it. Owns no state."""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Any

Messages = Sequence[dict[str, Any]]


def truncated_length(context_length: int, wanted: int | None) -> int:
    """What a prompt is truncated to, in tokens: it leaves room for the answer, at most half of the context. `wanted` is
    how long the answer may be; None: as long as it likes.
    """
    room = context_length // 4 if wanted is None else wanted
    return max(1, context_length - min(max(room, 1), max(context_length // 2, 1)))


def without_oldest(messages: Messages, prompt_of: Callable[[Messages], list[int]], limit: int) -> list[int]:
    """The prompt with as few as possible of the oldest turns dropped, so that it has at most `limit` tokens, or as few
    as it can have: system messages and the last one always stay.

    What is left starts with a user's message, since many templates insist on that.
    """

    def prompt_from(start: int) -> list[int]:
        return prompt_of(
            [message for index, message in enumerate(messages) if index >= start or message["role"] == "system"]
        )

    last = len(messages) - 1
    starts = [index for index in range(1, last) if messages[index]["role"] == "user"] + [last]
    at = bisect_left(starts, True, key=lambda start: len(prompt_from(start)) <= limit)
    return prompt_from(starts[min(at, len(starts) - 1)])
