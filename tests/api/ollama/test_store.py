"""Pull, create, copy, delete and blobs by Ollama's own client, on a server that runs the demo model."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import ollama
import pytest

from pagemill.store.references import DEMO_FOLDER
from support.api_server import wait_until
from support.fake_registry import FakeRegistry, fake_registry
from support.model_server import ModelServer, model_server
from support.ollama_client import ollama_client
from support.registry_models import digest_of
from support.tiny_gguf import TinyModel

GRIST = DEMO_FOLDER / "grist" / "grist-q8_0.gguf"
SMALL = ("--threads", "1", "--max-model-len", "64", "--max-num-seqs", "2", "--kv-cache-memory-bytes", "33554432")


@pytest.fixture(scope="module")
def registry() -> Iterator[FakeRegistry]:
    with fake_registry() as running:
        running.put(GRIST.read_bytes(), "grist", license=b"Apache-2.0")
        yield running


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("models")
    TinyModel(seed=1).write(made / "own.gguf")
    return made


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[ModelServer]:
    flags = ("--models-dir", str(folder), "--registries", "*", "--port", "0", *SMALL)
    with model_server(*flags, "--max-body-bytes", "100000") as running:
        yield running


@pytest.fixture
def client(server: ModelServer) -> Iterator[ollama.Client]:
    with ollama_client(server.url, timeout_s=60) as client:
        yield client


@pytest.fixture
def pulled(client: ollama.Client, registry: FakeRegistry) -> str:
    """The name of a model that was pulled."""
    client.pull(registry.name("grist"), insecure=True)
    return registry.name("grist")


def names(client: ollama.Client) -> set[str]:
    return {str(model.model) for model in client.list().models}


def blob_path(folder: Path, content: bytes) -> Path:
    return folder / "blobs" / digest_of(content).replace(":", "-")


def put_blob(server: ModelServer, content: bytes, digest: str | None = None) -> httpx.Response:
    return httpx.post(f"{server.url}/api/blobs/{digest or digest_of(content)}", content=content, timeout=30)


def test_what_was_pulled_is_listed_shown_and_answers(client: ollama.Client, registry: FakeRegistry) -> None:
    name = registry.name("grist")
    told = list(client.pull(name, insecure=True, stream=True))
    assert told[0].status == "pulling manifest"
    assert [status.status for status in told[-3:]] == ["verifying sha256 digest", "writing manifest", "success"]
    of_gguf = [status for status in told if status.digest == digest_of(GRIST.read_bytes())]
    assert of_gguf[-1].completed == of_gguf[-1].total == GRIST.stat().st_size
    listed = next(model for model in client.list().models if model.model == name)
    assert (listed.digest, listed.size) == (digest_of(GRIST.read_bytes())[7:], GRIST.stat().st_size)
    assert client.show(name).details.format == "gguf"  # type: ignore[union-attr]
    assert client.generate(name, "Hello", options={"num_predict": 4}).eval_count == 4


def test_a_pull_that_is_not_streamed_ends_in_one_object(client: ollama.Client, registry: FakeRegistry) -> None:
    assert client.pull(registry.name("grist"), insecure=True).status == "success"


def test_a_model_that_the_registry_lacks_fails_with_its_name(client: ollama.Client, registry: FakeRegistry) -> None:
    with pytest.raises(ollama.ResponseError, match=r"has no .*/nothing:latest") as whole:
        client.pull(registry.name("nothing"), insecure=True)
    assert whole.value.status_code == 404
    with pytest.raises(ollama.ResponseError, match=r"has no .*/nothing:latest"):
        list(client.pull(registry.name("nothing"), insecure=True, stream=True))


def test_a_copy_answers_and_stays_when_the_other_is_deleted(client: ollama.Client, pulled: str, folder: Path) -> None:
    client.copy(pulled, "my/copy")
    assert "my/copy:latest" in names(client)
    client.delete(pulled)
    assert pulled not in names(client)
    assert client.generate("my/copy", "Hello", options={"num_predict": 2}).eval_count == 2
    client.delete("my/copy")
    assert not blob_path(folder, GRIST.read_bytes()).exists()
    assert names(client) == {"own:latest"}


def test_a_loaded_model_is_unloaded_before_it_is_deleted(client: ollama.Client, pulled: str) -> None:
    client.generate(pulled, "")
    assert pulled in {model.model for model in client.ps().models}
    client.delete(pulled)
    assert pulled not in {model.model for model in client.ps().models}
    with pytest.raises(ollama.ResponseError, match="not found"):
        client.generate(pulled, "Hello")


def test_a_loaded_model_that_is_pulled_anew_is_loaded_anew(
    client: ollama.Client, registry: FakeRegistry, tmp_path: Path
) -> None:
    name = registry.name("changing")
    for seed in (1, 2):
        TinyModel(seed=seed).write(tmp_path / "tiny.gguf")
        registry.put((tmp_path / "tiny.gguf").read_bytes(), "changing")
        client.pull(name, insecure=True)
        assert name not in {model.model for model in client.ps().models}
        client.generate(name, "")
        (loaded,) = [model for model in client.ps().models if model.model == name]
        assert loaded.digest == hashlib.sha256((tmp_path / "tiny.gguf").read_bytes()).hexdigest()
    client.delete(name)


@pytest.mark.parametrize("name", ["nothing", "my/nothing:q8", "registry.example/my/nothing"])
def test_what_is_not_there_is_neither_copied_nor_deleted(client: ollama.Client, name: str) -> None:
    with pytest.raises(ollama.ResponseError, match=f"model '{name}' not found") as copied:
        client.copy(name, "other")
    with pytest.raises(ollama.ResponseError, match=f"model '{name}' not found") as deleted:
        client.delete(name)
    assert (copied.value.status_code, deleted.value.status_code) == (404, 404)


def test_a_file_of_ones_own_is_not_deleted(client: ollama.Client, folder: Path) -> None:
    with pytest.raises(ollama.ResponseError, match="neither pulled nor created") as refused:
        client.delete("own")
    assert refused.value.status_code == 400
    assert (folder / "own.gguf").exists()


@pytest.mark.parametrize("name", ["../own", "a/b/c/d", "..", "a:../b", "a b"])
def test_names_that_are_none_are_refused(client: ollama.Client, pulled: str, name: str) -> None:
    for ask in (
        lambda: client.pull(name),
        lambda: client.delete(name),
        lambda: client.copy(name, "x"),
        lambda: client.copy(pulled, name),
        lambda: client.create(name, from_=pulled),
        lambda: client.create("x", from_=name),
    ):
        with pytest.raises(ollama.ResponseError, match="invalid model name") as refused:
            ask()  # type: ignore[no-untyped-call]  # a lambda
        assert refused.value.status_code == 400


def test_a_file_that_was_sent_becomes_a_model(client: ollama.Client) -> None:
    """The file is larger than `max_body_bytes`."""
    digest = client.create_blob(GRIST)
    told = list(client.create("made", files={"grist.gguf": digest}, stream=True))
    statuses = [f"using existing layer {digest}", "writing manifest", "success"]
    assert [status.status for status in told] == statuses
    assert client.generate("made", "Hello", options={"num_predict": 2}).eval_count == 2
    assert client.create("copied", from_="made").status == "success"
    client.delete("made")
    assert client.generate("copied", "Hello", options={"num_predict": 2}).eval_count == 2
    client.delete("copied")


def test_a_blob_is_there_once_it_was_sent(server: ModelServer, folder: Path) -> None:
    content = b"some content"
    url = f"{server.url}/api/blobs/{digest_of(content)}"
    assert httpx.head(url).status_code == 404
    assert [put_blob(server, content).status_code for _ in range(2)] == [201, 200]
    assert httpx.head(url).status_code == 200
    assert blob_path(folder, content).read_bytes() == content


def test_a_blob_of_another_digest_is_refused_and_not_kept(server: ModelServer, folder: Path) -> None:
    before = sorted((folder / "blobs").iterdir())
    refused = put_blob(server, b"this", digest_of(b"that"))
    assert refused.status_code == 400
    assert f"digest mismatch, expected {digest_of(b'that')}, got {digest_of(b'this')}" in refused.json()["error"]
    assert sorted((folder / "blobs").iterdir()) == before


@pytest.mark.parametrize("digest", ["sha256:12", "md5:" + "a" * 32, "sha256:" + "G" * 64, "sha256-.." + "a" * 62])
def test_what_is_no_digest_is_refused(server: ModelServer, digest: str) -> None:
    refused = put_blob(server, b"this", digest)
    assert (refused.status_code, "64 hexadecimal digits" in refused.text) == (400, True)


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({}, "neither from nor files"),
        ({"files": {"a.gguf": "sha256:" + "0" * 64}}, "there is no blob sha256:000"),
        ({"files": {"a.gguf": "no digest"}}, "64 hexadecimal digits"),
        ({"files": {"a.gguf": "sha256:" + "0" * 64, "b.gguf": "sha256:" + "1" * 64}}, "got 2 files"),
        ({"files": {"a": "sha256:" + "0" * 64}, "from": "x"}, "either from or files"),
        ({"from": 5}, "from must be a model's name"),
        ({"from": "x", "parameters": {"temperature": "hot"}}, 'parameters: option "temperature" must be of type float'),
        ({"from": "x", "parameters": {"stop": "END"}}, 'parameters: option "stop" must be of type array of strings'),
        ({"from": "x", "parameters": {"top_p": 2}}, "parameters: top_p must be in (0, 1], got 2"),
        ({"from": "x", "messages": [{"role": "tool"}]}, "messages[0].role must be one of system, user, assistant"),
        ({"from": "x", "messages": [{"role": "user", "images": ["x"]}]}, "messages[0].images is not supported"),
        ({"from": "x", "license": [1]}, "license"),
        ({"from": "x", "renderer": "x"}, "renderer is not supported"),
        ({"from": "x", "adapters": {"a.gguf": "sha256:00"}}, "adapters is not supported"),
        ({"modelfile": "FROM x"}, "modelfile is not supported"),
    ],
)
def test_what_create_cannot_do_is_refused_by_its_name(
    server: ModelServer, fields: dict[str, object], complaint: str
) -> None:
    refused = server.post("/api/create", {"model": "made", "stream": False, **fields})
    assert (refused.status_code, complaint in refused.json()["error"]) == (400, True), refused.text


def test_a_file_that_is_no_gguf_becomes_no_model(client: ollama.Client, server: ModelServer) -> None:
    put_blob(server, b"some text")
    with pytest.raises(ollama.ResponseError, match="is no GGUF file: it begins with b'some'") as refused:
        client.create("made", files={"text.gguf": digest_of(b"some text")})
    assert refused.value.status_code == 400


def test_a_null_is_the_same_as_nothing(server: ModelServer, pulled: str) -> None:
    body = {"model": "copied", "from": pulled, "quantize": None, "system": None, "stream": False}
    assert server.post("/api/create", body).json() == {"status": "success"}
    assert httpx.request("DELETE", f"{server.url}/api/delete", json={"name": "copied"}).status_code == 200


def test_push_is_not_there(client: ollama.Client) -> None:
    with pytest.raises(ollama.ResponseError, match="push is not supported") as refused:
        client.push("grist")
    assert refused.value.status_code == 501


def test_a_client_that_goes_away_stops_its_pull(server: ModelServer, registry: FakeRegistry) -> None:
    """A later one begins to count anew: it shares nothing, and waits for the end of the one that was given up."""
    registry.put(b"GGUF" + bytes(10**6), "slow")
    body = {"model": registry.name("slow"), "insecure": True}

    def first_count(at_least: int) -> int:
        with httpx.stream("POST", f"{server.url}/api/pull", json=body, timeout=30) as response:
            counts = (json.loads(line).get("completed") for line in response.iter_lines())
            return next(int(count) for count in counts if count is not None and count >= at_least)

    registry.held_from = 0
    try:
        assert first_count(1) > 0
        wait_until(lambda: first_count(0) == 0)
    finally:
        registry.held_from = None
    assert server.post("/api/pull", {**body, "stream": False}).json() == {"status": "success"}
