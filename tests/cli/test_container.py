"""What the platform around a container says, and what it does to the settings."""

from pathlib import Path

import pytest

from pagemill.cli.container import container_settings
from pagemill.errors import SettingsError
from pagemill.settings import Settings
from pagemill.settings_layers import load_settings


def settled(environment: dict[str, str], folder: Path, flags: dict[str, str] | None = None) -> Settings:
    return load_settings(flags or {}, environment, fallbacks=container_settings(environment, folder))


@pytest.fixture
def nowhere(tmp_path: Path) -> Path:
    return tmp_path / "absent"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "model").mkdir()
    return tmp_path / "model"


def test_outside_of_a_container_all_defaults_hold(nowhere: Path) -> None:
    assert settled({}, nowhere) == Settings()


def test_port_is_used_when_nothing_of_ours_names_one(nowhere: Path, tmp_path: Path) -> None:
    config = tmp_path / "p.toml"
    config.write_text("port = 3\n")
    environment = {"PORT": "8080"}
    assert settled(environment, nowhere).port == 8080
    assert settled({**environment, "PAGEMILL_CONFIG": str(config)}, nowhere).port == 3
    assert settled({**environment, "PAGEMILL_PORT": "2"}, nowhere).port == 2
    assert settled(environment, nowhere, {"port": "1"}).port == 1


def test_a_port_opens_no_server_to_the_network(nowhere: Path) -> None:
    assert settled({"PORT": "8080"}, nowhere).host == "127.0.0.1"


@pytest.mark.parametrize(
    ("variable", "value"), [("PORT", "web"), ("PORT_HEALTH", "70000"), ("SAGEMAKER_BIND_TO_PORT", "-1")]
)
def test_a_wrong_port_is_told_with_the_variable(variable: str, value: str, nowhere: Path) -> None:
    with pytest.raises(SettingsError) as raised:
        settled({variable: value}, nowhere)
    assert str(raised.value).startswith(f"{variable}: ")
    assert repr(value) in str(raised.value)


def test_an_empty_variable_says_nothing(nowhere: Path) -> None:
    empty = dict.fromkeys(("PORT", "PORT_HEALTH", "SAGEMAKER_BIND_TO_PORT", "RUNPOD_ENDPOINT_ID"), "")
    assert settled(empty, nowhere) == Settings()


def test_the_probes_port_is_a_setting_that_the_platforms_variable_stands_in_for(nowhere: Path) -> None:
    assert settled({"PORT_HEALTH": "81"}, nowhere).health_port == 81
    assert settled({"PORT_HEALTH": "81", "PAGEMILL_HEALTH_PORT": "82"}, nowhere).health_port == 82


def test_on_runpod_a_ping_while_loading_is_204_unless_a_setting_says_otherwise(nowhere: Path) -> None:
    assert settled({"RUNPOD_ENDPOINT_ID": "abc"}, nowhere).ping_loading_status == 204
    own = {"RUNPOD_ENDPOINT_ID": "abc", "PAGEMILL_PING_LOADING_STATUS": "503"}
    assert settled(own, nowhere).ping_loading_status == 503


def test_sagemakers_folder_with_one_gguf_file_stands_for_that_file(folder: Path) -> None:
    for name in ("m.gguf", "README.md"):
        (folder / name).touch()
    settings = settled({}, folder)
    assert settings.model == str(folder / "m.gguf")
    assert settings.port == 8080


def test_sagemakers_folder_with_a_config_is_the_model(folder: Path) -> None:
    for name in ("config.json", "model.safetensors", "also.gguf"):
        (folder / name).touch()
    assert settled({}, folder).model == str(folder)


def test_of_several_gguf_files_none_is_chosen_so_that_the_load_complains(folder: Path) -> None:
    for name in ("a.gguf", "b.gguf"):
        (folder / name).touch()
    assert settled({}, folder).model == str(folder)


def test_an_empty_folder_of_sagemakers_leaves_the_default(folder: Path) -> None:
    assert settled({}, folder) == Settings()


def test_a_model_that_is_named_wins_over_sagemakers_folder(folder: Path) -> None:
    (folder / "m.gguf").touch()
    assert settled({"PAGEMILL_MODEL": "grist"}, folder).model == "grist"
    assert settled({}, folder, {"model": "fake"}).model == "fake"


def test_sagemakers_port_variable_wins_over_an_images_own_port(folder: Path) -> None:
    (folder / "m.gguf").touch()
    assert settled({"PORT": "9000"}, folder).port == 9000
    assert settled({"PORT": "9000", "SAGEMAKER_BIND_TO_PORT": "9001"}, folder).port == 9001
