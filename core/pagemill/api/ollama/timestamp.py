"""Points in time as Ollama writes them: RFC 3339 with nanoseconds, in UTC."""

import time
from datetime import UTC, datetime, timedelta

FOREVER = timedelta(days=292 * 365)  # the longest duration Go can hold; Ollama shows it for a model that stays loaded


class Clock:
    """Tells the present, for every token of a response. Owns the text of the second that it told last."""

    __slots__ = ("_second", "_text")

    def __init__(self) -> None:
        self._second = -1
        self._text = ""

    def now(self) -> str:
        """The present. `strftime` would cost more than the rest of a line."""
        second, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
        if second != self._second:
            self._second = second
            self._text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return f"{self._text}.{nanoseconds:09d}Z"


def of(moment: datetime) -> str:
    """An aware datetime."""
    moment = moment.astimezone(UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond:06d}000Z"
