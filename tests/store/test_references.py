"""References: which names and paths resolve to which model, and what is refused."""

import hashlib
import json
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pagemill.errors import ModelLoadError, ModelNotFoundError
from pagemill.store import references
from pagemill.store.references import gguf_reference, resolve_local, with_tag

CONTENT = b"GGUF" + bytes(range(200))
SHARD_OF = {"embedding": "model-1.safetensors", "head": "model-2.safetensors", "norm": "model-2.safetensors"}


@pytest.fixture
def model_file(tmp_path: Path) -> Path:
    path = tmp_path / "tiny-q8_0.gguf"
    path.write_bytes(CONTENT)
    os.utime(path, (1_700_000_000, 1_700_000_000))
    return path


@pytest.fixture
def model_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "qwen-tiny"
    folder.mkdir()
    files = {
        "config.json": b"{}",
        "tokenizer.json": b"{ }",
        "chat_template.jinja": b"{{ messages }}",
        "model-1.safetensors": b"weights, part 1",
        "model-2.safetensors": b"part 2",
        "model.safetensors.index.json": json.dumps({"weight_map": SHARD_OF}).encode(),
    }
    for index, (name, content) in enumerate(files.items()):
        (folder / name).write_bytes(content)
        os.utime(folder / name, (1_700_000_000, 1_700_000_000 + 100 * (index % 4)))
    return folder


def test_a_path_resolves_to_its_file(model_file: Path) -> None:
    reference = resolve_local(str(model_file))
    assert reference.name == "tiny-q8_0"
    assert reference.path == model_file
    assert reference.format == "gguf"
    assert reference.size_bytes == len(CONTENT)
    assert reference.modified_at == datetime.fromtimestamp(1_700_000_000, tz=UTC)


def test_clients_may_use_the_file_name_with_or_without_tag_or_the_path(model_file: Path) -> None:
    aliases = resolve_local(str(model_file)).aliases
    assert {"tiny-q8_0", "tiny-q8_0:latest", str(model_file)} <= set(aliases)


def test_a_relative_path_and_a_home_path_resolve_local(model_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(model_file.parent)
    monkeypatch.setenv("HOME", str(model_file.parent))
    assert resolve_local("tiny-q8_0.gguf").path.samefile(model_file)
    assert resolve_local("~/tiny-q8_0.gguf").path.samefile(model_file)


def test_served_names_replace_the_models_own(model_file: Path) -> None:
    reference = resolve_local(str(model_file), ["gpt-4", "mine:latest", "mine:v2"])
    assert reference.name == "gpt-4"
    assert set(reference.aliases) == {"gpt-4", "gpt-4:latest", "mine:latest", "mine", "mine:v2"}


@pytest.mark.parametrize("name", ["grist", "grist:latest"])
def test_the_demo_model_resolves_inside_the_package(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "grist").mkdir()
    (tmp_path / "grist" / "grist-q8_0.gguf").write_bytes(CONTENT)
    monkeypatch.setattr(references, "DEMO_FOLDER", tmp_path)
    reference = resolve_local(name)
    assert reference.name == "grist"
    assert reference.aliases == ("grist", "grist:latest")
    assert reference.path == tmp_path / "grist" / "grist-q8_0.gguf"


def test_an_installation_without_the_demo_model_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(references, "DEMO_FOLDER", tmp_path)
    with pytest.raises(ModelNotFoundError, match=r"grist.*lacks.*grist-q8_0\.gguf"):
        resolve_local("grist")


def test_an_unknown_name_says_what_was_tried() -> None:
    with pytest.raises(ModelNotFoundError, match=r"'nemo'.*not a built-in model \(grist\).*no file or folder nemo"):
        resolve_local("nemo")


def test_a_folder_resolves_to_its_model(model_folder: Path) -> None:
    reference = resolve_local(str(model_folder))
    assert (reference.name, reference.path, reference.format) == ("qwen-tiny", model_folder, "safetensors")
    assert reference.size_bytes == len(b"weights, part 1") + len(b"part 2")
    assert reference.modified_at == datetime.fromtimestamp(1_700_000_300, tz=UTC)
    assert {"qwen-tiny", "qwen-tiny:latest", str(model_folder)} <= set(reference.aliases)


def test_a_folder_named_from_within_has_its_name(model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(model_folder)
    assert resolve_local(".").name == "qwen-tiny"


def test_the_size_is_of_what_is_loaded(model_folder: Path) -> None:
    (model_folder / "pytorch_model.bin").write_bytes(b"the same weights again")
    (model_folder / "consolidated.safetensors").write_bytes(b"and again, as another program wants them")
    assert resolve_local(str(model_folder)).size_bytes == len(b"weights, part 1") + len(b"part 2")
    (model_folder / "model.safetensors").write_bytes(b"in one")
    assert resolve_local(str(model_folder)).size_bytes == len(b"in one")
    (model_folder / "model.safetensors").unlink()
    (model_folder / "model.safetensors.index.json").unlink()
    assert resolve_local(str(model_folder)).size_bytes == len(b"the same weights again")


@pytest.mark.parametrize("index", [b"", b"[]", b"{}", b'{"weight_map": 5}', b'{"weight_map": {"a": 5, "b": "no.bin"}}'])
def test_a_damaged_index_is_for_the_backend_to_complain_of(index: bytes, model_folder: Path) -> None:
    (model_folder / "model.safetensors.index.json").write_bytes(index)
    assert resolve_local(str(model_folder)).size_bytes == 0


def test_the_digest_of_a_folder_is_of_its_files_and_not_of_its_place(model_folder: Path) -> None:
    digest = resolve_local(str(model_folder)).digest()
    assert digest.removeprefix("sha256:").isalnum()
    moved = model_folder.rename(model_folder.with_name("moved"))
    (moved / "README.md").write_text("changes nothing")
    assert resolve_local(str(moved)).digest() == digest


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "chat_template.jinja", "model-2.safetensors"])
def test_the_digest_of_a_folder_changes_with_each_of_its_files(name: str, model_folder: Path) -> None:
    digest = resolve_local(str(model_folder)).digest()
    path = model_folder / name
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    changed = resolve_local(str(model_folder)).digest()
    assert changed != digest


