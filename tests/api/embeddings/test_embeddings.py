"""Embeddings of a real model in both dialects, on both backends, beside what transformers makes of the same weights."""

import base64
from typing import Any

import httpx
import numpy
import ollama
import openai
import pytest

from support.sentence_model import SENTENCES, reference
from support.served_process import ServedProcess

pytestmark = pytest.mark.slow

SIZE = 384
MAX_LENGTH = 256  # which sentence-transformers' file says; llama.cpp goes by the model's 512 positions


def post(minilm: ServedProcess, path: str, **body: Any) -> httpx.Response:
    return httpx.post(minilm.address + path, json={"model": "minilm", **body}, timeout=60)


def vectors(minilm: ServedProcess, texts: Any, **fields: Any) -> numpy.ndarray[Any, Any]:
    answer = post(minilm, "/v1/embeddings", input=texts, **fields)
    assert answer.status_code == 200, answer.text
    data = answer.json()["data"]
    assert [item["index"] for item in data] == list(range(len(data)))
    return numpy.array([item["embedding"] for item in data])


def test_vectors_are_those_of_transformers(minilm: ServedProcess) -> None:
    cosines = (vectors(minilm, list(SENTENCES)) * reference(SENTENCES)).sum(axis=1)
    assert cosines.min() >= 0.999


def test_a_text_has_one_vector_whatever_is_embedded_beside_it(minilm: ServedProcess) -> None:
    together = vectors(minilm, list(SENTENCES))
    alone = numpy.concatenate([vectors(minilm, sentence) for sentence in SENTENCES])
    assert numpy.abs(together - alone).max() < 5e-4  # llama.cpp attends in half precision


def test_the_official_client_reads_floats_and_base64_alike(minilm: ServedProcess) -> None:
    with openai.OpenAI(base_url=minilm.address + "/v1", api_key="none") as client:
        packed = client.embeddings.create(model="minilm", input=list(SENTENCES[:2]))  # asks for base64
        plain = client.embeddings.create(model="minilm", input=list(SENTENCES[:2]), encoding_format="float")
    assert packed.usage.prompt_tokens == plain.usage.prompt_tokens > 10
    assert numpy.allclose(packed.data[1].embedding, plain.data[1].embedding, atol=1e-7)
    raw = post(minilm, "/v1/embeddings", input="x", encoding_format="base64").json()["data"][0]["embedding"]
    assert len(base64.b64decode(raw)) == 4 * SIZE


@pytest.mark.parametrize("dimensions", [1, 100, SIZE])
def test_fewer_dimensions_are_the_first_ones_at_length_one(minilm: ServedProcess, dimensions: int) -> None:
    whole, cut = vectors(minilm, "x"), vectors(minilm, "x", dimensions=dimensions)
    assert cut.shape == (1, dimensions)
    assert numpy.linalg.norm(cut) == pytest.approx(1, abs=1e-5)
    assert numpy.allclose(cut, whole[:, :dimensions] / numpy.linalg.norm(whole[:, :dimensions]), atol=1e-5)


