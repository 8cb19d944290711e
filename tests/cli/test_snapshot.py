"""`pagemill snapshot`: from a prompt's file to a snapshot that fits the conversations that begin so."""

import json
from pathlib import Path

import pytest

from cli.conftest import Command
from pagemill.backends.fake.backend import CHATML
from pagemill.backends.fake.tokenizer import FakeTokenizer
from pagemill.cli import snapshot
from pagemill.cli.failure import CommandError
from pagemill.cli.snapshot_prompt import ChatPrompt, TextPrompt, read_prompt
from pagemill.prompts.chat_template import ChatTemplate
from pagemill.store.snapshot_file import open_snapshot

SYSTEM: dict[str, object] = {"role": "system", "content": "You answer in verse."}
TOKENIZER = FakeTokenizer()
MERGING = (
    "{% if tools %}[{{ tools | length }} tools]{% endif %}"
    "{% for m in messages %}({{ m.role }}:{{ m.content | trim }}){% endfor %}"
    "{% if add_generation_prompt %}(assistant:{% endif %}"
)


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "configure_logging", lambda level: None)


def template(source: str = CHATML) -> ChatTemplate:
    return ChatTemplate(source, bos_token="<|bos|>", eos_token="<|im_end|>")


def text_of(token_ids: tuple[int, ...]) -> str:
    return b"".join(TOKENIZER.token_bytes(token_id) for token_id in token_ids).decode()


def write(path: Path, value: object) -> Path:
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return path


def test_it_says_what_it_made_and_where(pagemill: Command, tmp_path: Path) -> None:
    output = tmp_path / "fake.snapshot"
    prompt = write(tmp_path / "prompt.txt", "You answer in verse. ")
    outcome = pagemill("snapshot", "fake", "--prompt", str(prompt), "--output", str(output))
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.startswith(f"{output}: 22 tokens, ")
    assert text_of(open_snapshot(output).head.token_ids) == "<|bos|>You answer in verse. "


def test_settings_are_taken_from_flags_and_environment(
    pagemill: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompt = write(tmp_path / "prompt.txt", "You answer in verse. ")
    arguments = ("snapshot", "fake", "--prompt", str(prompt), "--output", str(tmp_path / "s"))
    assert "max_model_len is 10" in pagemill(*arguments, "--max-model-len", "10").err
    monkeypatch.setenv("PAGEMILL_MAX_MODEL_LEN", "11")
    outcome = pagemill(*arguments)
    assert (outcome.code, outcome.out) == (1, "")
    assert "max_model_len is 11" in outcome.err
    assert not (tmp_path / "s").exists()


def test_without_output_it_lies_beside_the_model(pagemill: Command, tmp_path: Path) -> None:
    from support.tiny_gguf import TinyModel

    model = TinyModel().write(tmp_path / "m.gguf")
    prompt = write(tmp_path / "prompt.json", {"messages": [SYSTEM]})
    outcome = pagemill("snapshot", str(model), "--prompt", str(prompt), "--threads", "1")
    assert (outcome.code, outcome.err) == (0, "")
    assert open_snapshot(tmp_path / "m.gguf.snapshot").head.backend == "gguf"


def test_a_prompt_is_needed(pagemill: Command) -> None:
    outcome = pagemill("snapshot", "fake")
    assert outcome.code == 2
    assert "--prompt" in outcome.err


def test_a_chat_ends_where_the_next_message_begins() -> None:
    token_ids = ChatPrompt([SYSTEM], None, {}).token_ids(TOKENIZER, template())
    assert text_of(token_ids) == "<|im_start|>system\nYou answer in verse.<|im_end|>\n<|im_start|>user\n"


def test_a_chat_that_ends_with_a_question_goes_on_with_the_answer() -> None:
    token_ids = ChatPrompt([SYSTEM, {"role": "user", "content": "Hi"}], None, {}).token_ids(TOKENIZER, template())
    assert text_of(token_ids).endswith("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n")


def test_tools_and_template_variables_reach_the_template() -> None:
    prompt = ChatPrompt([SYSTEM], [{"type": "function"}], {"mood": "good"})
    token_ids = prompt.token_ids(TOKENIZER, template("{{ mood }}" + MERGING))
    assert text_of(token_ids) == "good[1 tools](system:You answer in verse.)(user:"


def test_the_prefix_has_no_token_that_reaches_into_what_follows() -> None:
    class MergingTokenizer(FakeTokenizer):
        """Joins a space, or a line's end, with whatever letter follows."""

        def encode(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
            token_ids: list[int] = []
            for byte in text.encode():
                joins = token_ids and token_ids[-1] in b" \n" and byte in b"aZ"
                token_ids[-1:] = [1000 + byte] if joins else [*token_ids[-1:], byte]
            return token_ids

    token_ids = TextPrompt("In verse. ").token_ids(MergingTokenizer(), None)
    assert bytes(token_ids) == b"In verse."


def test_a_model_without_a_template_has_no_chats() -> None:
    with pytest.raises(CommandError, match="no chat template"):
        ChatPrompt([SYSTEM], None, {}).token_ids(TOKENIZER, None)


def test_a_text_is_taken_as_it_is_even_if_it_looks_like_json(tmp_path: Path) -> None:
    assert read_prompt(write(tmp_path / "prompt.txt", '{"messages": []}\n')) == TextPrompt('{"messages": []}\n')


def test_a_chat_file_holds_messages_tools_and_template_variables(tmp_path: Path) -> None:
    parts = [{"type": "text", "text": "You answer"}, {"type": "text", "text": "in verse."}]
    chat = {
        "messages": [{"role": "system", "content": parts}],
        "tools": [{"type": "function"}],
        "chat_template_kwargs": {"enable_thinking": False},
    }
    assert read_prompt(write(tmp_path / "prompt.json", chat)) == ChatPrompt(
        [{"role": "system", "content": "You answer\nin verse."}], [{"type": "function"}], {"enable_thinking": False}
    )


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("{", "is not valid JSON"),
        ([SYSTEM], "must be an object with a list of messages"),
        ({"messages": []}, "must be an object with a list of messages"),
        ({"messages": [SYSTEM], "temperature": 0}, "has a field 'temperature'"),
        ({"messages": ["hello"]}, "each of the messages must be an object, got 'hello'"),
        ({"messages": [{"content": "hello"}]}, "messages: .*role"),
        ({"messages": [SYSTEM], "tools": {}}, "tools must be a list"),
    ],
)
def test_a_chat_file_that_is_wrong_is_refused_with_what_is_wrong(
    tmp_path: Path, content: object, complaint: str
) -> None:
    path = write(tmp_path / "prompt.json", content)
    with pytest.raises(CommandError, match=rf"prompt\.json.*{complaint}"):
        read_prompt(path)


@pytest.mark.parametrize("content", [None, b"\xff"])
def test_a_prompt_that_can_not_be_read_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "prompt.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CommandError, match=r"can't read the prompt .*prompt\.txt: "):
        read_prompt(path)