def test_the_digest_of_a_folder_changes_with_the_names_of_its_files(model_folder: Path) -> None:
    digest = resolve_local(str(model_folder)).digest()
    (model_folder / "tokenizer.json").rename(model_folder / "tokenizer_.json")
    assert resolve_local(str(model_folder)).digest() != digest


def test_a_folder_that_went_away_has_no_digest(model_folder: Path) -> None:
    reference = resolve_local(str(model_folder))
    (model_folder / "tokenizer.json").unlink()
    (model_folder / "tokenizer.json").mkdir()
    with pytest.raises(ModelLoadError, match=r"can't read the model file .*tokenizer\.json"):
        reference.digest()


def test_a_folder_without_config_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match=r"is no model folder: it has no config\.json"):
        resolve_local(str(tmp_path))


def test_a_folder_of_gguf_files_says_to_name_one(model_file: Path) -> None:
    with pytest.raises(ModelLoadError, match=r"1 GGUF file\(s\); name one of them, as .*tiny-q8_0\.gguf"):
        resolve_local(str(model_file.parent))


def test_the_paged_backend_gets_the_demo_models_folder() -> None:
    reference = resolve_local("grist", backend="paged")
    assert (reference.name, reference.format) == ("grist", "safetensors")
    assert reference.path == references.DEMO_FOLDER / "grist"
    assert reference.size_bytes == (reference.path / "model.safetensors").stat().st_size
    for backend in ("auto", "gguf", "fake"):
        assert resolve_local("grist", backend=backend).format == "gguf"


def test_an_installation_without_the_demo_folder_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(references, "DEMO_FOLDER", tmp_path)
    with pytest.raises(ModelNotFoundError, match=r"grist.*lacks.*config\.json"):
        resolve_local("grist", backend="paged")


@pytest.mark.parametrize("content", [b"", b"GGU", b"PK\x03\x04 a zip"])
def test_a_file_without_the_magic_is_refused_by_name(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "broken.gguf"
    path.write_bytes(content)
    with pytest.raises(ModelLoadError, match=r"broken\.gguf is not a GGUF file"):
        resolve_local(str(path))


def test_the_digest_is_the_files_sha256(model_file: Path) -> None:
    assert resolve_local(str(model_file)).digest() == "sha256:" + hashlib.sha256(CONTENT).hexdigest()


def test_the_digest_is_computed_once(model_file: Path) -> None:
    reference = resolve_local(str(model_file))
    first = reference.digest()
    model_file.unlink()
    assert reference.digest() == first


def test_a_file_that_went_away_has_no_digest(model_file: Path) -> None:
    reference = resolve_local(str(model_file))
    model_file.unlink()
    with pytest.raises(ModelLoadError, match="can't read the model file"):
        reference.digest()


def test_the_scripted_model_resolves_without_a_file() -> None:
    reference = resolve_local("fake", ["load-test"])
    assert (reference.name, reference.format, reference.size_bytes) == ("load-test", "fake", 0)
    assert reference.digest() == "sha256:" + hashlib.sha256(b"load-test").hexdigest()


@pytest.mark.parametrize(
    ("name", "tagged"),
    [("grist", "grist:latest"), ("grist:q4", "grist:q4"), ("host:80/a/b", "host:80/a/b:latest"), ("a/b:c", "a/b:c")],
)
def test_a_name_gets_its_default_tag(name: str, tagged: str) -> None:
    assert with_tag(name) == tagged


def test_the_identity_reads_the_ends_of_a_large_file_only(model_file: Path) -> None:
    with model_file.open("r+b") as file:
        file.seek(6 * 2**20)
        file.write(b"end")
    one = resolve_local(str(model_file)).identity()
    with model_file.open("r+b") as file:
        file.seek(3 * 2**20)
        file.write(b"middle")
    assert resolve_local(str(model_file)).identity() == one
    with model_file.open("r+b") as file:
        file.seek(6 * 2**20)
        file.write(b"END")
    assert resolve_local(str(model_file)).identity() != one


def test_the_identity_is_the_digest_where_that_came_with_the_model(model_file: Path) -> None:
    known = gguf_reference(model_file, ["known"], sha256="0" * 64)
    assert known.identity() == known.digest() == f"sha256:{'0' * 64}"
    reference = resolve_local(str(model_file))
    identity = reference.identity()
    assert reference.digest() != identity == reference.identity()
