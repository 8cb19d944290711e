"""What users of Ollama rely on where models come and go: 19 and 20 of the list. Each docstring is its line."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from pagemill.store.references import DEMO_FOLDER
from support.fake_registry import FakeRegistry, fake_registry
from support.model_server import ModelServer, model_server
from support.ollama_requests import conversation, error, lines, text_of
from support.registry_models import write_model

GRIST = DEMO_FOLDER / "grist" / "grist-q8_0.gguf"
FLAGS = ("--port", "0", "--threads", "1", "--manage-models", "--registries", "*")


@pytest.fixture
def models_dir(tmp_path: Path) -> Path:
    """A folder with a model as Ollama stores it."""
    write_model(tmp_path, "tiny", GRIST.read_bytes())
    return tmp_path


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with fake_registry() as running:
        running.put(GRIST.read_bytes())
        yield running


def names(server: ModelServer) -> list[str]:
    return sorted(model["name"] for model in server.get("/api/tags").json()["models"])


def answers(server: ModelServer, model: str) -> bool:
    said = lines(server.post("/api/chat", conversation("What is the capital of Norway?", model=model)))
    return "".join(map(text_of, said)) == "The capital of Norway is Oslo."


def test_19_models_are_copied_and_deleted_until_none_are_left(models_dir: Path) -> None:
    """19. `/api/tags` with no models -> `{"models":[]}`. Copy and delete -> 200 empty, or 404."""
    with model_server("--models-dir", str(models_dir), *FLAGS) as server:
        copied = server.post("/api/copy", {"source": "tiny", "destination": "twin"})
        assert (copied.status_code, copied.content) == (200, b"")
        assert names(server) == ["tiny:latest", "twin:latest"]
        for model in ("tiny", "twin"):
            assert answers(server, "twin"), "a copy does not need its original"
            deleted = server.http.request("DELETE", f"{server.url}/api/delete", json={"model": model})
            assert (deleted.status_code, deleted.content) == (200, b"")
        assert server.get("/api/tags").json() == {"models": []}
        missing = server.post("/api/copy", {"source": "tiny", "destination": "twin"})
        assert re.fullmatch("model 'tiny(:latest)?' not found", error(missing, 404))
        gone = server.http.request("DELETE", f"{server.url}/api/delete", json={"model": "twin"})
        assert re.fullmatch("model 'twin(:latest)?' not found", error(gone, 404))


@pytest.mark.parametrize("stream", [True, False])
def test_20_a_pull_ends_with_success(registry: FakeRegistry, tmp_path: Path, stream: bool) -> None:
    """20. Pull ends `verifying sha256 digest`, `writing manifest`, `success`."""
    with model_server("--models-dir", str(tmp_path), *FLAGS) as server:
        body = {"model": registry.name(), "insecure": True, "stream": stream}
        told = [line["status"] for line in map(json.loads, server.post("/api/pull", body).text.splitlines())]
        ends = ["verifying sha256 digest", "writing manifest", "success"]
        assert told[-3:] == ends if stream else told == ["success"]
        assert names(server) == [registry.name()]
        assert answers(server, registry.name())
