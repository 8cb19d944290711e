"""The prompt of the interactive chat: line editing and a history that lasts from one session to the next.

Owns the prompt session. The only file that imports prompt_toolkit; imported when a chat starts.
"""

import os
from collections.abc import Iterable
from pathlib import Path

from prompt_toolkit import PromptSession
from prompt_toolkit.formatted_text import FormattedText
from prompt_toolkit.history import FileHistory, History, InMemoryHistory

PLACEHOLDER = FormattedText([("fg:ansibrightblack", "Send a message (/? for help)")])


class LineEditor:
    """Reads lines from the terminal."""

    def __init__(self) -> None:
        self._history = _PausableHistory(_open_history(history_path()))
        self._session: PromptSession[str] = PromptSession(history=self._history, enable_suspend=True)

    async def read(self, prompt: str) -> str:
        """One line.

        Raises:
            KeyboardInterrupt: Ctrl-C.
            EOFError: Ctrl-D on an empty line.
        """
        return await self._session.prompt_async(prompt, placeholder=PLACEHOLDER if prompt.startswith(">") else "")

    def remember_lines(self, remember: bool) -> None:
        """Whether further lines go into the history."""
        self._history.paused = not remember


class _PausableHistory(History):
    """A history that takes no new lines while it is paused."""

    def __init__(self, inner: History) -> None:
        super().__init__()
        self.paused = False
        self._inner = inner

    def append_string(self, string: str) -> None:
        if not self.paused:
            super().append_string(string)

    def load_history_strings(self) -> Iterable[str]:
        return self._inner.load_history_strings()

    def store_string(self, string: str) -> None:
        self._inner.store_string(string)


def history_path() -> Path:
    """By the XDG convention: state that should outlive a restart, but is not worth a backup."""
    state = os.environ.get("XDG_STATE_HOME")
    return (Path(state) if state else Path.home() / ".local" / "state") / "pagemill" / "history"


def _open_history(path: Path) -> History:
    """The history file, readable only by its owner; in memory if the folder can't be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    except OSError:
        return InMemoryHistory()
    return FileHistory(str(path))
