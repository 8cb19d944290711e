"""What new models are made of, in the files that Ollama reads."""

import json
from pathlib import Path
from typing import Any

import pytest

from pagemill.errors import InvalidRequestError, ModelLoadError, ModelNotFoundError
from pagemill.store.models_dir import ModelsDir
from pagemill.store.registry import blobs, creation, verbs
from pagemill.store.registry.layers import Additions, with_additions
from pagemill.store.registry.names import ModelName
from support.registry_models import digest_of, layer, manifest_path, write_blob, write_model

GGUF = b"GGUF and so on"
NOTHING = Additions()
EVERYTHING = Additions(
    system="You are Mario.",
    parameters={"temperature": 0.2, "stop": ["END"]},
    messages=[{"role": "user", "content": "Hi"}],
    licenses=["MIT", "and more"],
)


def name(text: str) -> ModelName:
    return ModelName.parse(text)


def manifest_of(models_dir: Path, model: str) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(manifest_path(models_dir, model).read_bytes())
    return read


def layers_of(models_dir: Path, model: str) -> dict[str, list[bytes]]:
    """What is in a model's blobs, by the last word of its media type; each is as long as the manifest says."""
    found: dict[str, list[bytes]] = {}
    for item in manifest_of(models_dir, model)["layers"]:
        content = blobs.path_of(models_dir, item["digest"]).read_bytes()
        assert (digest_of(content), len(content)) == (item["digest"], item["size"])
        found.setdefault(item["mediaType"].removeprefix("application/vnd.ollama.image."), []).append(content)
    return found


def create(models_dir: Path, model: str, added: Additions = NOTHING, source: str | None = None) -> None:
    if source is None:
        base = creation.of_file(models_dir, write_blob(models_dir, GGUF))
    else:
        base = creation.of_model(models_dir, name(source))
    verbs.put(models_dir, name(model), with_additions(models_dir, base, added))


def test_a_created_model_is_one_that_ollama_can_read(tmp_path: Path) -> None:
    create(tmp_path, "made")
    manifest = manifest_of(tmp_path, "made")
    assert manifest["schemaVersion"] == 2
    assert manifest["layers"] == [layer("application/vnd.ollama.image.model", GGUF)]
    config = blobs.path_of(tmp_path, manifest["config"]["digest"]).read_bytes()
    assert (digest_of(config), len(config)) == (manifest["config"]["digest"], manifest["config"]["size"])
    assert json.loads(config)["model_format"] == "gguf"
    assert json.loads(config)["rootfs"]["diff_ids"] == [digest_of(GGUF)]


def test_what_is_added_is_in_layers_of_its_own(tmp_path: Path) -> None:
    create(tmp_path, "made", EVERYTHING)
    found = layers_of(tmp_path, "made")
    assert found.pop("params") == [b'{"temperature":0.2,"stop":["END"]}\n']
    assert found.pop("messages") == [b'[{"role":"user","content":"Hi"}]\n']
    assert found == {"model": [GGUF], "system": [b"You are Mario."], "license": [b"MIT", b"and more"]}


def test_a_model_made_from_another_has_its_layers_and_says_so(tmp_path: Path) -> None:
    create(tmp_path, "parent", EVERYTHING)
    create(tmp_path, "child", source="parent")
    assert layers_of(tmp_path, "child") == layers_of(tmp_path, "parent")
    assert {item["from"] for item in manifest_of(tmp_path, "child")["layers"]} == {"parent:latest"}
    assert manifest_of(tmp_path, "child")["config"] == manifest_of(tmp_path, "parent")["config"]


def test_what_is_added_goes_before_what_the_parent_has(tmp_path: Path) -> None:
    write_model(tmp_path, "parent", GGUF, template=b"{{ .Prompt }}", params=b'{"top_k":5,"stop":["a","b"]}')
    create(tmp_path, "child", EVERYTHING, source="parent")
    changes = Additions("You are Luigi.", {"stop": ["c"]}, [{"role": "assistant", "content": "Ho"}], ["MIT", "GPL"])
    create(tmp_path, "grandchild", changes, source="child")
    found = layers_of(tmp_path, "grandchild")
    assert json.loads(found.pop("params")[0]) == {"top_k": 5, "temperature": 0.2, "stop": ["c"]}
    assert json.loads(found.pop("messages")[0]) == [{"role": "assistant", "content": "Ho"}]
    assert found == {
        "model": [GGUF],
        "template": [b"{{ .Prompt }}"],
        "system": [b"You are Luigi."],
        "license": [b"and more", b"MIT", b"GPL"],
    }


def test_what_is_created_is_read_back(tmp_path: Path) -> None:
    create(tmp_path, "made", EVERYTHING)
    (reference,) = ModelsDir(tmp_path).look()
    defaults = reference.defaults
    assert defaults is not None
    assert (defaults.system, defaults.messages) == (EVERYTHING.system, tuple(EVERYTHING.messages))
    assert defaults.parameters == {"temperature": 0.2, "stop": ("END",)}
    assert [path.read_text() for path in defaults.licenses] == ["MIT", "and more"]


def test_a_model_that_is_not_there_or_cannot_be_served_is_no_base(tmp_path: Path) -> None:
    write_model(tmp_path, "adapted", GGUF, adapter=b"GGUF")
    with pytest.raises(ModelNotFoundError, match="model 'nothing:latest' not found"):
        creation.of_model(tmp_path, name("nothing"))
    with pytest.raises(ModelLoadError, match="has an adapter"):
        creation.of_model(tmp_path, name("adapted"))


def test_a_file_that_is_not_there_or_no_gguf_is_no_base(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequestError, match=f"there is no blob {digest_of(b'not here')}; send it first"):
        creation.of_file(tmp_path, digest_of(b"not here"))
    with pytest.raises(InvalidRequestError, match="is no GGUF file: it begins with b'some'"):
        creation.of_file(tmp_path, write_blob(tmp_path, b"some text"))
