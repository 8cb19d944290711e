"""Models that are made of others by Ollama's own client, with a system prompt, parameters, messages and licences."""

import re
from collections.abc import Iterator
from pathlib import Path

import ollama
import pytest

from pagemill.cli.modelfile import parse_modelfile
from support.fake_registry import FakeRegistry, fake_registry
from support.model_server import ModelServer, model_server
from support.ollama_client import ollama_client
from support.tiny_gguf import CHAT_TEMPLATE, TinyModel

SMALL = ("--threads", "1", "--max-num-seqs", "2", "--kv-cache-memory-bytes", "33554432")
MESSAGES = [{"role": "user", "content": "ping"}, {"role": "assistant", "content": "pong"}]
GREEDY = {"temperature": 0, "num_predict": 6}
HELLO = [{"role": "user", "content": "Hello"}]


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return TinyModel(seed=1).write(tmp_path_factory.mktemp("gguf") / "tiny.gguf")


@pytest.fixture(scope="module")
def registry() -> Iterator[FakeRegistry]:
    with fake_registry() as running:
        yield running


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModelServer]:
    folder = tmp_path_factory.mktemp("models")
    with model_server("--models-dir", str(folder), "--registries", "*", "--port", "0", *SMALL) as running:
        yield running


@pytest.fixture(scope="module")
def client(server: ModelServer, gguf: Path) -> Iterator[ollama.Client]:
    """One whose server has a model called plain."""
    with ollama_client(server.url, timeout_s=60) as client:
        client.create("plain", files={"tiny.gguf": client.create_blob(gguf)})
        yield client


def answer(client: ollama.Client, model: str, messages: list[dict[str, str]], **options: object) -> tuple[str, int]:
    """Its text, and how many tokens the prompt had."""
    answered = client.chat(model, messages, options=options)
    return str(answered.message.content), int(answered.prompt_eval_count or 0)


def system(text: str) -> dict[str, str]:
    return {"role": "system", "content": text}


def test_what_a_model_is_given_is_shown(client: ollama.Client) -> None:
    told = client.create(
        "mario",
        from_="plain",
        system="You are Mario.",
        parameters={"temperature": 0.2, "num_ctx": 256, "stop": ["<|im_end|>", "END"], "top_k": 5},
        messages=MESSAGES,
        license=["MIT", "and more"],
        stream=True,
    )
    statuses = [str(status.status) for status in told]
    kinds = [re.sub(r" sha256:\w{64}$", "", status) for status in statuses]
    assert kinds == ["using existing layer", *5 * ["creating new layer"], "writing manifest", "success"]
    shown = client.show("mario")
    assert shown.parameters is not None
    assert shown.parameters.splitlines() == [
        "temperature                    0.2",
        "num_ctx                        256",
        'stop                           "<|im_end|>"',
        'stop                           "END"',
        "top_k                          5",
    ]
    assert (shown.license, shown.template) == ("MIT\nand more", CHAT_TEMPLATE)
    assert shown.details is not None
    assert shown.details.parent_model == "plain:latest"


def test_what_a_model_is_given_is_applied(client: ollama.Client) -> None:
    client.create("luigi", from_="plain", system="You are Luigi.", parameters=GREEDY, messages=MESSAGES)
    sent = [system("You are Luigi."), *MESSAGES, *HELLO]
    assert answer(client, "luigi", HELLO) == answer(client, "plain", sent, **GREEDY)
    own = [system("You are nobody."), *HELLO]
    assert answer(client, "luigi", own) == answer(client, "plain", [own[0], *MESSAGES, *HELLO], **GREEDY)
    assert client.chat("luigi", HELLO, options={"num_predict": 2}).eval_count == 2
    assert client.generate("luigi", "Hello").eval_count == 6


