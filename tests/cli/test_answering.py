"""What `pagemill run` prints of an answer."""

from collections.abc import AsyncGenerator
from typing import Any

import pytest

from pagemill.cli.answering import Output, answer
from pagemill.cli.conversation import Conversation


class Server:
    """Answers with these messages, each on a line."""

    def __init__(self, *messages: dict[str, str]) -> None:
        self._messages = messages

    async def stream(self, path: str, body: dict[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        for message in self._messages:
            yield {"message": message}


THOUGHTS = ({"content": "", "thinking": "Let"}, {"content": "", "thinking": " me see."}, {"content": ""})


@pytest.mark.parametrize(
    ("on_terminal", "messages", "printed"),
    [
        (True, (*THOUGHTS, {"content": "4"}, {"content": "2"}), "Thinking...\nLet me see.\n...done thinking.\n\n42\n"),
        (True, ({"content": "4"}, {"content": "2"}), "42\n"),
        (False, (*THOUGHTS, {"content": "42"}), "42\n"),
    ],
)
async def test_thoughts_are_printed_for_people_only(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    on_terminal: bool,
    messages: tuple[dict[str, str], ...],
    printed: str,
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: on_terminal)
    conversation = Conversation("m")
    await answer(Server(*messages), conversation, "hi", Output())  # type: ignore[arg-type]  # all that is used of one
    assert capsys.readouterr().out == printed
    assert conversation.messages[-1] == {"role": "assistant", "content": "42"}
