"""The interactive chat, driven through a pseudo-terminal against a server that runs."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest

from pagemill.backends.fake import EOS, FakeBackend
from pagemill.store.references import DEMO_FOLDER
from support.api_server import RunningServer, running_server, wait_until
from support.model_server import FLAGS, model_server
from support.registry_models import write_model
from support.served_process import clean_environment

pytestmark = pytest.mark.slow

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
TIMEOUT_S = 60


class ScriptedBackend(FakeBackend):
    """Answers with what a test says, and keeps the prompts."""

    def __init__(self) -> None:
        super().__init__(reply=self._answer, step_delay_s=0.001)
        self.prompts: list[str] = []
        self.answer = b"Fine."

    def _answer(self, prompt: tuple[int, ...]) -> list[int]:
        self.prompts.append(bytes(token for token in prompt if token < 256).decode())
        return [*self.answer, EOS]


class Terminal:
    """`pagemill run` on a pseudo-terminal."""

    def __init__(self, url: str, state: Path, *flags: str, model: str = "fake") -> None:
        environment = clean_environment(PROMPT_TOOLKIT_NO_CPR="1", TERM="xterm", XDG_STATE_HOME=str(state))
        environment.pop("COLUMNS", None)  # it would go before what the pseudo-terminal says
        arguments = ["-m", "pagemill", "run", model, "--server", url, *flags]
        self.child: pexpect.spawn[str] = pexpect.spawn(
            sys.executable, arguments, env=environment, encoding="utf-8", timeout=TIMEOUT_S, dimensions=(50, 120)
        )
        self.child.expect_exact(">>> ")

    def enter(self, line: str, *, then: str = ">>> ") -> str:
        """Type a line; what came before the next prompt, without the terminal's escapes and the echo of the line."""
        self.child.send(line + "\r")
        self.child.expect_exact("\n")  # the line is taken
        self.child.expect_exact(then)
        return ESCAPES.sub("", self.child.before or "").replace("\r", "")

    def end(self) -> int:
        self.child.expect(pexpect.EOF)
        self.child.close()
        assert self.child.exitstatus is not None
        return self.child.exitstatus


@pytest.fixture
def backend() -> ScriptedBackend:
    return ScriptedBackend()


@pytest.fixture
def server(backend: ScriptedBackend) -> Iterator[RunningServer]:
    with running_server(backend) as running:
        yield running


@pytest.fixture
def terminal(server: RunningServer, tmp_path: Path) -> Iterator[Terminal]:
    opened = Terminal(server.url, tmp_path)
    opened.enter("/set parameter temperature 0")
    yield opened
    opened.child.close(force=True)


def test_the_conversation_is_remembered_until_it_is_cleared(terminal: Terminal, backend: ScriptedBackend) -> None:
    assert "Fine." in terminal.enter("first")
    assert "Fine." in terminal.enter("second")
    assert backend.prompts[-1] == "user\nfirst\nassistant\nFine.\nuser\nsecond\nassistant\n"
    assert "Cleared" in terminal.enter("/clear")
    terminal.enter("third")
    assert backend.prompts[-1] == "user\nthird\nassistant\n"
    terminal.child.send("/bye\r")
    assert terminal.end() == 0


def test_triple_quotes_hold_a_message_of_several_lines(terminal: Terminal, backend: ScriptedBackend) -> None:
    terminal.enter('"""one', then="...")
    terminal.enter("  two", then="...")
    assert "Fine." in terminal.enter('three"""')
    assert backend.prompts[-1] == "user\none\n  two\nthree\nassistant\n"
    terminal.enter('"""all in one"""')
    assert backend.prompts[-1].endswith("user\nall in one\nassistant\n")
    terminal.enter('say """ twice')
    assert backend.prompts[-1].endswith('user\nsay """ twice\nassistant\n')


def test_ctrl_c_stops_the_answer_and_the_chat_goes_on(
    terminal: Terminal, backend: ScriptedBackend, server: RunningServer
) -> None:
    backend.answer = b"word " * 700
    terminal.child.send("go on\r")
    terminal.child.expect_exact("word word word")
    terminal.child.sendintr()
    terminal.child.expect_exact(">>> ")
    wait_until(lambda: server.engine.num_unfinished() == 0)
    wait_until(lambda: server.engine.stats().finished["abort"] == 1)
    backend.answer = b"Still here."
    assert "Still here." in terminal.enter("and now?")
    before, after = backend.prompts[-1].split("\nuser\n")
    assert before.startswith("user\ngo on\nassistant\nword word word"), "what was said is remembered"
    assert after == "and now?\nassistant\n"


def test_ctrl_c_at_the_prompt_says_how_to_leave_and_ctrl_d_leaves(terminal: Terminal) -> None:
    terminal.child.sendcontrol("c")
    terminal.child.expect_exact("Use Ctrl-D or /bye to exit.")
    terminal.child.expect_exact(">>> ")
    terminal.child.sendcontrol("d")
    assert terminal.end() == 0


def test_the_system_message_and_parameters_shape_the_requests(terminal: Terminal, backend: ScriptedBackend) -> None:
    assert "Set the system message." in terminal.enter("/set system Be brief.")
    assert "Be brief." in terminal.enter("/show system")
    terminal.enter("/set parameter num_predict 3")
    shown = terminal.enter("/show parameters")
    assert re.search(r"num_predict +3", shown)
    assert re.search(r"temperature +0", shown)
    assert "Fin\n" in terminal.enter("hi")
    assert backend.prompts[-1] == "system\nBe brief.\nuser\nhi\nassistant\n"