def test_two_models_of_one_file_are_two_by_their_names(client: ollama.Client) -> None:
    client.create("short", from_="plain", parameters={"num_ctx": 128})
    client.create("long", from_="plain", parameters={"num_ctx": 512})
    for name in ("short", "long"):
        client.generate(name, "")
    loaded = {str(model.model): model for model in client.ps().models}
    assert [loaded[f"{name}:latest"].context_length for name in ("short", "long")] == [128, 512]
    assert loaded["short:latest"].digest == loaded["long:latest"].digest


def test_a_model_has_what_its_parent_has_but_for_what_it_is_given(client: ollama.Client) -> None:
    client.create("parent", from_="plain", system="You are A.", parameters=GREEDY, messages=MESSAGES, license="MIT")
    client.create("child", from_="parent", system="You are B.", parameters={"num_predict": 3})
    assert client.chat("child", HELLO).eval_count == 3
    sent = [system("You are B."), *MESSAGES, *HELLO]
    assert answer(client, "child", HELLO) == answer(client, "plain", sent, temperature=0, num_predict=3)
    assert client.show("child").license == "MIT"


def test_a_loaded_model_that_is_given_something_else_is_another(client: ollama.Client) -> None:
    client.create("changing", from_="plain", parameters={"num_predict": 2})
    assert client.generate("changing", "Hello").eval_count == 2
    client.create("changing", from_="changing", parameters={"num_predict": 4})
    assert client.generate("changing", "Hello").eval_count == 4


def test_what_a_pulled_model_brings_is_applied(client: ollama.Client, registry: FakeRegistry, gguf: Path) -> None:
    registry.put(
        gguf.read_bytes(),
        "brings",
        template=b"{{ .System }} {{ .Prompt }}",
        system=b"You are pulled.",
        params=b'{"num_predict":6,"temperature":0,"stop":["<|im_start|>"]}',
    )
    name = registry.name("brings")
    client.pull(name, insecure=True)
    assert answer(client, name, HELLO) == answer(client, "plain", [system("You are pulled."), *HELLO], **GREEDY)
    shown = client.show(name)
    assert (shown.template, "{{" in str(shown.modelfile).replace(CHAT_TEMPLATE, "")) == (CHAT_TEMPLATE, False)
    client.create("copied", from_=name, template="{{ .System }} {{ .Prompt }}")  # as that model has it


def test_a_modelfile_makes_the_same_model_again(server: ModelServer, client: ollama.Client) -> None:
    client.create(
        "first",
        from_="plain",
        system='Two lines,\n"quoted"',
        parameters={"stop": ["\n\n", "a b", " x ", "<|im_end|>"], "temperature": 1.0, "use_mmap": False},
        messages=[*MESSAGES, {"role": "system", "content": ""}],
        license=["MIT\n\nand so on\n"],
    )
    shown = server.post("/api/show", {"model": "first"}).json()
    written = parse_modelfile(shown["modelfile"].encode())
    assert (written.source, written.template) == ("first:latest", CHAT_TEMPLATE)
    made = server.post("/api/create", {"model": "second", "from": "plain", "stream": False, **written.request()})
    assert made.json() == {"status": "success"}
    again = server.post("/api/show", {"model": "second"}).json()
    for part in ("system", "parameters", "messages", "license", "template"):
        assert again[part] == shown[part]


@pytest.mark.parametrize("source", ["plain", None])
def test_a_template_that_is_not_the_models_own_is_refused(
    client: ollama.Client, gguf: Path, source: str | None
) -> None:
    files = None if source else {"tiny.gguf": client.create_blob(gguf)}
    with pytest.raises(ollama.ResponseError, match="template is not supported: a model's own chat template") as refused:
        client.create("other", from_=source, files=files, template="{{ .Prompt }}")
    assert refused.value.status_code == 400


def test_a_deleted_model_leaves_its_parent_what_they_share(client: ollama.Client) -> None:
    client.create("kept", from_="plain", system="You are kept.")
    client.create("gone", from_="kept", messages=MESSAGES)
    client.delete("gone")
    assert "You are kept." in str(client.show("kept").modelfile)