def test_token_ids_are_taken_as_they_are(minilm: ServedProcess) -> None:
    token_ids = post(minilm, "/tokenize", prompt="A man is eating food.").json()["tokens"]
    assert numpy.allclose(vectors(minilm, [token_ids]), vectors(minilm, "A man is eating food."), atol=1e-6)
    assert numpy.allclose(vectors(minilm, token_ids), vectors(minilm, [token_ids, token_ids])[1:], atol=1e-6)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"input": ["x", ""]}, "input"),
        ({"input": [1, "x"]}, "input"),
        ({"input": [[]]}, "input"),
        ({"input": {"text": "x"}}, "input"),
        ({"input": [10**9]}, "input"),
        ({"input": [-1]}, "input"),
        ({"input": "x", "dimensions": 0}, "dimensions"),
        ({"input": "x", "dimensions": 385}, "dimensions"),
        ({"input": "x", "encoding_format": "int8"}, "encoding_format"),
        ({"input": "x", "truncate_prompt_tokens": 0}, "truncate_prompt_tokens"),
        ({"input": "x", "truncate_prompt_tokens": 100_000}, "truncate_prompt_tokens"),
        ({"input": "x", "color": "red"}, "color"),
        ({"input": ["x", "word " * 1000]}, "input"),
        ({"input": ["x"] * 2049}, "input"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_what_can_not_be_embedded_is_a_400_that_names_the_field(
    minilm: ServedProcess, fields: dict[str, Any], param: str
) -> None:
    answer = post(minilm, "/v1/embeddings", **fields)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"] == param


def test_truncation_embeds_the_beginning_and_keeps_what_ends_a_text(minilm: ServedProcess) -> None:
    whole = vectors(minilm, "word " * 20)
    cut = vectors(minilm, "word " * 1000, truncate_prompt_tokens=22)  # [CLS], 20 words, [SEP]
    assert numpy.allclose(whole, cut, atol=1e-6)
    assert vectors(minilm, "word " * 1000, truncate_prompt_tokens=-1).shape == (1, SIZE)


def test_ollamas_client_embeds_one_and_many(minilm: ServedProcess) -> None:
    client = ollama.Client(minilm.address)
    many = client.embed("minilm", list(SENTENCES))
    assert numpy.allclose(many.embeddings, vectors(minilm, list(SENTENCES)), atol=1e-6)
    assert many.prompt_eval_count is not None
    assert many.total_duration is not None
    assert many.total_duration >= (many.load_duration or 0)
    assert len(client.embed("minilm", "x", dimensions=7).embeddings[0]) == 7
    assert client.embed("minilm", []).embeddings == []
    assert client.embed("minilm", "").embeddings == []
    assert numpy.allclose(client.embeddings("minilm", "x").embedding, vectors(minilm, "x")[0], atol=1e-6)
    assert client.embeddings("minilm", "").embedding == []
    client._client.close()


def test_ollama_truncates_unless_told_not_to_also_within_a_batch(minilm: ServedProcess) -> None:
    long = "word " * 1000
    assert post(minilm, "/api/embed", input=["x", long]).status_code == 200
    refused = post(minilm, "/api/embed", input=["x", long], truncate=False)
    assert refused.status_code == 400
    assert refused.json()["error"] == "the input length exceeds the context length"


def test_ollama_says_what_is_wrong_in_its_words(minilm: ServedProcess) -> None:
    missing = post(minilm, "/api/embed", model="nope", input="x")
    assert missing.status_code == 404
    assert missing.json()["error"] == 'model "nope" not found, try pulling it first'
    assert post(minilm, "/api/embed", input=[1]).json()["error"].startswith("invalid input type")
    assert post(minilm, "/api/embed", model="", input="x").json()["error"] == "model is required"


def test_an_embedding_model_says_that_it_neither_chats_nor_generates(minilm: ServedProcess) -> None:
    chat = [{"role": "user", "content": "x"}]
    assert post(minilm, "/api/chat", messages=chat).json()["error"] == '"minilm" does not support chat'
    assert post(minilm, "/api/generate", prompt="x").json()["error"] == '"minilm" does not support generate'
    for path, body in (("/v1/chat/completions", {"messages": chat}), ("/v1/completions", {"prompt": "x"})):
        answer = post(minilm, path, **body)
        assert answer.status_code == 400
        assert "does not support" in answer.json()["error"]["message"]
    assert post(minilm, "/api/show").json()["capabilities"] == ["embedding"]


def test_a_model_that_generates_says_that_it_makes_no_embeddings() -> None:
    from support.api_server import running_server

    with running_server() as server:
        answer = server.post("/v1/embeddings", {"input": "x"})
        assert answer.status_code == 400
        assert answer.json()["error"]["message"] == '"fake" does not support embeddings'
        assert server.post("/v1/score", {"text_1": "x", "text_2": "y"}).status_code == 400
        assert server.post("/api/embed", {"model": "fake", "input": "x"}).status_code == 400
