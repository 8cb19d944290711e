"""Who may change the models of a server, and how large the files may be that clients send."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from support.api_server import RunningServer, Serve
from support.registry_models import digest_of

KEY = {"authorization": "Bearer secret"}
REQUESTS: list[tuple[str, str, Any]] = [
    ("POST", "/api/pull", {"model": "x"}),
    ("POST", "/api/create", {"model": "x", "from": "y"}),
    ("POST", "/api/copy", {"source": "x", "destination": "y"}),
    ("DELETE", "/api/delete", {"model": "x"}),
    ("HEAD", f"/api/blobs/{digest_of(b'x')}", None),
    ("POST", f"/api/blobs/{digest_of(b'x')}", None),
]
EACH = pytest.mark.parametrize(("method", "path", "body"), REQUESTS)


def ask(server: RunningServer, method: str, path: str, body: Any = None, **options: Any) -> httpx.Response:
    return httpx.request(method, server.url + path, json=body, **options)


@EACH
def test_without_a_folder_there_is_nothing_to_change(serve: Serve, method: str, path: str, body: Any) -> None:
    refused = ask(serve(manage_models=True), method, path, body)
    assert refused.status_code == 501
    assert method == "HEAD" or "models_dir, which is not set" in refused.json()["error"]


@EACH
@pytest.mark.parametrize("settings", [{}, {"manage_models": False, "api_key": ("secret",)}])
def test_an_open_server_and_one_that_says_no_refuse(
    serve: Serve, tmp_path: Path, method: str, path: str, body: Any, settings: dict[str, Any]
) -> None:
    refused = ask(serve(models_dir=str(tmp_path), **settings), method, path, body, headers=KEY)
    assert refused.status_code == 403
    assert method == "HEAD" or "manage_models" in refused.json()["error"]


@pytest.mark.parametrize("settings", [{"manage_models": True}, {"api_key": ("secret",)}])
def test_a_key_opens_and_so_does_the_setting(serve: Serve, tmp_path: Path, settings: dict[str, Any]) -> None:
    server = serve(models_dir=str(tmp_path), **settings)
    assert ask(server, "DELETE", "/api/delete", {"model": "x"}, headers=KEY).status_code == 404
    if "api_key" in settings:
        assert ask(server, "DELETE", "/api/delete", {"model": "x"}).status_code == 401


def test_a_registry_that_is_not_allowed_is_refused_before_anything_is_sent(serve: Serve, tmp_path: Path) -> None:
    server = serve(models_dir=str(tmp_path), manage_models=True)
    refused = ask(server, "POST", "/api/pull", {"model": "169.254.169.254/latest/meta-data", "insecure": True})
    assert refused.status_code == 403
    assert "not from 169.254.169.254 (registries)" in refused.json()["error"]


@pytest.mark.parametrize("chunked", [False, True])
def test_blobs_have_a_limit_of_their_own(serve: Serve, tmp_path: Path, chunked: bool) -> None:
    server = serve(models_dir=str(tmp_path), manage_models=True, max_body_bytes=100, max_blob_bytes=3 * 10**6)

    def put(content: bytes) -> httpx.Response:
        sent: Any = iter([content[:7], content[7:]]) if chunked else content
        return httpx.post(f"{server.url}/api/blobs/{digest_of(content)}", content=sent)

    assert put(bytes(3 * 10**6)).status_code == 201
    refused = put(bytes(3 * 10**6 + 1))
    assert (refused.status_code, "setting max_blob_bytes" in refused.text) == (413, True)
    assert [path.stat().st_size for path in (tmp_path / "blobs").iterdir()] == [3 * 10**6]
