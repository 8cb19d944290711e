"""Keep-alive durations as Ollama and Go write them. Owns no state."""

import math
import re

from pagemill.errors import InvalidRequestError

SECONDS_OF_UNIT = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
MAX_KEEP_ALIVE_S = 100 * 365 * 86400.0  # beyond what a timer or a date can hold, it is for ever
_PART = re.compile(r"([0-9]+\.?[0-9]*|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)")
_DURATION = re.compile(rf"([+-]?)((?:{_PART.pattern})+)")


def parse_keep_alive(value: str | int | float) -> float:
    """Seconds of "5m", "1h30m", "300", 300, -1 or "-1m". Negative means for ever.

    Raises:
        InvalidRequestError: it is none of these (param="keep_alive").
    """
    seconds = _seconds(value)
    if seconds is None or math.isnan(seconds):
        message = f'keep_alive must be seconds or a duration like "5m" or "1h30m", got {value!r}'
        raise InvalidRequestError(message, param="keep_alive")
    return -1.0 if seconds > MAX_KEEP_ALIVE_S or seconds < 0 else seconds


def _seconds(value: object) -> float | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return float(value) if abs(value) <= MAX_KEEP_ALIVE_S or value != value else math.copysign(math.inf, value)
    if not isinstance(value, str):
        return None
    text = value.strip()
    if re.fullmatch(r"[+-]?[0-9]{1,18}(\.[0-9]*)?", text):
        return float(text)
    whole = _DURATION.fullmatch(text)
    if whole is None:
        return None
    seconds = sum(float(number) * SECONDS_OF_UNIT[unit] for number, unit in _PART.findall(whole[2]))
    return -seconds if whole[1] == "-" else seconds
