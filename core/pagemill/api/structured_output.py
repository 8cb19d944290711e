"""Making a request's format, and its bad words, into what the engine holds outputs to. Owns no state."""

import asyncio
from typing import TYPE_CHECKING

from pagemill.generation import TokenConstraint

if TYPE_CHECKING:
    from collections.abc import Sequence

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


async def without(
    model: "LoadedModel", words: "Sequence[str] | None", held: TokenConstraint | None
) -> TokenConstraint | None:
    """What holds outputs to be without the words, and to what they are held to already."""
    if not words:
        return held
    from pagemill.prompts.bad_words import BadWords

    return await asyncio.to_thread(BadWords.of, model.tokenizer, words, held)
