"""The endpoints of embeddings, scores and rankings. Owns no state."""

import time
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from pagemill.api.context import ApiContext, find_model, request_id
from pagemill.api.embeddings.inputs import engine_for, kept_tokens, num_tokens, single
from pagemill.api.embeddings.requests import EmbeddingRequest, RerankRequest, ScoreRequest
from pagemill.api.embeddings.scoring import PathOf, scores
from pagemill.api.streaming import until_disconnect
from pagemill.api.wire import read_json


class EmbeddingEndpoints:
    """Each from a request to a response. A client that goes away takes its request out of the queue."""

    def __init__(self, context: ApiContext) -> None:
        self._context = context

    async def create_embeddings(self, request: Request) -> Response:
        body = await read_json(request, EmbeddingRequest)
        body.check_limits(self._context.settings)
        name = find_model(self._context, request.scope, body.model, body.user)
        return await until_disconnect(self._embeddings(name, request_id(request.scope), body), request.receive)

    async def score(self, request: Request) -> Response:
        body = await read_json(request, ScoreRequest)
        body.check_limits(self._context.settings)
        pairs = body.pairs()
        name = find_model(self._context, request.scope, body.model, body.user)
        return await until_disconnect(self._scores(name, request_id(request.scope), body, pairs), request.receive)

    async def rerank(self, request: Request) -> Response:
        body = await read_json(request, RerankRequest)
        body.check_limits(self._context.settings)
        name = find_model(self._context, request.scope, body.model, body.user)
        return await until_disconnect(self._ranking(name, request_id(request.scope), body), request.receive)

    async def _embeddings(self, name: str, number: str, body: EmbeddingRequest) -> Response:
        from pagemill.api.embeddings.vectors import as_base64, as_numbers, normalized

        async with self._context.pool.lease(name) as model:
            engine = engine_for(model, "embed")
            keep = kept_tokens(engine, body.truncate_prompt_tokens)
            paths = ["input"] if len(body.input) == 1 else [f"input[{index}]" for index in range(len(body.input))]
            inputs = [await single(engine, text, keep, path) for text, path in zip(body.input, paths, strict=True)]
            matrix = normalized(await engine.embed(inputs), body.dimensions)
        shown: list[Any] = as_base64(matrix) if body.encoding_format == "base64" else as_numbers(matrix)
        data = [{"object": "embedding", "index": index, "embedding": vector} for index, vector in enumerate(shown)]
        return JSONResponse(_list_of(data, f"embd-{number}", name, num_tokens(inputs)))

    async def _scores(self, name: str, number: str, body: ScoreRequest, pairs: list[tuple[str, str]]) -> Response:
        async with self._context.pool.lease(name) as model:
            found = await scores(model, pairs, body.truncate_prompt_tokens, PathOf("text_1", "text_2"))
        data = [{"object": "score", "index": index, "score": value} for index, value in enumerate(found.values)]
        return JSONResponse(_list_of(data, f"score-{number}", name, found.num_tokens))

    async def _ranking(self, name: str, number: str, body: RerankRequest) -> Response:
        pairs = [(body.query, document) for document in body.documents]
        async with self._context.pool.lease(name) as model:
            found = await scores(model, pairs, body.truncate_prompt_tokens, PathOf("query", "documents"))
        order = sorted(range(len(pairs)), key=lambda index: -found.values[index])
        results = [
            {
                "index": index,
                **({"document": {"text": body.documents[index]}} if body.return_documents is not False else {}),
                "relevance_score": found.values[index],
            }
            for index in order[: body.top_n or None]
        ]
        usage = {"prompt_tokens": found.num_tokens, "total_tokens": found.num_tokens}
        return JSONResponse({"id": f"rerank-{number}", "model": name, "usage": usage, "results": results})


def _list_of(data: list[dict[str, Any]], number: str, model: str, num_prompt_tokens: int) -> dict[str, Any]:
    usage = {"prompt_tokens": num_prompt_tokens, "total_tokens": num_prompt_tokens}
    return {"id": number, "object": "list", "created": int(time.time()), "model": model, "data": data, "usage": usage}
