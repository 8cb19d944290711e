"""What can be served: models that are named, and those of the models folder."""

import os
from pathlib import Path
from typing import Any

import pytest

from pagemill.errors import ModelNotFoundError, SettingsError
from pagemill.settings import Settings
from pagemill.store.catalog import Catalog, make_catalog
from pagemill.store.model_defaults import ModelDefaults
from pagemill.store.references import resolve_local
from support.registry_models import write_model


def write_gguf(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"GGUF and so on")
    return path


def names(catalog: Catalog) -> list[str]:
    return [reference.name for reference in catalog.references()]


def test_without_a_models_folder_there_is_the_default_model() -> None:
    catalog = make_catalog(Settings())
    assert names(catalog) == ["grist"]
    assert catalog.default is catalog.find("grist:latest")
    assert catalog.find("other") is None


def test_a_models_folder_stands_for_itself(tmp_path: Path) -> None:
    write_gguf(tmp_path / "one.gguf")
    catalog = make_catalog(Settings(models_dir=str(tmp_path)))
    assert names(catalog) == ["one"]
    assert catalog.default is None


def test_models_that_are_named_come_first_and_the_first_is_the_default(tmp_path: Path) -> None:
    write_gguf(tmp_path / "models" / "one.gguf")
    other = write_gguf(tmp_path / "other.gguf")
    models_dir = str(tmp_path / "models")
    catalog = make_catalog(Settings(model="grist", further_models=(str(other),), models_dir=models_dir))
    assert names(catalog) == ["grist", "other", "one"]
    assert catalog.default is not None
    assert catalog.default.name == "grist"


def test_a_name_that_is_taken_hides_that_of_the_folder(tmp_path: Path) -> None:
    write_gguf(tmp_path / "grist.gguf")
    catalog = make_catalog(Settings(model="grist", models_dir=str(tmp_path)))
    assert names(catalog) == ["grist"]
    assert catalog.find("grist") is catalog.default


def test_a_model_may_be_named_as_the_folder_has_it(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_gguf(tmp_path / "org" / f"{name}.gguf")
    catalog = make_catalog(Settings(model="org/two", models_dir=str(tmp_path)))
    assert names(catalog) == ["org/two", "org/one"]


def test_a_model_of_the_folder_can_be_given_names(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "two.gguf")
    catalog = make_catalog(Settings(model="two", served_model_name=("gpt-4",), models_dir=str(tmp_path)))
    assert names(catalog) == ["gpt-4"]
    assert catalog.find("two") is catalog.find("gpt-4") is catalog.default
    assert catalog.default is not None
    assert catalog.default.path == path  # type: ignore[union-attr]


def test_a_pulled_model_that_is_given_names_keeps_what_it_brings(tmp_path: Path) -> None:
    write_model(tmp_path, "two", b"GGUF and so on", system=b"Be Mario.")
    catalog = make_catalog(Settings(model="two", served_model_name=("gpt-4",), models_dir=str(tmp_path)))
    assert catalog.default is not None
    assert (catalog.default.name, catalog.default.defaults) == ("gpt-4", ModelDefaults(system="Be Mario."))


def test_a_model_that_is_named_as_the_folder_has_it_is_what_the_folder_has_now(tmp_path: Path) -> None:
    path = write_model(tmp_path, "two", b"GGUF and so on", system=b"Be Mario.")
    catalog = make_catalog(Settings(model="two", models_dir=str(tmp_path)))
    before = catalog.find("two")
    assert catalog.default is before is catalog.find("two:latest")
    write_model(tmp_path, "two", b"GGUF and so on", system=b"Be Luigi.")
    os.utime(path.parent, ns=(1, 1))  # another time, however coarse the clock
    for now in (catalog.find("two"), catalog.default, *catalog.references()):
        assert now is not None
        assert now.defaults == ModelDefaults(system="Be Luigi.")
    path.unlink()
    assert catalog.find("two") is None
    assert catalog.references() == ()
    assert catalog.default is not None


def test_a_model_that_is_nowhere_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="'nowhere'"):
        make_catalog(Settings(model="nowhere", models_dir=str(tmp_path)))


def test_two_models_of_one_name_are_an_error(tmp_path: Path) -> None:
    paths = [write_gguf(tmp_path / folder / "same.gguf") for folder in ("a", "b")]
    with pytest.raises(SettingsError, match="two models are called 'same'"):
        Catalog([resolve_local(str(path)) for path in paths])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"further_models": ("x",), "chat_template": "t"}, "chat_template is of one model"),
        ({"further_models": ("x",), "model_sha256": "0" * 64}, "model_sha256 is of one model"),
        ({"models_dir": "x", "prefix_snapshot": ("a.snapshot",)}, r"prefix_snapshot \(a.snapshot\)"),
        ({"models_dir": "x", "served_model_name": ("n",)}, r"served_model_name \(n\) names MODEL, and there is none"),
    ],
)
def test_what_is_of_one_model_does_not_go_with_several(given: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        Settings(**given)
