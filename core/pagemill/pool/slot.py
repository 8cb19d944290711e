"""What the pool knows of one model that can be served: whether it is loaded, who holds it, when it expires.

A `ModelSlot` belongs to its pool and lives on the pool's event loop. May not import a backend, HTTP or the dialects.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from pagemill.errors import PagemillError
from pagemill.machine import release_freed_memory
from pagemill.memory_need import MemoryNeed
from pagemill.pool.loaded_model import LoadedModel
from pagemill.store.references import Reference

if TYPE_CHECKING:
    from pagemill.backends.base import ModelInfo

logger = logging.getLogger(__name__)


class LoadedModelStatus(NamedTuple):
    """A loaded model, and when it will be unloaded if it stays idle (None: never)."""

    model: LoadedModel
    expires_at: datetime | None
    num_bytes: int  # of memory that it counts for


@dataclass(slots=True, eq=False)
class ModelSlot:
    """See the module. While its door is shut no new lease enters: it waits until the door is open, and has the model
    loaded again if it was unloaded meanwhile.
    """

    wanted: Reference  # as the catalog has it
    reference: Reference  # after a load the loaded model's: that of a model that had to be fetched knows more then
    keep_alive_s: float
    model: LoadedModel | None = None
    need: MemoryNeed | None = None  # of the loaded model, under a budget
    loading: "asyncio.Task[None] | None" = None
    unloading: "asyncio.Task[None] | None" = None
    failure: PagemillError | None = None  # of the last load, until the next one begins
    info: "ModelInfo | None" = None  # since the first load
    num_leases: int = 0  # held, or waiting for the load
    last_use: int = 0  # grows from lease to lease, over all slots
    idle: asyncio.Event = field(default_factory=asyncio.Event)  # set while num_leases is 0
    door: asyncio.Event = field(default_factory=asyncio.Event)  # set while it is open
    expires_at: datetime | None = None
    num_loads: int = 0
    num_failures: int = 0
    num_evictions: int = 0
    load_seconds: float = 0.0  # of all loads that succeeded
    _expiry: asyncio.TimerHandle | None = None
    _num_shut: int = 0

    def __post_init__(self) -> None:
        self.idle.set()
        self.door.set()

    def renew(self, reference: Reference) -> None:
        """Another file of the same name takes the place of one that is not loaded."""
        if self.wanted is not reference and self.model is None and self.loading is None:
            self.wanted = self.reference = reference
            self.info = self.failure = None

    def fail(self, error: PagemillError) -> None:
        """Keep why the load failed, but not the frames that it failed in: they hold the weights that it had read."""
        self.failure = error
        link: BaseException | None = error
        while link is not None:
            link.__traceback__ = None
            link = link.__cause__ or link.__context__

    @property
    def num_bytes(self) -> int:
        """Of memory that the loaded model counts for: its weights and KV as its backend has them; under a budget what
        was estimated, if that is more (it has the buffers for computing too).
        """
        if self.model is None:
            return 0
        return max(0 if self.need is None else self.need.total, self.model.info.memory_bytes)

    def enter(self, use: int) -> None:
        """A lease begins."""
        self.num_leases += 1
        self.last_use = use
        self.idle.clear()
        self.cancel_expiry()

    def leave(self) -> None:
        """A lease ends."""
        self.num_leases -= 1
        if self.num_leases == 0:
            self.idle.set()

    def shut(self) -> None:
        """As often as it is shut it must be opened."""
        self._num_shut += 1
        self.door.clear()

    def open(self) -> None:
        self._num_shut -= 1
        if self._num_shut == 0:
            self.door.set()

    def set_expiry(self, expire: Callable[["ModelSlot"], object]) -> None:
        """Have `expire` called when the model has been idle for `keep_alive_s`, which is positive."""
        self.cancel_expiry()
        self.expires_at = datetime.now(UTC) + timedelta(seconds=self.keep_alive_s)
        self._expiry = asyncio.get_running_loop().call_later(self.keep_alive_s, expire, self)

    def cancel_expiry(self) -> None:
        if self._expiry is not None:
            self._expiry.cancel()
        self._expiry = self.expires_at = None

    async def close(self, *, reclaim_memory: bool = True) -> None:
        """Unload the model. If this is cancelled, it is still there, to be closed again."""
        if self.model is None:
            return
        self.cancel_expiry()
        try:
            await self.model.engine.close()
        except Exception:  # the model is gone in any case, and nobody waits who could do more than log it
            logger.exception("closing %s failed", self.reference.name)
        self.model = self.need = None
        if reclaim_memory:
            await asyncio.to_thread(release_freed_memory)

    def status(self) -> LoadedModelStatus | None:
        """None if it is not loaded. Of one in use, `expires_at` is what it would be if it became idle now."""
        if self.model is None:
            return None
        if self.expires_at is not None or self.keep_alive_s < 0:
            return LoadedModelStatus(self.model, self.expires_at, self.num_bytes)
        return LoadedModelStatus(self.model, datetime.now(UTC) + timedelta(seconds=self.keep_alive_s), self.num_bytes)
