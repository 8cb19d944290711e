"""list, show, ps, stop, version and one-shot run against a server that runs."""

import json
from collections.abc import Iterator

import pytest

from cli.conftest import Command
from pagemill import __version__
from support.api_server import RunningServer, running_server

KEY = "secret"


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with running_server(api_key=(KEY,)) as running:
        yield running


@pytest.fixture
def flags(server: RunningServer) -> tuple[str, ...]:
    return ("--server", server.url, "--api-key", KEY)


def test_list_shows_what_can_be_served(pagemill: Command, flags: tuple[str, ...]) -> None:
    header, row = pagemill("list", *flags).out.splitlines()
    assert header.split() == ["NAME", "ID", "SIZE", "MODIFIED"]
    assert row.startswith("fake:latest")


def test_ps_shows_what_is_loaded_and_stop_unloads_it(pagemill: Command) -> None:
    with running_server() as own:  # its model is gone afterwards
        flags = ("--server", own.url)
        header, row = pagemill("ps", *flags).out.splitlines()
        assert header.split() == ["NAME", "ID", "SIZE", "PROCESSOR", "CONTEXT", "UNTIL"]
        assert row.startswith("fake:latest")
        assert "100% CPU" in row
        assert "4096" in row
        assert row.endswith("Forever")
        assert pagemill("stop", "fake", *flags).code == 0
        assert own.backend.closed
        assert pagemill("ps", *flags).out.split() == header.split()


def test_run_of_an_empty_prompt_only_loads_the_model(pagemill: Command, flags: tuple[str, ...]) -> None:
    outcome = pagemill("run", "fake", *flags)
    assert (outcome.code, outcome.out) == (0, "")


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (("--format", "yaml"), "--format: it is neither json nor a JSON schema: yaml"),
        (("--format", "[1]"), "--format: it is neither json nor a JSON schema: [1]"),
    ],
)
def test_run_refuses_a_format_that_is_none(pagemill: Command, flags: tuple[str, ...], complaint: str) -> None:
    outcome = pagemill("run", "fake", "hi", *flags)
    assert (outcome.code, outcome.err) == (2, f"pagemill: {complaint}\n")


def test_run_can_ask_for_thinking_in_ollamas_ways(pagemill: Command, flags: tuple[str, ...]) -> None:
    for asked in (("--think",), ("--think=true",), ("--think=high",)):
        refused = pagemill("run", *asked, "fake", "hi", *flags)
        assert (refused.code, "does not support thinking" in refused.err) == (1, True), refused.err
    assert pagemill("run", "--think=false", "fake", "hi", *flags).code == 0
    assert pagemill("run", "--think=deeply", "fake", "hi", *flags).code == 2


def test_stop_of_a_model_that_is_not_there_fails(pagemill: Command, flags: tuple[str, ...]) -> None:
    outcome = pagemill("stop", "other", *flags)
    assert outcome.code == 1
    assert "'other' not found" in outcome.err


def test_the_key_may_come_from_the_environment(
    pagemill: Command, server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PAGEMILL_API_KEY", KEY)
    assert pagemill("list", "--server", server.url).code == 0


def test_without_the_key_the_error_says_how_to_give_it(pagemill: Command, server: RunningServer) -> None:
    outcome = pagemill("list", "--server", server.url)
    assert outcome.code == 1
    assert "--api-key or PAGEMILL_API_KEY" in outcome.err


def test_version_tells_the_servers_too(pagemill: Command, server: RunningServer, flags: tuple[str, ...]) -> None:
    assert pagemill("version", *flags).out == f"pagemill {__version__}\nserver at {server.url}: {__version__}\n"


def test_show_prints_sections_or_parts_or_json(pagemill: Command, flags: tuple[str, ...]) -> None:
    text = pagemill("show", "fake", *flags).out
    assert "  Model\n    architecture" in text
    assert "  Capabilities\n    completion" in text
    assert pagemill("show", "fake", "--template", *flags).out.startswith("{% for message in messages %}")
    assert '"<|im_end|>"' in pagemill("show", "fake", "--parameters", *flags).out
    assert "\nFROM fake:latest\n" in pagemill("show", "fake", "--modelfile", *flags).out
    assert [pagemill("show", "fake", part, *flags).out for part in ("--system", "--license")] == ["\n", "\n"]
    parsed = json.loads(pagemill("show", "fake", "--json", *flags).out)
    assert parsed["details"]["format"] == "fake"
    assert "Metadata" in pagemill("show", "fake", "--verbose", *flags).out


def test_run_answers_a_prompt_from_the_arguments_or_a_pipe(
    pagemill: Command, server: RunningServer, flags: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts: list[str] = []

    def record(prompt: tuple[int, ...]) -> bytes:
        prompts.append(bytes(token for token in prompt if token < 256).decode())
        return b"ok"

    monkeypatch.setattr(server.backend, "_reply", record)
    for arguments, stdin in ((("hello", "there"), ""), ((), "piped text\n"), (("sum up:",), "text\n")):
        outcome = pagemill("run", "fake", *arguments, *flags, stdin=stdin)
        assert outcome.code == 0, outcome.err
    said = [prompt.split("user\n")[1].split("\nassistant")[0].strip() for prompt in prompts]
    assert said == ["hello there", "piped text", "text sum up:"]


def test_run_verbose_prints_the_timings_beside_the_answer(pagemill: Command, flags: tuple[str, ...]) -> None:
    outcome = pagemill("run", "fake", "hello", "--verbose", *flags)
    names = [line.split(":")[0] for line in outcome.err.splitlines()]
    assert names == [
        "total duration",
        "load duration",
        "prompt eval count",
        "prompt eval duration",
        "prompt eval rate",
        "eval count",
        "eval duration",
        "eval rate",
    ]
    assert "eval" not in outcome.out


def test_run_of_a_model_that_the_named_server_lacks_names_what_it_has(
    pagemill: Command, flags: tuple[str, ...]
) -> None:
    outcome = pagemill("run", "other", "hello", *flags)
    assert outcome.code == 1
    assert "does not serve 'other', but fake:latest" in outcome.err


def test_run_with_a_wrong_keep_alive_is_wrong_usage(pagemill: Command, flags: tuple[str, ...]) -> None:
    outcome = pagemill("run", "fake", "hello", "--keepalive", "soon", *flags)
    assert outcome.code == 2
    assert "'soon'" in outcome.err


def test_run_and_show_need_no_server(pagemill: Command) -> None:
    answered = pagemill("run", "grist", "hello", "--threads", "1", "--max-model-len", "256")
    assert answered.code == 0, answered.err
    assert answered.out.strip()
    assert "context length      2048" in pagemill("show", "grist").out


def test_run_of_a_model_that_is_nowhere_says_what_was_tried(pagemill: Command) -> None:
    outcome = pagemill("run", "nowhere", "hello")
    assert outcome.code == 1
    assert outcome.err.count("\n") == 1
    assert "'nowhere' not found" in outcome.err
