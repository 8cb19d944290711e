"""Making a request's format into what the engine holds its outputs to, for all dialects. Owns no state."""

import asyncio
from typing import TYPE_CHECKING

from pagemill.generation import TokenConstraint

if TYPE_CHECKING:
    from pagemill.pool import LoadedModel
    from pagemill.prompts.structured_output.formats import Format


async def compiled(model: "LoadedModel", wanted: "Format | None") -> TokenConstraint | None:
    """The format, compiled for the model: at once if it was before, else on a thread.

    Raises:
        InvalidRequestError: a schema, pattern or grammar is wrong; names the field, and in a schema the place.
    """
    if wanted is None:
        return None
    known = model.grammars.cached(wanted)
    if known is not None:
        return known
    return await asyncio.wrap_future(model.grammars.submit(wanted))
