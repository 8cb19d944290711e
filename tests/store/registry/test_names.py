"""Model names as Ollama writes them, and what is none."""

import pytest

from pagemill.errors import InvalidRequestError
from pagemill.store.registry.names import ModelName


@pytest.mark.parametrize(
    ("text", "parts", "shortest"),
    [
        ("llama3.2", ("registry.ollama.ai", "library", "llama3.2", "latest"), "llama3.2:latest"),
        ("llama3.2:3b-q4_K_M", ("registry.ollama.ai", "library", "llama3.2", "3b-q4_K_M"), "llama3.2:3b-q4_K_M"),
        ("library/llama3.2", ("registry.ollama.ai", "library", "llama3.2", "latest"), "llama3.2:latest"),
        ("me/mine", ("registry.ollama.ai", "me", "mine", "latest"), "me/mine:latest"),
        ("Registry.Ollama.ai/library/x:y", ("Registry.Ollama.ai", "library", "x", "y"), "x:y"),
        ("hf.co/user/Repo-GGUF:Q4_K_M", ("hf.co", "user", "Repo-GGUF", "Q4_K_M"), "hf.co/user/Repo-GGUF:Q4_K_M"),
        ("127.0.0.1:5000/a/b", ("127.0.0.1:5000", "a", "b", "latest"), "127.0.0.1:5000/a/b:latest"),
    ],
)
def test_a_name_is_read_with_its_defaults_and_printed_short(text: str, parts: tuple[str, ...], shortest: str) -> None:
    name = ModelName.parse(text)
    assert tuple(name) == parts
    assert str(name) == shortest


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "/",
        "a:",
        ":tag",
        "..",
        "../x",
        "a/../b",
        "../../etc/passwd",
        "a/b/c/d",
        "a//b",
        "/etc/passwd",
        "model:../../x",
        "model:.hidden",
        ".hidden",
        "host/name.space/model",
        "a\\b",
        "a b",
        "a\n",
        "a\0b",
        "a:b:c",
        "ä",
        "http://host/a/b",
        "m" * 81,
        "m:" + "t" * 81,
    ],
)
def test_what_could_leave_the_folder_or_is_no_name_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequestError, match="invalid model name"):
        ModelName.parse(text)


def test_a_refusal_names_the_field_and_does_not_repeat_a_long_name() -> None:
    with pytest.raises(InvalidRequestError) as refused:
        ModelName.parse("x/" * 10_000, param="destination")
    assert refused.value.param == "destination"
    assert len(refused.value.message) < 300


def test_every_spelling_means_the_same_name() -> None:
    name = ModelName.parse("tiny:q8")
    assert name.spellings() == ("tiny:q8", "library/tiny:q8", "registry.ollama.ai/library/tiny:q8")
    assert {ModelName.parse(spelling) for spelling in name.spellings()} == {name}


def test_names_that_differ_in_case_are_the_same() -> None:
    assert ModelName.parse("Tiny:Q8").is_same(ModelName.parse("tiny:q8"))
    assert not ModelName.parse("tiny:q8").is_same(ModelName.parse("tiny:q4"))
