"""Points in time as Ollama writes them: RFC 3339 with nanoseconds, in UTC. Owns no state."""

import time
from datetime import UTC, datetime, timedelta

FOREVER = timedelta(days=292 * 365)  # the longest duration Go can hold; Ollama shows it for a model that stays loaded


def now() -> str:
    """The present. Made for every token, so without a `datetime`."""
    seconds, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{nanoseconds:09d}Z"


def of(moment: datetime) -> str:
    """An aware datetime."""
    moment = moment.astimezone(UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond:06d}000Z"
