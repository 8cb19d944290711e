"""pagemill create: a Modelfile becomes a model, by a server that runs or in a folder of this machine."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cli.conftest import Command
from pagemill.cli.main import EXIT_FAILED, EXIT_INTERRUPTED
from support.model_server import ModelServer, model_server
from support.registry_models import digest_of, manifest_path, write_model
from support.served_process import clean_environment
from support.tiny_gguf import TinyModel

GGUF = b"GGUF" + bytes(10**5)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def server(models: Path) -> Iterator[ModelServer]:
    with model_server(
        "--models-dir", str(models), "--port", "0", "--threads", "1", "--max-body-bytes", "20000"
    ) as runs:
        yield runs


@pytest.fixture(params=["server", "folder"])
def where(request: pytest.FixtureRequest, models: Path) -> tuple[str, ...]:
    """The flags that say where the models are, in `models` either way."""
    if request.param == "server":
        return ("--server", request.getfixturevalue("server").url)
    return ("--models-dir", str(models), "--threads", "1")


def written(folder: Path, text: str, name: str = "Modelfile") -> str:
    path = folder / name
    path.write_text(text)
    return str(path)


def layers(models: Path, name: str) -> dict[str, bytes]:
    """What the model's manifest names, by kind."""
    manifest: dict[str, Any] = json.loads(manifest_path(models, name).read_text())
    return {
        layer["mediaType"].rpartition(".")[2]: (models / "blobs" / layer["digest"].replace(":", "-")).read_bytes()
        for layer in manifest["layers"]
    }


def test_a_modelfile_becomes_a_model(pagemill: Command, where: tuple[str, ...], models: Path, tmp_path: Path) -> None:
    (tmp_path / "weights.gguf").write_bytes(GGUF)
    text = 'FROM ./weights.gguf\nSYSTEM """Be\nbrief."""\nPARAMETER top_k 5\nMESSAGE user hi\nLICENSE MIT\n'
    outcome = pagemill("create", "mine", "-f", written(tmp_path, text), *where)
    assert outcome.code == 0, outcome.err
    steps = outcome.err.splitlines()
    assert (steps[0], steps[-2:]) == ("gathering model components", ["writing manifest", "success"])
    made = layers(models, "mine")
    assert (made["model"], made["system"], made["license"]) == (GGUF, b"Be\nbrief.", b"MIT")
    assert json.loads(made["params"]) == {"top_k": 5}
    assert json.loads(made["messages"]) == [{"role": "user", "content": "hi"}]


def test_a_file_that_is_there_is_not_sent_again(pagemill: Command, where: tuple[str, ...], tmp_path: Path) -> None:
    content = GGUF + where[0].encode()  # another for each of the two
    (tmp_path / "weights.gguf").write_bytes(content)
    modelfile = written(tmp_path, "FROM weights.gguf")
    told = [pagemill("create", "sent", "-f", modelfile, *where).err.splitlines() for _ in range(2)]
    assert [f"copying file {digest_of(content)}" in steps for steps in told] == [True, False]
    assert told[1][-1] == "success"


def test_a_model_is_made_of_another(pagemill: Command, where: tuple[str, ...], models: Path, tmp_path: Path) -> None:
    write_model(models, "base", GGUF, system=b"one")
    assert pagemill("create", "derived", "-f", written(tmp_path, "FROM base\nSYSTEM two"), *where).code == 0
    assert layers(models, "derived")["system"] == b"two"


def test_the_weights_are_quantized_if_asked_for(
    pagemill: Command, where: tuple[str, ...], models: Path, tmp_path: Path
) -> None:
    source = TinyModel(embedding=256, feed_forward=256).write(tmp_path / "f.gguf")
    outcome = pagemill("create", "small", "-q", "q4_K_M", "-f", written(tmp_path, f"FROM {source}"), *where)
    assert outcome.code == 0, outcome.err
    assert "quantizing F32 model to Q4_K_M" in outcome.err.splitlines()
    assert len(layers(models, "small")["model"]) < source.stat().st_size / 4


def test_the_modelfile_of_the_working_folder_is_the_default(
    pagemill: Command, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "weights.gguf").write_bytes(GGUF)
    written(tmp_path, "FROM ./weights.gguf\nPARAMETER mirostat 1")
    monkeypatch.chdir(tmp_path)
    outcome = pagemill("create", "here", "--models-dir", str(models))
    assert outcome.code == 0, outcome.err
    assert "Modelfile: line 2: parameter mirostat has no effect" in outcome.err


