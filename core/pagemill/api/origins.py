"""Origins of web pages, as the `allowed_origins` setting names them: whole, or with * for any part. Owns no state."""

import re
from collections.abc import Sequence

ANY = "*"


def is_allowed(origin: str, allowed: Sequence[str]) -> bool:
    """Whether one of the patterns stands for this origin (`https://chat.example.com`)."""
    return re.fullmatch(as_pattern(allowed), origin) is not None


def as_pattern(allowed: Sequence[str]) -> str:
    """One regular expression for all of them, to be matched against a whole origin. A * stands for what may be in one
    part of it: `http://localhost:*` is any port, `https://*.example.com` any name below, `*` alone everything.
    """
    return "|".join(".*" if origin == ANY else _pattern(origin) for origin in allowed) or r"(?!)"


def _pattern(origin: str) -> str:
    return r"[^/:]+".join(re.escape(part) for part in origin.lower().rstrip("/").split(ANY))