def test_a_system_message_may_have_several_lines(terminal: Terminal, backend: ScriptedBackend) -> None:
    terminal.enter('/set system """Be', then="...")
    assert "Set the system message." in terminal.enter('brief."""')
    terminal.enter("hi")
    assert backend.prompts[-1] == "system\nBe\nbrief.\nuser\nhi\nassistant\n"


WRONG_COMMANDS = {
    "/frob": "unknown command /frob",
    "/set nothing": "unknown variable 'nothing'",
    "/set parameter color red": "unknown parameter 'color'",
    "/set parameter top_k many": "top_k is an integer, got 'many'",
    "/set parameter temperature -1": "temperature must be between 0 and 100, got -1.0",
    "/set parameter stop 'open": "No closing quotation",
    "/set parameter top_k 1 2": "parameter top_k takes one value",
    "/set format yaml": "usage: /set format json",
    "/set think": "fake does not support thinking",
    "/set think deeply": "usage: /set think [high|medium|low]",
    "/save": "usage: /save MODEL",
    "/save mine": "the folder models_dir, which is not set",
    "/load": "usage: /load MODEL",
    "/load other": "does not serve 'other'",
}


def test_a_wrong_command_is_told_and_the_chat_goes_on(terminal: Terminal, backend: ScriptedBackend) -> None:
    for line, said in WRONG_COMMANDS.items():
        assert said in terminal.enter(line)
    assert "Fine." in terminal.enter("hi")
    assert backend.prompts == ["user\nhi\nassistant\n"]


def test_show_load_and_verbose(terminal: Terminal) -> None:
    assert "architecture" in terminal.enter("/show info")
    assert "{% for message in messages %}" in terminal.enter("/show template")
    assert "/set system TEXT" in terminal.enter("/? set")
    assert "no licence" in terminal.enter("/show license")
    assert "FROM fake" in terminal.enter("/show modelfile")
    assert "Ctrl-W" in terminal.enter("/? shortcuts")
    assert "Loaded fake" in terminal.enter("/load fake:latest")
    terminal.enter("/set verbose")
    assert "eval rate:" in terminal.enter("hi")
    terminal.enter("/set quiet")
    assert "eval rate:" not in terminal.enter("hi")


def test_the_history_outlives_the_session_unless_it_is_switched_off(server: RunningServer, tmp_path: Path) -> None:
    first = Terminal(server.url, tmp_path)
    first.enter("remember me")
    first.enter("/set nohistory")
    first.enter("but not me")
    first.child.send("/bye\r")
    assert first.end() == 0
    history = tmp_path / "pagemill" / "history"
    assert "remember me" in history.read_text()
    assert "but not me" not in history.read_text()
    assert history.stat().st_mode & 0o077 == 0, "only its owner may read it"
    second = Terminal(server.url, tmp_path)
    second.child.send("\x1b[A\x1b[A")  # arrow up: past /set nohistory, to the message
    second.child.expect_exact("remember me")
    second.child.close(force=True)


def test_control_characters_of_an_answer_do_not_reach_the_terminal(
    terminal: Terminal, backend: ScriptedBackend
) -> None:
    backend.answer = b"before\x1b]0;owned\x07after"
    terminal.child.send("hi\r")
    terminal.child.expect_exact("before]0;ownedafter")


def test_long_lines_are_broken_between_words_unless_it_is_switched_off(
    terminal: Terminal, backend: ScriptedBackend
) -> None:
    backend.answer = b"a " + b"twelve chars " * 12
    lines = terminal.enter("hi").split("\n")
    assert [line.count("twelve chars") for line in lines if "twelve chars" in line] == [9, 3]
    terminal.enter("/set nowordwrap")
    assert backend.answer.decode() in terminal.enter("hi")


def test_a_session_becomes_a_model_that_another_goes_on_with(tmp_path: Path) -> None:
    write_model(tmp_path / "models", "base", (DEMO_FOLDER / "grist" / "grist-q8_0.gguf").read_bytes())
    with model_server("--models-dir", str(tmp_path / "models"), *FLAGS) as served:
        terminal = Terminal(served.url, tmp_path, model="base")
        for line in ("/set parameter temperature 0", "/set parameter num_predict 8", "/set system You are a miller."):
            terminal.enter(line)
        said = terminal.enter("What is 7 + 5?").strip().splitlines()[-1]
        assert "12" in said
        assert "Created the model mine." in terminal.enter("/save mine")
        terminal.enter("/clear")
        loaded = terminal.enter("/load mine", then="Loaded mine.")
        assert ">>> What is 7 + 5?" in loaded
        assert said in loaded
        terminal.child.expect_exact(">>> ")
        terminal.enter("And 2 + 2?")
        assert "Created the model mine." in terminal.enter("/save mine")
        terminal.child.send("/bye\r")
        assert terminal.end() == 0
        shown = served.post("/api/show", {"model": "mine"}).json()
    assert [message["content"] for message in shown["messages"] if message["role"] == "user"] == [
        "What is 7 + 5?",
        "And 2 + 2?",
    ]
    assert shown["system"] == "You are a miller."
    assert "num_predict" in shown["parameters"]
