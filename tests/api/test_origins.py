"""Which web pages may ask."""

import pytest

from pagemill.api.origins import is_allowed
from support.api_server import RunningServer, Serve

PAGE = "https://chat.example.com"


@pytest.mark.parametrize(
    ("origin", "allowed", "expected"),
    [
        (PAGE, (PAGE,), True),
        (PAGE, ("https://chat.example.com/",), True),
        (PAGE, ("http://chat.example.com",), False),
        (PAGE, (), False),
        (PAGE, ("*",), True),
        ("null", ("*",), True),
        ("http://localhost:3000", ("http://localhost:*",), True),
        ("http://localhost", ("http://localhost:*",), False),
        ("http://localhost.evil.com:3000", ("http://localhost:*",), False),
        ("https://a.b.example.com", ("https://*.example.com",), True),
        ("https://example.com", ("https://*.example.com",), False),
        ("https://evil.com/.example.com", ("https://*.example.com",), False),
        ("https://chatxexample.com", (PAGE,), False),
        ("https://chat.example.com.evil.com", (PAGE,), False),
    ],
)
def test_patterns_stand_for_whole_origins(origin: str, allowed: tuple[str, ...], expected: bool) -> None:
    assert is_allowed(origin, allowed) is expected


def test_no_page_of_another_origin_can_read_answers_unless_set(server: RunningServer) -> None:
    response = server.get("/v1/models", headers={"origin": PAGE})
    assert not any(name.startswith("access-control") for name in response.headers)


def test_an_allowed_page_may_ask_and_read_errors_and_headers(serve: Serve) -> None:
    server = serve(allowed_origins=(PAGE,), api_key=("sk-ann",))
    preflight = server.http.options(
        server.url + "/v1/chat/completions",
        headers={
            "origin": PAGE,
            "access-control-request-method": "POST",
            "access-control-request-headers": "authorization, content-type",
        },
    )
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == PAGE
    assert "authorization" in preflight.headers["access-control-allow-headers"]
    refused = server.get("/v1/models", headers={"origin": PAGE})
    assert refused.status_code == 401
    assert refused.headers["access-control-allow-origin"] == PAGE
    assert "x-request-id" in refused.headers["access-control-expose-headers"]
    other = server.get("/v1/models", headers={"origin": "https://evil.com", "authorization": "Bearer sk-ann"})
    assert "access-control-allow-origin" not in other.headers
