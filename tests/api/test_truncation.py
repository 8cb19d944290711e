"""Leaving out the oldest messages: as few as will do, and never those that must stay."""

from typing import Any

import pytest

from pagemill.api.truncation import Messages, truncated_length, without_oldest


def message(role: str, length: int) -> dict[str, Any]:
    return {"role": role, "length": length}


def kept(messages: list[dict[str, Any]], limit: int) -> list[int]:
    """The numbers of the messages that stay; a message's prompt is its number, as often as it is long."""
    numbered = [{**item, "number": number} for number, item in enumerate(messages)]

    def prompt_of(some: Messages) -> list[int]:
        return [item["number"] for item in some for _ in range(item["length"])]

    return list(dict.fromkeys(without_oldest(numbered, prompt_of, limit)))


TURN = [message("user", 3), message("assistant", 3)]
CHAT = [message("system", 2), *TURN * 4, message("user", 3)]


@pytest.mark.parametrize(
    ("limit", "numbers"),
    [
        (26, [0, 3, 4, 5, 6, 7, 8, 9]),
        (23, [0, 3, 4, 5, 6, 7, 8, 9]),
        (22, [0, 5, 6, 7, 8, 9]),
        (11, [0, 7, 8, 9]),
        (5, [0, 9]),
        (1, [0, 9]),
    ],
)
def test_as_few_turns_as_possible_are_dropped(limit: int, numbers: list[int]) -> None:
    assert kept(CHAT, limit) == numbers


def test_later_system_messages_stay() -> None:
    chat = [message("user", 5), message("assistant", 5), message("system", 2), message("user", 5)]
    assert kept(chat, 7) == [2, 3]


def test_one_message_stays_as_it_is() -> None:
    assert kept([message("user", 9)], 1) == [0]


@pytest.mark.parametrize(("wanted", "length"), [(None, 75), (10, 90), (0, 99), (80, 50)])
def test_room_for_the_answer_is_at_most_half_of_the_context(wanted: int | None, length: int) -> None:
    assert truncated_length(100, wanted) == length