def test_standard_input_may_be_the_modelfile(models: Path, tmp_path: Path) -> None:
    (tmp_path / "weights.gguf").write_bytes(GGUF)
    command = [sys.executable, "-m", "pagemill", "create", "piped", "-f", "-", "--models-dir", str(models)]
    text = "FROM ./weights.gguf\nSYSTEM ä".encode("utf-16")
    subprocess.run(command, input=text, cwd=tmp_path, env=clean_environment(), check=True, stderr=subprocess.PIPE)
    assert layers(models, "piped") == {"model": GGUF, "system": "ä".encode()}


def test_what_is_interrupted_leaves_nothing(tmp_path: Path) -> None:
    source = TinyModel(embedding=1024, feed_forward=4096, num_layers=4).write(tmp_path / "large.gguf")
    modelfile = written(tmp_path, f"FROM {source}")
    arguments = ["create", "no", "-f", modelfile, "-q", "q4_K_M", "--models-dir", str(tmp_path / "models")]
    command = [sys.executable, "-m", "pagemill", *arguments, "--threads", "1"]
    with subprocess.Popen(
        command,
        env=clean_environment(),
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore it
    ) as process:
        assert process.stderr is not None
        assert any("quantizing" in line for line in iter(process.stderr.readline, ""))
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == EXIT_INTERRUPTED
    assert [path.name[:7] for path in (tmp_path / "models" / "blobs").glob("*")].count("sha256-") == 2
    assert not list((tmp_path / "models" / "blobs").glob(".*"))


def test_a_folder_that_is_not_there_is_made(pagemill: Command, tmp_path: Path) -> None:
    (tmp_path / "weights.gguf").write_bytes(GGUF)
    modelfile = written(tmp_path, "FROM ./weights.gguf")
    assert pagemill("create", "first", "-f", modelfile, "--models-dir", str(tmp_path / "new")).code == 0
    assert layers(tmp_path / "new", "first") == {"model": GGUF}


@pytest.mark.parametrize(
    ("text", "flags", "complaint"),
    [
        ("FROM x\nFROB y", (), "Modelfile: line 2: FROB: no such instruction"),
        ("FROM ./none.gguf", (), "FROM ./none.gguf: there is no file"),
        ("FROM none.gguf", (), "FROM none.gguf: there is no file"),
        ("FROM .", (), "is a folder; a model is made of a GGUF file or of another model"),
        ("FROM ./Modelfile", (), "is no GGUF file: it begins with b'FROM'"),
        ("FROM nothing", (), "model 'nothing' not found"),
        ("FROM base", ("-q", "q9"), "unsupported quantization type q9"),
        ("FROM base\nTEMPLATE {{ .Prompt }}", (), "template is not supported"),
    ],
)
def test_what_cannot_be_made_fails_by_its_name(
    pagemill: Command,
    where: tuple[str, ...],
    models: Path,
    tmp_path: Path,
    text: str,
    flags: tuple[str, ...],
    complaint: str,
) -> None:
    TinyModel().write(tmp_path / "tiny.gguf")
    write_model(models, "base", (tmp_path / "tiny.gguf").read_bytes())
    outcome = pagemill("create", "no", "-f", written(tmp_path, text), *flags, *where)
    assert (outcome.code, complaint in outcome.err) == (EXIT_FAILED, True), outcome.err
    assert not manifest_path(models, "no").exists()


def test_a_modelfile_that_is_not_there_is_named(pagemill: Command, tmp_path: Path) -> None:
    outcome = pagemill("create", "no", "-f", str(tmp_path / "none"), "--models-dir", str(tmp_path))
    assert (outcome.code, outcome.err) == (
        EXIT_FAILED,
        f"pagemill: can't read the Modelfile {tmp_path / 'none'} (-f): No such file or directory\n",
    )


def test_a_file_may_be_larger_than_a_request(
    server: ModelServer, models: Path, pagemill: Command, tmp_path: Path
) -> None:
    content = b"GGUF" + bytes(5 * 2**20)
    (tmp_path / "large.gguf").write_bytes(content)
    modelfile = written(tmp_path, "FROM large.gguf")
    assert pagemill("create", "large", "-f", modelfile, "--server", server.url).code == 0
    assert layers(models, "large") == {"model": content}
