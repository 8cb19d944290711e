"""What web pages can't do to a server on their reader's machine."""

import socket
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from pagemill.cli.browser_guard import BrowserGuard, guarded
from pagemill.settings import Settings


async def hello(request: Request) -> PlainTextResponse:
    return PlainTextResponse("hello")


APP = Starlette(routes=[Route("/api/tags", hello), Route("/v1/models", hello), Route("/readyz", hello)])


async def ask(settings: Settings, path: str = "/v1/models", **headers: str) -> httpx.Response:
    transport = httpx.ASGITransport(guarded(APP, settings))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:11434") as client:
        return await client.get(path, headers=headers)


@pytest.fixture
def local() -> Settings:
    return Settings(host="127.0.0.1")


@pytest.mark.parametrize(
    "host",
    [
        "",
        "localhost",
        "LOCALHOST:1",
        "127.0.0.1:11434",
        "[::1]:11434",
        "192.168.1.7:11434",
        "0.0.0.0",
        "pagemill.localhost:8080",
        "box.local",
        "host.docker.internal:11434",
        socket.gethostname(),
    ],
)
async def test_names_of_this_machine_are_served(local: Settings, host: str) -> None:
    assert (await ask(local, host=host)).status_code == 200


@pytest.mark.parametrize("host", ["evil.com", "evil.com:11434", "localhost.evil.com", "127.0.0.1.evil.com", "8.8.8.8"])
async def test_a_rebound_name_is_refused_in_the_dialects_shape(local: Settings, host: str) -> None:
    response = await ask(local, host=host)
    assert response.status_code == 403
    assert response.json()["error"]["type"] == "permission_error"
    assert "allowed_hosts" in response.json()["error"]["message"]
    assert isinstance((await ask(local, "/api/tags", host=host)).json()["error"], str)


async def test_allowed_hosts_are_served_beside_this_machines_names() -> None:
    settings = Settings(host="127.0.0.1", allowed_hosts=("llm.example.com",))
    assert (await ask(settings, host="LLM.example.com:443")).status_code == 200
    assert (await ask(settings, host="localhost")).status_code == 200
    assert (await ask(settings, host="evil.com")).status_code == 403
    assert (await ask(Settings(allowed_hosts=("*",)), host="evil.com")).status_code == 200


@pytest.mark.parametrize("origin", ["https://evil.com", "http://evil.com:11434", "null", "http://localhost.evil.com"])
async def test_pages_of_others_may_not_ask_even_blindly(local: Settings, origin: str) -> None:
    response = await ask(local, origin=origin)
    assert response.status_code == 403
    assert "allowed_origins" in response.json()["error"]["message"]


@pytest.mark.parametrize(
    "origin", ["http://localhost:3000", "http://127.0.0.1:11434", "app://obsidian.md", "tauri://x"]
)
async def test_pages_of_this_machine_and_programs_may_ask(local: Settings, origin: str) -> None:
    assert (await ask(local, origin=origin)).status_code == 200


async def test_allowed_origins_may_ask() -> None:
    settings = Settings(allowed_origins=("https://chat.example.com", "null"))
    assert (await ask(settings, origin="https://chat.example.com")).status_code == 200
    assert (await ask(settings, origin="null")).status_code == 200
    assert (await ask(settings, origin="https://evil.com")).status_code == 403


@pytest.mark.parametrize("options", [{"host": "0.0.0.0"}, {"host": "10.0.0.1"}, {"host": "::"}, {"uds": "/tmp/x"}])
def test_servers_that_listen_elsewhere_are_not_guarded(options: dict[str, Any]) -> None:
    assert guarded(APP, Settings(**options)) is APP


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_loopback_addresses_are_guarded(host: str) -> None:
    assert isinstance(guarded(APP, Settings(host=host)), BrowserGuard)


async def test_allowed_hosts_hold_where_they_are_set_on_any_address() -> None:
    settings = Settings(host="0.0.0.0", allowed_hosts=("llm.example.com",))
    assert (await ask(settings, host="llm.example.com", origin="https://other.com")).status_code == 200
    assert (await ask(settings, host="127.0.0.1")).status_code == 403


async def test_probes_may_call_the_server_as_they_like() -> None:
    settings = Settings(host="0.0.0.0", allowed_hosts=("llm.example.com",))
    assert (await ask(settings, "/readyz", host="10.1.2.3:8080")).status_code == 200
