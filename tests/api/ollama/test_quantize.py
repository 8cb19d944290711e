"""Models of fewer bits, by `quantize` of /api/create: asked by Ollama's own client of a server that runs."""

import ctypes
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import ollama
import pytest

from pagemill.backends.gguf.library import load_library
from pagemill.backends.gguf.quantization import FILE_TYPES
from pagemill.store.references import DEMO_FOLDER
from support.api_server import wait_until
from support.model_server import ModelServer, model_server
from support.ollama_client import ollama_client
from support.registry_models import digest_of, manifest_path, write_model
from support.served_process import served_process
from support.tiny_gguf import TinyModel

GRIST = DEMO_FOLDER / "grist" / "grist-q8_0.gguf"
FLAGS = ("--threads", "1", "--max-num-seqs", "1", "--kv-cache-memory-bytes", "16777216", "--port", "0")


@pytest.fixture(scope="module")
def half_precision(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The demo model in half precision, as it was before it was quantized for the package."""
    path = tmp_path_factory.mktemp("grist") / "grist-f16.gguf"
    c = load_library().c
    params = c.llama_model_quantize_default_params()
    params.ftype, params.nthread, params.allow_requantize = FILE_TYPES["F16"], 1, True
    assert c.llama_model_quantize(os.fsencode(GRIST), os.fsencode(path), ctypes.byref(params)) == 0
    return path.read_bytes()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, half_precision: bytes) -> Path:
    made = tmp_path_factory.mktemp("models")
    write_model(made, "grist", half_precision, "f16")
    write_model(made, "grist", GRIST.read_bytes(), "q8_0")
    return made


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[ModelServer]:
    with model_server("--models-dir", str(folder), *FLAGS) as running:
        yield running


@pytest.fixture
def client(server: ModelServer) -> Iterator[ollama.Client]:
    with ollama_client(server.url, timeout_s=120) as client:
        yield client


def large_model(folder: Path) -> str:
    """In the folder: one that is quantized for longer than a test takes to stop it. Its digest."""
    path = TinyModel(embedding=1024, feed_forward=4096, num_layers=4).write(folder / "large.gguf")
    content = path.read_bytes()
    path.unlink()
    write_model(folder, "large", content)
    return digest_of(content)


def manifest(folder: Path) -> dict[str, Any]:
    """Of the model `small`."""
    found: dict[str, Any] = json.loads(manifest_path(folder, "small").read_text())
    return found


def unfinished(folder: Path) -> list[str]:
    return [path.name for path in (folder / "blobs").iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("kind", ["q8_0", "q4_K_S", "q4_K_M"])
def test_a_quantized_model_says_what_it_is_and_answers(client: ollama.Client, folder: Path, kind: str) -> None:
    told = list(client.create("small", from_="grist:f16", quantize=kind, system="Be brief.", stream=True))
    statuses = [status.status for status in told]
    assert statuses[0] == f"quantizing F16 model to {kind.upper()}"
    assert statuses[-2:] == ["writing manifest", "success"]
    progress = [status for status in told if status.status == statuses[0]]
    assert progress[0].completed == 0
    assert progress[-1].completed == progress[-1].total
    shown = client.show("small")
    assert shown.details is not None
    assert shown.details.quantization_level == kind.upper()
    assert [layer["mediaType"].rpartition(".")[2] for layer in manifest(folder)["layers"]] == ["model", "system"]
    answer = client.chat("small", [{"role": "user", "content": "What is 7 + 5?"}], options={"temperature": 0})
    assert "12" in str(answer.message.content)
    (listed,) = [model for model in client.list().models if model.model == "small:latest"]
    blob = folder / "blobs" / f"sha256-{listed.digest}"
    assert hashlib.sha256(blob.read_bytes()).hexdigest() == listed.digest
    client.delete("small")
    assert not blob.exists()
    assert unfinished(folder) == []


def test_a_file_that_was_sent_is_quantized(client: ollama.Client, folder: Path, half_precision: bytes) -> None:
    files = {"grist.gguf": digest_of(half_precision)}
    assert client.create("small", files=files, quantize="Q4_K_M", stream=False).status == "success"
    made = manifest(folder)
    config = json.loads((folder / "blobs" / made["config"]["digest"].replace(":", "-")).read_text())
    assert config["file_type"] == "Q4_K_M"
    assert config["rootfs"]["diff_ids"] == [made["layers"][0]["digest"]]
    client.delete("small")


def test_a_file_of_that_type_is_taken_as_it_is(client: ollama.Client, half_precision: bytes) -> None:
    told = [status.status for status in client.create("same", from_="grist:f16", quantize="f16", stream=True)]
    assert told[0] == f"using existing layer {digest_of(half_precision)}"
    client.delete("same")


@pytest.mark.parametrize(
    ("source", "kind", "complaint"),
    [
        ("grist:f16", "q9", "unsupported quantization type q9 - supported types are F32, F16, BF16, Q8_0"),
        ("grist:q8_0", "q4_K_M", "quantization is only supported for F16, F32 and BF16 models, this one is Q8_0"),
        ("grist:f16", 4, "quantize"),
    ],
)
def test_what_cannot_be_quantized_is_refused(server: ModelServer, source: str, kind: object, complaint: str) -> None:
    for stream in (True, False):
        refused = server.post("/api/create", {"model": "no", "from": source, "quantize": kind, "stream": stream})
        assert (refused.status_code, complaint in refused.json()["error"]) == (400, True), refused.text


def test_a_file_that_llama_cpp_does_not_know_is_an_error_with_its_name(
    server: ModelServer, folder: Path, half_precision: bytes
) -> None:
    content = half_precision.replace(b"llama.", b"lamma.").replace(
        b"\x05" + bytes(7) + b"llama", b"\x05" + bytes(7) + b"lamma"
    )
    write_model(folder, "odd", content)
    failed = server.post("/api/create", {"model": "no", "from": "odd", "quantize": "q8_0", "stream": False})
    assert failed.status_code == 500
    assert f"{digest_of(content)[7:]} to Q8_0: " in failed.json()["error"]
    assert unfinished(folder) == []


def test_a_client_that_goes_away_stops_it_and_nothing_is_left(server: ModelServer, folder: Path) -> None:
    large_model(folder)
    blobs = sorted((folder / "blobs").iterdir())
    body = {"model": "no", "from": "large", "quantize": "q4_K_M"}
    with httpx.stream("POST", f"{server.url}/api/create", json=body, timeout=60) as response:
        lines = response.iter_lines()
        while not json.loads(next(lines))["completed"]:
            pass
        assert len(unfinished(folder)) == 1
        assert server.get("/api/version", timeout=30).status_code == 200
    wait_until(lambda: sorted((folder / "blobs").iterdir()) == blobs, timeout_s=60)
    assert server.post("/api/show", {"model": "no"}).status_code == 404


def test_a_server_that_ends_does_not_wait_for_it(tmp_path: Path) -> None:
    large_model(tmp_path)
    with served_process("--models-dir", str(tmp_path), *FLAGS, step_delay_s=None) as served:
        body = {"model": "no", "from": "large", "quantize": "q4_K_M"}
        with httpx.stream("POST", f"{served.address}/api/create", json=body, timeout=60) as response:
            lines = response.iter_lines()
            while not json.loads(next(lines))["completed"]:
                pass
            served.process.terminate()
            *_others, last = lines
        assert "shutting down" in json.loads(last)["error"]
        assert served.process.wait(60) == 0
    assert unfinished(tmp_path) == []
