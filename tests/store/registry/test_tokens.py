"""Tokens of our own for private and gated models: to which host they are shown, and to whom never."""

import logging
from pathlib import Path

import pytest

from pagemill.errors import ModelNotFoundError
from pagemill.settings import Settings
from pagemill.store.registry.client import Registry
from pagemill.store.registry.names import ModelName
from pagemill.store.registry.pulling import PullOptions, Pulls
from pagemill.store.registry.tokens import tokens_by_host
from support.fake_registry import FakeRegistry
from support.registry_models import digest_of

SECRET = "hf_secret"
GGUF = b"GGUF" + bytes(10**5)


async def pull(models_dir: Path, registry: FakeRegistry, *tokens: str) -> None:
    settings = Settings(registries=("*",), registry_tokens=tokens, download_retries=0, download_timeout_s=30)
    async for _status in Pulls(models_dir, PullOptions.of(settings)).pull(
        ModelName.parse(registry.name()), insecure=True
    ):
        pass


async def test_a_private_model_comes_by_the_hosts_token_which_neither_storage_nor_log_sees(
    registry: FakeRegistry, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The registry redirects to storage of another name, which fails if it is shown a token."""
    registry.put(GGUF)
    registry.private_token = SECRET
    with caplog.at_level(logging.DEBUG):
        await pull(tmp_path, registry, f"{registry.host.upper()}={SECRET}")
    assert (tmp_path / "blobs" / digest_of(GGUF).replace(":", "-")).read_bytes() == GGUF
    assert registry.requests["content"] > 0
    assert SECRET not in caplog.text


@pytest.mark.parametrize(
    ("token", "said"),
    [
        (None, r"that everybody may have, and was shown no token \(registry_tokens may .*\(HTTP 401\)"),
        (f"registry.example={SECRET}", r"was shown no token"),
        ("{host}=hf_wrong", r"for the token that registry_tokens or HF_TOKEN has for it \(HTTP 403\)"),
    ],
)
async def test_without_the_hosts_token_a_private_model_is_not_there(
    registry: FakeRegistry, tmp_path: Path, token: str | None, said: str
) -> None:
    registry.put(GGUF)
    registry.private_token = SECRET
    with pytest.raises(ModelNotFoundError, match=said) as refused:
        await pull(tmp_path, registry, *([] if token is None else [token.format(host=registry.host)]))
    assert SECRET not in refused.value.message
    assert "hf_wrong" not in refused.value.message


async def test_a_token_that_is_refused_is_not_shown_where_the_registry_says_that_tokens_are_had(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    registry.put(GGUF)
    registry.wants_token = True
    with pytest.raises(ModelNotFoundError, match="for the token that registry_tokens"):
        await pull(tmp_path, registry, f"{registry.host}={SECRET}")
    assert registry.requests["token"] == 0


def test_hugging_faces_variable_holds_for_its_hosts_unless_the_setting_says_another() -> None:
    environment = {"HF_TOKEN": " hf_common\n"}
    assert tokens_by_host((), {}) == tokens_by_host((), {"HF_TOKEN": " "}) == {}
    assert tokens_by_host((), environment) == {"hf.co": "hf_common", "huggingface.co": "hf_common"}
    assert tokens_by_host(("HF.co=a=b", "x:5000=c"), environment) == {
        "hf.co": "a=b",
        "huggingface.co": "hf_common",
        "x:5000": "c",
    }


@pytest.mark.parametrize(
    ("host", "insecure", "is_shown"),
    [
        ("registry.example", False, True),
        ("registry.example", True, False),
        ("127.0.0.1:5000", True, True),
        ("localhost", True, True),
        ("127.0.0.1.example", True, False),
    ],
)
def test_a_token_does_not_travel_by_http_to_other_machines(host: str, insecure: bool, is_shown: bool) -> None:
    found = Registry.of(ModelName.parse(f"{host}/a/b"), {host: SECRET}, insecure=insecure)
    assert found.token.is_own is is_shown
