"""The servers that clients are pointed at: `pagemill serve` as processes, each started when it is first asked for."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from clients.served import CHAT_MODEL, EMBEDDING_MODEL, KEY
from support import sentence_model
from support.served_process import served_process
from support.validators import clean_environment

collect_ignore = ["frameworks"]  # runs in an environment of its own: test_frameworks.py
CLIENTS_BIN = Path(__file__).parents[2] / ".venv-clients" / "bin"
SMALL = ("--port", "0", "--threads", "1", "--kv-cache-memory-bytes", "33554432")


@pytest.fixture(scope="session")
def server_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The demo model, and beside it a real embedding model."""
    embedding_model = sentence_model.gguf_file(tmp_path_factory.mktemp(EMBEDDING_MODEL))
    assert embedding_model.stem == EMBEDDING_MODEL
    with served_process(CHAT_MODEL, str(embedding_model), *SMALL, step_delay_s=None) as served:
        yield served.address


@pytest.fixture(scope="session")
def guarded_url() -> Iterator[str]:
    """The demo model behind a key."""
    with served_process(CHAT_MODEL, "--api-key", KEY, *SMALL, step_delay_s=None) as served:
        yield served.address


@pytest.fixture
def environment(server_url: str, guarded_url: str) -> dict[str, str]:
    """For programs that run clients: where the servers are, and no settings of whoever runs the tests."""
    urls = {"SERVER_URL": server_url, "GUARDED_URL": guarded_url}
    offline = {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}  # LiteLLM would fetch prices
    return clean_environment() | urls | offline


@pytest.fixture(scope="session")
def clients_bin() -> Path:
    """Where the programs are that `make test` installs for these suites."""
    assert CLIENTS_BIN.is_dir(), f"{CLIENTS_BIN} is missing: `make test` installs tests/clients/requirements.txt there"
    return CLIENTS_BIN
