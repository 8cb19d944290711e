"""Where settings come from, which source wins, and what a wrong one is told."""

import argparse
from pathlib import Path

import pytest

from pagemill.cli.flags import GROUP_STARTS, add_settings_flags, given_settings
from pagemill.errors import SettingsError
from pagemill.settings import Settings
from pagemill.settings_layers import CONFIG_VARIABLE, ENVIRONMENT_PREFIX, Fallback, flag_of, load_settings
from pagemill.validated import fields

NOTHING: dict[str, str] = {}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "pagemill.toml"
    path.write_text('port = 1\nhost = "file"\nmax_num_seqs = 3\nserved_model_name = ["a", "b"]\nmmap = false\n')
    return path


def test_defaults_hold_when_nothing_is_given() -> None:
    settings = load_settings({}, NOTHING)
    assert (settings.model, settings.host, settings.port) == ("grist", "127.0.0.1", 11434)


def test_flags_win_over_variables_and_variables_over_the_file(config: Path) -> None:
    environment = {"PAGEMILL_PORT": "2", "PAGEMILL_HOST": "variable"}
    settings = load_settings({"port": "3", "config": str(config)}, environment)
    assert (settings.port, settings.host, settings.max_num_seqs) == (3, "variable", 3)
    assert settings.served_model_name == ("a", "b")
    assert settings.mmap is False


def test_fallbacks_hold_where_no_layer_says_a_value(config: Path) -> None:
    fallbacks = {name: Fallback(value, "the platform") for name, value in (("port", "5"), ("threads", "2"))}
    assert load_settings({}, NOTHING, fallbacks=fallbacks).port == 5
    settings = load_settings({"config": str(config)}, NOTHING, fallbacks=fallbacks)
    assert (settings.port, settings.threads) == (1, 2)
    with pytest.raises(SettingsError, match=r"^the platform: .*'x'$"):
        load_settings({}, NOTHING, fallbacks={"port": Fallback("x", "the platform")})


def test_the_file_can_be_named_by_a_variable(config: Path) -> None:
    assert load_settings({}, {CONFIG_VARIABLE: str(config)}).port == 1


def test_a_list_in_a_variable_is_separated_by_commas() -> None:
    assert load_settings({}, {"PAGEMILL_API_KEY": "one, two,"}).api_key == ("one", "two")


def test_an_empty_variable_is_as_if_absent() -> None:
    assert load_settings({}, {"PAGEMILL_PORT": ""}).port == 11434


def test_a_list_of_nothing_but_commas_is_refused_as_no_key_would_leave_a_server_open() -> None:
    with pytest.raises(SettingsError, match=r"^PAGEMILL_API_KEY holds nothing but commas and spaces, got ' ,'$"):
        load_settings({}, {"PAGEMILL_API_KEY": " ,"})


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"api_key": ["k", " "]}, "api_key must not be empty"),
        ({"served_model_name": [""]}, "served_model_name must not be empty"),
        ({"root_path": "llm"}, "root_path must begin with / and not end with it, as /llm, got 'llm'"),
        ({"root_path": "/llm/"}, "root_path must begin with / and not end with it, as /llm, got '/llm/'"),
        ({"otlp_traces_endpoint": "localhost:4318"}, "otlp_traces_endpoint must be .* got 'localhost:4318'"),
        ({"otlp_traces_endpoint": "http://[::1"}, r"otlp_traces_endpoint must be .* got 'http://\[::1'"),
        ({"allowed_origins": ["*", "chat.com"]}, "allowed_origins must .* as https://chat.com, got 'chat.com'"),
    ],
)
def test_a_text_that_can_not_work_is_refused_by_the_settings_name(flags: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError, match=f"^{message}$"):
        load_settings(flags, NOTHING)


@pytest.mark.parametrize(
    ("flags", "environment", "source", "value"),
    [
        ({"port": "many"}, {}, "--port", "'many'"),
        ({"max_num_seqs": "0"}, {"PAGEMILL_MAX_NUM_SEQS": "4"}, "--max-num-seqs", "'0'"),
        ({}, {"PAGEMILL_PORT": "65536"}, "PAGEMILL_PORT", "'65536'"),
        ({}, {"PAGEMILL_BACKEND": "gpu"}, "PAGEMILL_BACKEND", "'gpu'"),
        ({}, {"PAGEMILL_MMAP": "perhaps"}, "PAGEMILL_MMAP", "'perhaps'"),
    ],
)
def test_a_wrong_value_is_told_with_its_source(
    flags: dict[str, str], environment: dict[str, str], source: str, value: str
) -> None:
    with pytest.raises(SettingsError) as raised:
        load_settings(flags, environment)
    assert source in str(raised.value)
    assert value in str(raised.value)


