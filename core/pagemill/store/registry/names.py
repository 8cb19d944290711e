"""What models are called as Ollama does it: `[host/][namespace/]model[:tag]`. Owns no state, touches no file.

A name that was parsed can be made a path: no part of it is empty, begins with a dot or holds a separator.
"""

import re
from typing import NamedTuple

from pagemill.errors import InvalidRequestError

DEFAULT_HOST = "registry.ollama.ai"
DEFAULT_NAMESPACE = "library"
DEFAULT_TAG = "latest"
HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,349}")
NAMESPACE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,79}")
PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}")  # a model or a tag
MAX_SHOWN = 120


class ModelName(NamedTuple):
    """All parts, those that were left out too."""

    host: str
    namespace: str
    model: str
    tag: str

    @classmethod
    def parse(cls, text: str, *, param: str = "model") -> "ModelName":
        """
        Raises:
            InvalidRequestError: it is no such name; names the field `param`.
        """
        rest, tag = text, DEFAULT_TAG
        if ":" in text.rpartition("/")[2]:
            rest, _, tag = text.rpartition(":")
        parts = rest.split("/")
        model = parts.pop()
        namespace = parts.pop() if parts else DEFAULT_NAMESPACE
        host = parts.pop() if parts else DEFAULT_HOST
        fits = HOST.fullmatch(host) and NAMESPACE.fullmatch(namespace) and PART.fullmatch(model) and PART.fullmatch(tag)
        if parts or not fits:
            shown = text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "..."
            raise InvalidRequestError(
                f"invalid model name {shown!r}: must be [host/][namespace/]model[:tag], of letters, digits, - _ and .",
                param=param,
            )
        return cls(host, namespace, model, tag)

    def __str__(self) -> str:
        """As short as it can be, but always with the tag."""
        return self.spellings()[0]

    def spellings(self) -> tuple[str, ...]:
        """All that mean this name, the shortest first; each with its tag."""
        last = f"{self.model}:{self.tag}"
        found = [f"{self.namespace}/{last}", f"{self.host}/{self.namespace}/{last}"]
        if self.host.casefold() != DEFAULT_HOST:
            return tuple(found[1:])
        return (last, *found) if self.namespace.casefold() == DEFAULT_NAMESPACE else tuple(found)

    def is_same(self, other: "ModelName") -> bool:
        """Whether they differ by no more than the case of their letters."""
        return tuple(part.casefold() for part in self) == tuple(part.casefold() for part in other)

    @property
    def repository(self) -> str:
        """What a registry knows it by, beside the tag."""
        return f"{self.namespace}/{self.model}"
