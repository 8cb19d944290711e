"""How well texts answer to others: a cross-encoder's score for a pair, or else the cosine of two embeddings.

Owns no state.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from pagemill.api.embeddings.inputs import engine_for, kept_tokens, num_tokens, pair, single

if TYPE_CHECKING:
    from pagemill.engine.embedding_engine import EmbeddingEngine
    from pagemill.pool import LoadedModel


class Scores(NamedTuple):
    """In the order of the pairs, and how many tokens it took."""

    values: list[float]
    num_tokens: int


class PathOf(NamedTuple):
    """What the two sides of pairs are called in the request."""

    first: str
    second: str


async def scores(
    model: "LoadedModel", pairs: Sequence[tuple[str, str]], truncate_prompt_tokens: int | None, paths: PathOf
) -> Scores:
    """Of all pairs, in as few steps as they fit.

    Raises:
        ContextLengthError, InvalidRequestError: a text does not fit, or is wrong; names the field.
        UnsupportedParameterError: the model gives neither scores nor embeddings.
        UnavailableError, BackendError: as `EmbeddingEngine.embed`.
    """
    engine = engine_for(model, None)
    keep = kept_tokens(engine, truncate_prompt_tokens)
    if engine.task == "score":
        inputs = [await pair(engine, first, second, keep, paths.second) for first, second in pairs]
        return Scores([vector[0] for vector in await engine.embed(inputs)], num_tokens(inputs))
    return await _cosines(engine, pairs, keep, paths)


async def _cosines(
    engine: "EmbeddingEngine", pairs: Sequence[tuple[str, str]], keep: int | None, paths: PathOf
) -> Scores:
    """Each text is embedded once, however many pairs it is in."""
    from pagemill.api.embeddings.vectors import normalized

    sides = [(first, paths.first) for first, _ in pairs] + [(second, paths.second) for _, second in pairs]
    places = {text: place for place, text in enumerate(dict.fromkeys(text for text, _ in sides))}
    path_of = dict(reversed(sides))
    inputs = [await single(engine, text, keep, path_of[text]) for text in places]
    matrix = normalized(await engine.embed(inputs), None)
    firsts = matrix[[places[first] for first, _ in pairs]]
    seconds = matrix[[places[second] for _, second in pairs]]
    cosines: list[float] = (firsts * seconds).sum(axis=1).tolist()
    return Scores(cosines, num_tokens(inputs))
