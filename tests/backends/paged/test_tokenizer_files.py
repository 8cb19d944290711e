"""What a folder's files say about its tokens and its chat template, and what of them is refused."""

import json
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("tokenizers")
transformers = pytest.importorskip("transformers")

from pagemill.backends.paged.tokenizer_files import eos_token_ids, read_chat_template  # noqa: E402
from pagemill.errors import ModelLoadError  # noqa: E402
from support.tiny_safetensors import CHAT_TEMPLATE  # noqa: E402
from support.tokenizer_kinds import KINDS, load, write_kind  # noqa: E402


@pytest.mark.parametrize("flags", [{"add_bos_token": True}, {"add_eos_token": True}, {"add_bos_token": False}])
def test_what_surrounds_a_text_is_what_the_tokenizers_file_says(flags: dict[str, object], tmp_path: Path) -> None:
    """transformers takes `add_bos_token` of the configuration for folders without that file only."""
    for kind in KINDS:
        folder = write_kind(tmp_path / kind, kind, **flags)
        ids = load(folder).encode("the", add_special=True, parse_special=True)
        assert ids == transformers.AutoTokenizer.from_pretrained(folder)("the")["input_ids"]


def test_a_token_named_as_special_is_special(tmp_path: Path) -> None:
    folder = write_kind(tmp_path, additional_special_tokens=["<think>"])
    tokenizer = load(folder)
    (token_id,) = tokenizer.encode("<think>", add_special=False, parse_special=True)
    assert tokenizer.is_special(token_id)
    assert token_id not in tokenizer.encode("<think>", add_special=False, parse_special=False)


@pytest.mark.parametrize("eos", ["<|im_end|>", {"content": "<|im_end|>", "lstrip": False}])
def test_the_names_of_the_ends_are_read(eos: object, tmp_path: Path) -> None:
    tokenizer = load(write_kind(tmp_path, eos_token=eos, bos_token=None))
    assert (tokenizer.bos_token, tokenizer.eos_token) == ("", "<|im_end|>")


def test_a_special_tokens_map_fills_what_the_configuration_leaves_out(tmp_path: Path) -> None:
    path = write_kind(tmp_path) / "tokenizer_config.json"
    config = json.loads(path.read_text())
    del config["eos_token"]
    path.write_text(json.dumps(config))
    (tmp_path / "special_tokens_map.json").write_text(json.dumps({"eos_token": {"content": "<|endoftext|>"}}))
    assert load(tmp_path).eos_token == "<|endoftext|>"


def test_a_generation_ends_where_any_of_the_files_says(tmp_path: Path) -> None:
    tokenizer = load(write_kind(tmp_path), config={"eos_token_id": 7}, generation={"eos_token_id": [8, 9]})
    (own,) = tokenizer.encode("<|im_end|>", add_special=False, parse_special=True)
    assert tokenizer.eos_token_ids == {7, 8, 9, own}


def test_an_end_that_the_model_cannot_generate_is_none(tmp_path: Path) -> None:
    tokenizer = load(write_kind(tmp_path), config={"eos_token_id": [7, 449]}, vocab_size=449)
    assert 7 in tokenizer.eos_token_ids
    assert 449 not in tokenizer.eos_token_ids


@pytest.mark.parametrize("declared", [None, []])
def test_no_end_may_be_named(declared: object) -> None:
    assert eos_token_ids({"eos_token_id": declared}, {}) == frozenset()


@pytest.mark.parametrize("declared", ["</s>", [1, "2"], -1, True, [1.0]])
def test_an_end_that_is_no_token_id_is_refused(declared: object) -> None:
    with pytest.raises(ModelLoadError, match=r"eos_token_id in generation_config\.json is .*not a token id"):
        eos_token_ids({}, {"eos_token_id": declared})


def test_a_jinja_file_comes_before_the_configuration(tmp_path: Path) -> None:
    write_kind(tmp_path, chat_template="older")
    assert read_chat_template(tmp_path) == CHAT_TEMPLATE


def test_a_json_file_comes_before_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "chat_template.json").write_text(json.dumps({"chat_template": "newer"}))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": "older"}))
    assert read_chat_template(tmp_path) == "newer"


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        ("one", "one"),
        ([{"name": "tool_use", "template": "two"}, {"name": "default", "template": "one"}], "one"),
        ([{"name": "tool_use", "template": "two"}], None),
        (None, None),
    ],
)
def test_a_template_in_the_configuration(declared: object, expected: str | None, tmp_path: Path) -> None:
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": declared}))
    assert read_chat_template(tmp_path) == expected


def test_a_folder_may_have_no_template(tmp_path: Path) -> None:
    assert read_chat_template(tmp_path) is None


@pytest.mark.parametrize("declared", [5, {}, [], [{"name": "default", "template": 5}]])
def test_a_template_that_is_no_text_is_refused(declared: object, tmp_path: Path) -> None:
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": declared}))
    with pytest.raises(ModelLoadError, match=r"chat_template in .*tokenizer_config\.json is neither"):
        read_chat_template(tmp_path)


def test_a_template_that_is_no_utf8_is_refused(tmp_path: Path) -> None:
    (tmp_path / "chat_template.jinja").write_bytes(b"\xff")
    with pytest.raises(ModelLoadError, match=r"can't read .*chat_template\.jinja"):
        read_chat_template(tmp_path)


def test_a_folder_without_a_tokenizer_says_so(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match=r"has no tokenizer\.json; download it"):
        load(tmp_path)


@pytest.mark.parametrize("name", ["tokenizer.model", "vocab.json", "tekken.json"])
def test_another_form_of_tokenizer_says_how_to_convert_it(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(ModelLoadError, match=rf"has {name} but no tokenizer\.json.*AutoTokenizer.*save_pretrained"):
        load(tmp_path)


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"\xff\xfe", b'{"version": "1.0", "model": {"type": "None"}}'])
def test_a_damaged_tokenizer_is_refused_by_name(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(ModelLoadError, match=r"can't load the tokenizer .*tokenizer\.json"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("decoder", "reason"),
    [
        (None, "has no decoder"),
        ({"type": "CTC", "pad_token": "", "word_delimiter_token": "|", "cleanup": True}, "CTC.*not supported"),
        (
            {"type": "Sequence", "decoders": [{"type": "Fuse"}, {"type": "ByteFallback"}]},
            "after Fuse, is not supported",
        ),
        ({"type": "Replace", "pattern": {"Regex": "a+"}, "content": " "}, "Replace.*not supported"),
    ],
)
def test_a_decoder_that_needs_the_whole_text_is_refused(decoder: object, reason: str, tmp_path: Path) -> None:
    path = write_kind(tmp_path) / "tokenizer.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"decoder": decoder}))
    with pytest.raises(ModelLoadError, match=reason) as caught:
        load(tmp_path)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("name", ["bos_token", "eos_token", "pad_token"])
def test_a_token_that_is_no_text_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match=rf"{name} of the tokenizer in .* is 5"):
        load(write_kind(tmp_path, "byte-level", **{name: 5}))
