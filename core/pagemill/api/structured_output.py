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


async def compiled_answer(
    model: "LoadedModel", content: "Format | None", *, prompt: str, continued: str = ""
) -> TokenConstraint | None:
    """Likewise for the content of a chat's answer to the prompt, which has `continued` a message: the model may think
    before it.
    """
    if content is None or model.chat_template is None:
        return await compiled(model, content)
    from pagemill.prompts.structured_output.answers import within_answer

    message_format = model.chat_template.message_format
    return await compiled(model, within_answer(message_format, content, prompt=prompt, continued=continued))
