"""What the small layers of a manifest say, and what is wrong with some."""

import json
import logging
from pathlib import Path

import pytest

from pagemill.store.model_defaults import ModelDefaults
from pagemill.store.models_dir import ModelsDir
from pagemill.store.registry import layers
from support.registry_models import manifest_of, manifest_path, write_model

GGUF = b"GGUF and so on"


def read(models_dir: Path) -> ModelDefaults | None:
    (reference,) = ModelsDir(models_dir).look()
    return reference.defaults


def test_a_model_of_weights_alone_has_none(tmp_path: Path) -> None:
    write_model(tmp_path, "tiny", GGUF)
    assert read(tmp_path) is None


def test_each_kind_is_read(tmp_path: Path) -> None:
    write_model(
        tmp_path,
        "tiny",
        GGUF,
        template=b"[INST] {{ .Prompt }} [/INST]",
        system="You are Märio.\n".encode(),
        params=b'{"num_ctx": 4096, "temperature": 1, "stop": ["<|end|>"], "mirostat": 2, "seed": null}',
        messages=b'[{"role": "user", "content": "Hi"}, {"role": "assistant"}]',
        license=b"MIT",
    )
    defaults = read(tmp_path)
    assert defaults is not None
    assert defaults.system == "You are Märio.\n"
    assert defaults.parameters == {"num_ctx": 4096, "temperature": 1.0, "stop": ("<|end|>",), "mirostat": 2}
    assert defaults.messages == ({"role": "user", "content": "Hi"}, {"role": "assistant", "content": ""})
    assert (defaults.has_go_template, len(defaults.licenses), defaults.parent) == (True, 1, "")
    assert defaults.without_effect() == ["mirostat"]


def test_where_a_model_came_from_is_known(tmp_path: Path) -> None:
    path = write_model(tmp_path, "tiny", GGUF)
    manifest = manifest_of(GGUF)
    manifest["layers"][0]["from"] = "llama3.2:3b"
    path.write_text(json.dumps(manifest))
    assert read(tmp_path) == ModelDefaults(parent="llama3.2:3b")


@pytest.mark.parametrize(
    ("template", "is_for_chats"),
    [
        ("{{ .Prompt }}", False),
        ("{{- if .Suffix }}<PRE> {{ .Prompt }} <SUF>{{ .Suffix }} <MID>\n{{- else }}{{ .Prompt }}\n{{- end }}", False),
        ("{{- range .Messages }}<|im_start|>{{ .Role }}{{ end }}", True),
        ("{{- if .Suffix }}<PRE>{{ .Suffix }}{{- else }}[INST] {{ .Prompt }} [/INST]{{- end }}", True),
    ],
)
def test_a_template_that_leaves_prompts_as_they_are_is_none_for_chats(
    tmp_path: Path, template: str, is_for_chats: bool
) -> None:
    write_model(tmp_path, "tiny", GGUF, template=template.encode())
    defaults = read(tmp_path)
    assert defaults is not None
    assert defaults.has_go_template is is_for_chats


def test_empty_layers_say_nothing(tmp_path: Path) -> None:
    write_model(tmp_path, "tiny", GGUF, params=b"", messages=b"null\n", system=b"")
    assert read(tmp_path) == ModelDefaults()


@pytest.mark.parametrize(
    ("kind", "content", "complaint"),
    [
        ("params", b"[1]", "parameters must be an object, got [1]"),
        ("params", b"{", "can't be used as it is"),
        ("params", b'{"temperature": "hot"}', "option \"temperature\" must be of type float, got 'hot'"),
        ("params", b'{"top_p": 7}', "top_p must be in (0, 1], got 7"),
        ("messages", b'{"role": "user"}', "messages must be a list"),
        ("messages", b'["Hi"]', "messages[0] must be an object"),
        ("messages", b'[{"role": "tool"}]', "messages[0].role must be one of system, user, assistant, got 'tool'"),
        ("messages", b'[{"role": "user", "content": [1]}]', "messages[0].content must be a text"),
        ("messages", b'[{"role": "user", "tool_calls": [1]}]', "messages[0].tool_calls is not supported"),
        ("system", b"\xff", "is no text, as a system is"),
        ("system", b"x" * 101, "has more than 100 bytes, too many for a system"),
    ],
)
def test_a_model_whose_layers_say_nonsense_is_not_served_and_the_log_says_why(
    tmp_path: Path,
    kind: str,
    content: bytes,
    complaint: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(layers, "MAX_LAYER_BYTES", 100)
    write_model(tmp_path, "tiny", GGUF, "latest", **{kind: content})
    with caplog.at_level(logging.WARNING):
        assert ModelsDir(tmp_path).look() == ()
    assert complaint in caplog.text


def test_a_layer_that_is_not_here_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_model(tmp_path, "tiny", GGUF)
    manifest_path(tmp_path, "tiny").write_text(json.dumps(manifest_of(GGUF, system=b"gone")))
    with caplog.at_level(logging.WARNING):
        assert ModelsDir(tmp_path).look() == ()
    assert "can't read" in caplog.text
