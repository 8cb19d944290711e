"""Models in the models folder that are called as one that the command line names: what becomes of that one."""

from pathlib import Path

import pytest

from support.api_server import Serve, fake_reference
from support.registry_models import write_model

NAME = "tiny:q8"


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("DELETE", "/api/delete", {"model": NAME}),
        ("POST", "/api/copy", {"source": "other", "destination": NAME}),
        ("POST", "/api/create", {"model": NAME, "from": "other", "stream": False}),
    ],
)
def test_a_model_of_ones_own_stays_loaded_when_a_pulled_one_of_its_name_changes(
    serve: Serve, tmp_path: Path, method: str, path: str, body: dict[str, object]
) -> None:
    pulled = write_model(tmp_path, "tiny", b"GGUF one", "q8")
    write_model(tmp_path, "other", b"GGUF another")
    server = serve(reference=fake_reference(NAME), models_dir=str(tmp_path), manage_models=True)
    before = pulled.read_bytes()
    answer = server.http.request(method, server.url + path, json=body)
    assert answer.status_code == 200, answer.text
    assert not pulled.exists() or pulled.read_bytes() != before
    assert [status["model"] for status in server.get("/api/ps").json()["models"]] == [NAME]
    assert server.post("/api/generate", {"model": NAME, "prompt": "x", "stream": False}).status_code == 200
    assert len(server.engines) == 1, "it was loaded again"