@pytest.mark.parametrize(
    ("name", "value"), [("api_key", "[77777]"), ("registry_tokens", "[77777]"), ("ssl_keyfile_password", "77777")]
)
def test_a_secret_that_is_wrong_is_not_shown(tmp_path: Path, name: str, value: str) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text(f"{name} = {value}\n")
    with pytest.raises(SettingsError, match=f"{name} in ") as raised:
        load_settings({"config": str(path)}, NOTHING)
    assert value.strip("[]") not in str(raised.value)


@pytest.mark.parametrize("token", ["hunter2", "=hunter2", "hunter2=", "hf.co=hunter2\n", "hf.co=hunter\u00e9"])
def test_what_is_no_token_of_a_host_is_refused_by_its_number(token: str) -> None:
    with pytest.raises(SettingsError, match="registry_tokens: number 2 of them is not HOST=TOKEN") as raised:
        Settings(registry_tokens=("hf.co=x", token))
    assert "hunter" not in str(raised.value)


def test_an_unknown_key_in_the_file_is_an_error_that_names_key_and_file(tmp_path: Path) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text("prot = 1\n")
    with pytest.raises(SettingsError, match=r"prot in .*wrong\.toml: there is no such setting"):
        load_settings({"config": str(path)}, NOTHING)


def test_a_wrong_value_in_the_file_is_told_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text('port = "x"\n')
    with pytest.raises(SettingsError, match=r"port in .*wrong\.toml"):
        load_settings({"config": str(path)}, NOTHING)


def test_a_file_that_is_not_toml_is_an_error_that_names_it(tmp_path: Path) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text("port\n")
    with pytest.raises(SettingsError, match=r"wrong\.toml is not valid TOML"):
        load_settings({"config": str(path)}, NOTHING)


def test_a_file_that_is_not_utf_8_is_an_error_that_names_it(tmp_path: Path) -> None:
    path = tmp_path / "latin.toml"
    path.write_bytes(b'host = "caf\xe9"')
    with pytest.raises(SettingsError, match=r"latin\.toml is not valid TOML: .* 0xe9"):
        load_settings({"config": str(path)}, NOTHING)


def test_one_text_in_the_file_is_a_list_of_one(tmp_path: Path) -> None:
    path = tmp_path / "one.toml"
    path.write_text('api_key = "a,b"\n')
    assert load_settings({"config": str(path)}, NOTHING).api_key == ("a,b",)


def test_what_is_no_list_is_told_so(tmp_path: Path) -> None:
    path = tmp_path / "number.toml"
    path.write_text("served_model_name = 5\n")
    with pytest.raises(SettingsError, match=r"number\.toml: Input should be a valid list, got 5$"):
        load_settings({"config": str(path)}, NOTHING)


def test_a_file_that_is_not_there_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"can't read the settings file .*absent\.toml"):
        load_settings({"config": str(tmp_path / "absent.toml")}, NOTHING)


def parser_with_all_flags() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    add_settings_flags(parser)
    return parser


@pytest.mark.parametrize("name", fields(Settings))
def test_every_setting_has_a_flag_whose_help_names_its_variable(name: str) -> None:
    actions = {option: action for action in parser_with_all_flags()._actions for option in action.option_strings}
    action = actions[flag_of(name)]
    assert action.help is not None
    assert ENVIRONMENT_PREFIX + name.upper() in action.help
    assert (fields(Settings)[name].description or "no description").replace("%", "%%") in action.help


def test_help_shows_every_group_of_flags() -> None:
    text = parser_with_all_flags().format_help()
    assert [title for title in GROUP_STARTS.values() if f"{title}:" not in text] == []


def test_flags_that_were_not_given_leave_room_for_the_environment() -> None:
    arguments = parser_with_all_flags().parse_args(["--port", "9", "--no-mmap", "--api-key", "a", "--api-key", "b"])
    given = given_settings(arguments)
    assert given == {"port": "9", "mmap": False, "api_key": ["a", "b"]}
    settings = load_settings(given, {"PAGEMILL_HOST": "0.0.0.0", "PAGEMILL_PORT": "1"})
    assert (settings.port, settings.host, settings.mmap, settings.api_key) == (9, "0.0.0.0", False, ("a", "b"))


def test_every_example_value_round_trips_through_its_variable() -> None:
    defaults = Settings()
    environment = {}
    for name in fields(Settings):
        value = getattr(defaults, name)
        if value not in (None, "", ()):
            environment[ENVIRONMENT_PREFIX + name.upper()] = ",".join(value) if isinstance(value, tuple) else str(value)
    assert load_settings({}, environment) == defaults
