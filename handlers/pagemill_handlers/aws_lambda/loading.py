"""Waiting for the model at init, for functions whose sandboxes are frozen between init and the first request."""

import asyncio
import contextlib

from pagemill.errors import PagemillError
from pagemill.pool import ModelPool


async def wait_until_loaded(pool: ModelPool, timeout_s: float) -> None:
    """Wait at most so long for the default model; 0 does not wait. A load that fails is for the first request to tell
    of.
    """
    if timeout_s == 0 or pool.default is None:
        return
    with contextlib.suppress(TimeoutError, PagemillError):
        async with asyncio.timeout(timeout_s), pool.lease(pool.default.name):
            pass
