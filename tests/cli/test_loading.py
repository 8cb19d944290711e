"""What a user sees while a model loads."""

import httpx
import pytest

from pagemill.cli.loading import progress
from pagemill.cli.server_client import ServerClient

FETCHING = {"error": {"message": "tiny is loading: 312 of 640 MB fetched"}}


@pytest.mark.parametrize(
    ("status", "body", "shown"),
    [
        (503, FETCHING, "tiny is loading: 312 of 640 MB fetched"),
        (200, {"status": "ok"}, None),
        (404, {"error": "no such route"}, None),
    ],
)
async def test_progress_is_what_the_server_says_until_it_is_ready(
    status: int, body: dict[str, object], shown: str | None
) -> None:
    transport = httpx.MockTransport(lambda request: httpx.Response(status, json=body))
    async with ServerClient(httpx.AsyncClient(transport=transport, base_url="http://server"), "server") as server:
        assert await progress(server) == shown
