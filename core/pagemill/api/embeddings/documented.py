"""What the OpenAPI document says of embeddings, scores and rankings. Owns no state."""

from pagemill.api.documentation import (
    INTEGER,
    NUMBER,
    TEXT,
    Dialect,
    Operation,
    Schema,
    answered,
    any_of,
    list_of,
    one_of,
    record,
    ref,
)
from pagemill.api.embeddings.requests import EmbeddingRequest, RerankRequest, ScoreRequest

SCORE = Operation(
    "How well texts answer to a text",
    answered("embeddings.Scores"),
    body=ScoreRequest,
    example={"text_1": "What is a pond?", "text_2": ["A small lake.", "A large bird."]},
)
RERANK = Operation(
    "Documents, by how well they answer to a query",
    answered("embeddings.Ranking"),
    body=RerankRequest,
    example={"query": "What is a pond?", "documents": ["A large bird.", "A small lake."], "top_n": 1},
)


def _listing(item: Schema) -> Schema:
    return record(
        {
            "id": TEXT,
            "object": one_of("list"),
            "created": INTEGER,
            "model": TEXT,
            "data": list_of(item),
            "usage": ref("embeddings.Usage"),
        }
    )


EMBEDDINGS = Dialect(
    "embeddings",
    "Vectors, scores and rankings, of models that make them.",
    {
        "POST /v1/embeddings": Operation(
            "Vectors of texts",
            answered("embeddings.Embeddings"),
            body=EmbeddingRequest,
            example={"input": ["a pond", "a lake"]},
        ),
        "POST /v1/score": SCORE,
        "POST /score": SCORE,
        "POST /v1/rerank": RERANK,
        "POST /rerank": RERANK,
    },
    {
        "Usage": record({"prompt_tokens": INTEGER, "total_tokens": INTEGER}),
        "Embeddings": _listing(
            record(
                {
                    "object": one_of("embedding"),
                    "index": INTEGER,
                    "embedding": any_of(
                        list_of(NUMBER),
                        {**TEXT, "contentEncoding": "base64", "description": "Little-endian 32-bit floats."},
                    ),
                }
            )
        ),
        "Scores": _listing(record({"object": one_of("score"), "index": INTEGER, "score": NUMBER})),
        "Ranking": record(
            {
                "id": TEXT,
                "model": TEXT,
                "usage": ref("embeddings.Usage"),
                "results": list_of(
                    record({"index": INTEGER, "relevance_score": NUMBER}, {"document": record({"text": TEXT})})
                ),
            }
        ),
    },
)
