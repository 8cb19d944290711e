"""What the engine tells its step loop: the messages of the loop's inbox. Owns no state; may not import backends."""

from typing import TYPE_CHECKING, NamedTuple

from pagemill.engine.request_checks import OutputRoom
from pagemill.generation import GenerationRequest

if TYPE_CHECKING:
    from concurrent.futures import Future


class Submission(NamedTuple):
    """A request on its way in. `key` names it in everything that is published."""

    key: int
    request: GenerationRequest
    room: OutputRoom
    arrived_at: float  # time.monotonic()


class Cancellation(NamedTuple):
    """The request's client is gone: end what still runs, publish nothing more."""

    key: int


class Restoration(NamedTuple):
    """The KV of a prefix, to be put into the cache. `done` is told of it."""

    token_ids: tuple[int, ...]
    data: memoryview
    done: "Future[None]"


class Stop:
    """End everything that runs, close the backend, end the thread."""

    __slots__ = ()


Message = Submission | Cancellation | Restoration | Stop
