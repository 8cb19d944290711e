"""What users of Ollama and vLLM ask for there, where no other test of ours has it. The docstrings are of the lists."""

from contextlib import ExitStack
from pathlib import Path

import pytest
from gguf import GGUFReader, GGUFValueType, GGUFWriter

from pagemill.store.references import DEMO_FOLDER
from support.api_server import wait_until
from support.model_server import ModelServer, model_server
from support.ollama_requests import conversation, error, lines, text_of
from support.raw_requests import begun

GRIST = DEMO_FOLDER / "grist" / "grist-q8_0.gguf"
CAPITAL = "The capital of Norway is Oslo."
QUESTION = "What is the capital of Norway?"


@pytest.mark.slow
def test_more_requests_run_at_once_than_whole_contexts_fit() -> None:
    """True continuous batching without context memory times N."""
    one_context = 6 * 2**20  # bytes that hold its 2048 tokens
    flags = ("--backend", "paged", "--device", "cpu", "--kv-cache-memory-bytes", str(one_context), "--port", "0")
    with model_server("grist", *flags, "--threads", "1") as server, ExitStack() as connections:
        for _ in range(8):
            body = {"prompt": "The mill", "max_tokens": 200, "ignore_eos": True}
            connections.enter_context(begun(server.port, "/v1/completions", body))
        wait_until(lambda: 'pagemill_num_requests_running{model_name="grist"} 8.0' in server.get("/metrics").text)


def test_each_request_has_the_context_that_it_asks_for_without_a_reload(grist: ModelServer) -> None:
    """num_ctx over /v1 without a reload: a request there always has all of it, whatever others asked for."""
    text = "The mill stands by the river. " * 20
    small = conversation(text, model="grist", options={"num_ctx": 64})
    assert "exceeds the context length" in error(grist.post("/api/chat", small), 400)
    body = {"messages": [{"role": "user", "content": text}], "max_tokens": 4}
    assert grist.post("/v1/chat/completions", body).json()["usage"]["prompt_tokens"] > 64
    last = lines(grist.post("/api/chat", conversation(QUESTION, model="grist")))[-1]
    assert last["load_duration"] < 0.1e9


def split(model: Path, into: Path, *, num_tensors: int) -> list[Path]:
    """The parts of a GGUF file, each of so many tensors, as llama.cpp's own tool names them."""
    whole = GGUFReader(model)
    field = whole.get_field("general.architecture")
    assert field is not None
    writer = GGUFWriter(into / "split.gguf", field.contents(), split_max_tensors=num_tensors)
    for name, field in whole.fields.items():
        if name.startswith("GGUF.") or name == "general.architecture":
            continue
        inner = field.types[-1] if field.types[0] == GGUFValueType.ARRAY else None
        writer.add_key_value(name, field.contents(), field.types[0], inner)
    for tensor in whole.tensors:
        writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return sorted(into.glob("split-*.gguf"))


def test_a_gguf_in_several_files_is_one_model(tmp_path: Path) -> None:
    """Sharded GGUF."""
    parts = split(GRIST, tmp_path, num_tensors=20)
    assert len(parts) == 3
    with model_server(str(parts[0]), "--served-model-name", "split", "--port", "0", "--threads", "1") as server:
        (model,) = server.get("/api/tags").json()["models"]
        assert (model["name"], model["size"]) == ("split:latest", sum(part.stat().st_size for part in parts))
        said = lines(server.post("/api/chat", conversation(QUESTION, model="split")))
        assert "".join(map(text_of, said)) == CAPITAL
