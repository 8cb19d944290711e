"""A Hugging Face folder served as a user would: `pagemill serve DIR`, the official clients, and its errors."""

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import ollama
import pytest
from openai import OpenAI

from support.served_process import READY_WITHIN_S, clean_environment, served_process
from support.tiny_safetensors import TinyModel

pytestmark = pytest.mark.slow

LIMITS = ("--port", "0", "--device", "cpu", "--threads", "1", "--kv-cache-memory-bytes", "16777216")
QUESTIONS = {
    "What is the capital of Norway?": "The capital of Norway is Oslo.",
    "What is 7 + 5?": "7 + 5 = 12",
    "Reverse: river lamp dog": "dog lamp river",
}


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Of a server of the demo model's folder."""
    with served_process("grist", "--backend", "paged", *LIMITS, step_delay_s=None) as served:
        yield served.address


def test_the_openai_client_streams_from_a_folder_many_at_a_time(address: str) -> None:
    def ask(question: str) -> str:
        stream = client.chat.completions.create(
            model="grist", messages=[{"role": "user", "content": question}], temperature=0, stream=True
        )
        return "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)

    with OpenAI(base_url=f"{address}/v1", api_key="unused") as client, ThreadPoolExecutor(6) as threads:
        assert list(threads.map(ask, [*QUESTIONS] * 2)) == [*QUESTIONS.values()] * 2


def test_the_ollama_client_chats_with_a_folder_and_is_told_what_it_is(address: str) -> None:
    client = ollama.Client(host=address)
    for question, answer in QUESTIONS.items():
        messages = [{"role": "user", "content": question}]
        assert client.chat(model="grist", messages=messages, options={"temperature": 0}).message.content == answer
    shown = client.show("grist")
    client.close()  # type: ignore[no-untyped-call]  # the library lacks the annotation
    assert shown.details is not None
    assert (shown.details.format, shown.details.quantization_level) == ("safetensors", "BF16")


@pytest.mark.parametrize("damage", ["truncated", "missing tensor", "no config"])
def test_what_is_wrong_with_a_folder_is_named_and_the_port_never_says_ready(tmp_path: Path, damage: str) -> None:
    folder = TinyModel(num_shards=2).write(tmp_path / "model")
    shard = sorted(folder.glob("model-*.safetensors"))[0]
    if damage == "truncated":
        shard.write_bytes(shard.read_bytes()[:-100])
        named = shard.name
    elif damage == "missing tensor":
        index = folder / "model.safetensors.index.json"
        index.write_text(index.read_text().replace("model.norm.weight", "model.gnome.weight"))
        named = "model.gnome.weight"
    else:
        (folder / "config.json").unlink()
        named = "config.json"
    command = [sys.executable, "-m", "pagemill", "serve", str(folder), *LIMITS]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=READY_WITHIN_S, env=clean_environment())
    assert ended.returncode == 1
    assert named in ended.stderr
    assert "Traceback" not in ended.stderr
