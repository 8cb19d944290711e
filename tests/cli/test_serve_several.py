"""`pagemill serve` with several models: real processes, llama.cpp models of a few hundred kB."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from openai import InternalServerError, NotFoundError, OpenAI

from cli.conftest import Command
from support.served_process import ServedProcess, served_process
from support.tiny_gguf import TinyModel

NAMES = ("one", "org/three", "two")
SMALL = ("--port", "0", "--threads", "1", "--max-model-len", "64", "--max-num-seqs", "2")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("models")
    for seed, name in enumerate(NAMES):
        path = found / f"{name}.gguf"
        path.parent.mkdir(exist_ok=True)
        TinyModel(seed=seed).write(path)
    return found


@pytest.fixture(scope="module")
def served(folder: Path) -> Iterator[ServedProcess]:
    with served_process("--models-dir", str(folder), "--max-loaded-models", "2", *SMALL, step_delay_s=None) as served:
        yield served


@pytest.fixture
def client(served: ServedProcess) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{served.address}/v1", api_key="unused", max_retries=0) as client:
        yield client


def get(served: ServedProcess, path: str) -> httpx.Response:
    return httpx.get(served.address + path, timeout=30)


def answer(client: OpenAI, model: str) -> str:
    done = client.completions.create(model=model, prompt="One two", max_tokens=8, temperature=0)
    assert done.model == model
    return done.choices[0].text


def loaded(served: ServedProcess) -> list[str]:
    return [model["name"] for model in get(served, "/api/ps").json()["models"]]


def test_a_folders_models_are_listed_and_none_is_loaded_at_the_start(served: ServedProcess, client: OpenAI) -> None:
    assert get(served, "/readyz").status_code == 200
    assert loaded(served) == []
    assert [model.id for model in client.models.list()] == list(NAMES)
    tags = get(served, "/api/tags").json()["models"]
    assert sorted(model["name"] for model in tags) == ["one:latest", "org/three:latest", "two:latest"]


def test_each_model_answers_for_itself_and_the_least_recently_used_makes_room(
    served: ServedProcess, client: OpenAI, pagemill: Command
) -> None:
    answers = {name: answer(client, name) for name in NAMES}
    assert len(set(answers.values())) == 3
    assert sorted(loaded(served)) == ["org/three:latest", "two:latest"]
    assert answer(client, "one") == answers["one"]  # loaded anew, it says the same
    assert sorted(loaded(served)) == ["one:latest", "two:latest"]
    shown = pagemill("ps", "--server", served.address).out
    assert "one:latest" in shown
    assert "three" not in shown
    assert pagemill("stop", "one", "--server", served.address).code == 0
    assert loaded(served) == ["two:latest"]


def test_a_request_that_names_no_model_is_told_to(served: ServedProcess, client: OpenAI) -> None:
    refused = httpx.post(f"{served.address}/v1/completions", json={"prompt": "a"})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "model")
    assert "model is required" in refused.json()["error"]["message"]
    for path in ("/tokenize", "/api/generate", "/v1/embeddings"):
        assert httpx.post(served.address + path, json={"prompt": "a", "input": "a"}).status_code == 400
    with pytest.raises(NotFoundError, match="'four' does not exist"):
        answer(client, "four")


def test_files_that_come_and_go_are_served_and_gone(served: ServedProcess, client: OpenAI, folder: Path) -> None:
    path = TinyModel(seed=9).write(folder / "late.gguf")
    assert answer(client, "late")
    assert "late:latest" in loaded(served)
    path.unlink()
    with pytest.raises(NotFoundError, match="'late' does not exist"):
        answer(client, "late")
    assert [model.id for model in client.models.list()] == list(NAMES)


def test_the_first_of_several_models_is_loaded_at_once_and_the_default(folder: Path) -> None:
    paths = [str(folder / name) for name in ("two.gguf", "one.gguf")]
    with served_process(*paths, *SMALL, step_delay_s=None) as served:
        assert loaded(served) == ["two:latest"]
        done = httpx.post(f"{served.address}/v1/completions", json={"prompt": "One two", "max_tokens": 2}, timeout=30)
        assert done.json()["model"] == "two"
        assert [model["id"] for model in get(served, "/v1/models").json()["data"]] == ["two", "one"]


def test_a_model_beyond_the_budget_is_refused_with_the_numbers(folder: Path) -> None:
    with served_process(
        "--models-dir", str(folder), "--memory-budget-bytes", "1000000", *SMALL, step_delay_s=None
    ) as served:
        with (
            OpenAI(base_url=f"{served.address}/v1", api_key="unused", max_retries=0) as client,
            pytest.raises(InternalServerError, match=r"one needs \d+ MiB \(weights .*the budget is 1 MiB") as raised,
        ):
            answer(client, "one")
        assert raised.value.code == "model_too_large"
        assert get(served, "/readyz").status_code == 200


def test_further_models_given_twice_are_an_error(pagemill: Command) -> None:
    outcome = pagemill("serve", "grist", "fake", "--further-models", "other")
    assert outcome.code == 2
    assert "given twice" in outcome.err


def test_a_models_folder_that_is_none_ends_the_server(tmp_path: Path) -> None:
    nowhere = str(tmp_path / "nowhere")
    with served_process("--models-dir", nowhere, "--port", "0", step_delay_s=None, wait_ready=False) as served:
        assert served.wait() == 2
        assert f"models_dir: can't read {nowhere}" in served.log
