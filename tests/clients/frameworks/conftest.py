"""Where the server is. Whoever starts the suites says so in the environment."""

import os

import pytest


@pytest.fixture(scope="session")
def server_url() -> str:
    return os.environ["SERVER_URL"]
