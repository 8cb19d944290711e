"""Where files are fetched from: what a transfer asks of it, be it S3 or a registry of models. Owns no state."""

from typing import Protocol, TypeVar

from pagemill.errors import PagemillError
from pagemill.store.patience import Patience


class Item(Protocol):
    """One file that can be fetched. Its location is for messages."""

    @property
    def location(self) -> object: ...

    @property
    def size_bytes(self) -> int: ...


class Body(Protocol):
    """The bytes of an answer."""

    def read(self, amt: int) -> bytes:
        """At most so many; none at the end."""

    def close(self) -> None: ...


ItemT = TypeVar("ItemT", bound=Item)
ItemT_contra = TypeVar("ItemT_contra", bound=Item, contravariant=True)


class Source(Protocol[ItemT_contra]):
    """May be used by several threads."""

    @property
    def failures(self) -> tuple[type[Exception], ...]:
        """All that opening and reading can raise, beside our own errors."""

    def patience(self) -> Patience: ...

    def open_range(self, item: ItemT_contra, start: int, end: int) -> Body:
        """The bytes from `start` to before `end`."""

    def may_pass(self, error: Exception) -> bool:
        """Whether the same request may succeed a little later."""

    def translated(self, error: Exception, item: ItemT_contra) -> PagemillError:
        """In our words: names the file, the reason, and what to do about it."""


class CutError(OSError):
    """An answer ended before its time."""
