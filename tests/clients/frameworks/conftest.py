"""Where the servers are. Whoever starts the suites says so in the environment."""

import os

import pytest


@pytest.fixture(scope="session")
def chat_url() -> str:
    return os.environ["CHAT_URL"]


@pytest.fixture(scope="session")
def embeddings_url() -> str:
    return os.environ["EMBEDDINGS_URL"]
