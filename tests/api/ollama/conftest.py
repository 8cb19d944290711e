"""Servers and clients for the Ollama dialect's tests. The parrot's answer shows the user messages that it was given."""

import re
from collections.abc import Iterator

import ollama
import pytest

from pagemill.backends.base import decode
from pagemill.backends.fake import EOS, FakeBackend, FakeTokenizer
from support.api_server import RunningServer, running_server

USER_MESSAGE = re.compile(r"<\|im_start\|>user\n(.*?)<\|im_end\|>", re.DOTALL)
SYSTEM_MESSAGE = re.compile(r"<\|im_start\|>system\n(.*?)<\|im_end\|>", re.DOTALL)


def parrot(prompt: tuple[int, ...]) -> list[int]:
    """All system messages in braces, then all user messages, joined by bars."""
    text = decode(FakeTokenizer(), prompt)
    systems = "".join(f"{{{found}}}" for found in SYSTEM_MESSAGE.findall(text))
    return [*(systems + "|".join(USER_MESSAGE.findall(text))).encode(), EOS]


@pytest.fixture(scope="module")
def parrots() -> Iterator[RunningServer]:
    """A server whose model answers with what it was asked."""
    with running_server(FakeBackend(reply=parrot)) as running:
        yield running


@pytest.fixture(scope="module")
def client(parrots: RunningServer) -> Iterator[ollama.Client]:
    """Ollama's own client, connected to the parrot."""
    client = ollama.Client(host=parrots.url, timeout=30)
    yield client
    client.close()  # type: ignore[no-untyped-call]  # the library lacks the annotation
