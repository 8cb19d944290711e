"""HTTP calls to a Pagemill server (or any server with Ollama's API): JSON in, JSON or lines of JSON out.

Owns one httpx client. Every failure becomes a `CommandError` that a user can act on.
"""

import json
import ssl
from collections.abc import AsyncGenerator, AsyncIterable, Mapping
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import httpx

from pagemill.cli.failure import CommandError
from pagemill.cli.server_address import UNIX, ServerAccess, unix_path

CONNECT_TIMEOUT_S = 5.0
HTTP_UNAUTHORIZED = 401
HTTP_NOT_FOUND = 404


class NotFoundOnServerError(CommandError):
    """The server has no such model, or no such route."""


def connect(access: ServerAccess) -> "ServerClient":
    """A client for that server. Nothing is sent yet.

    Raises:
        CommandError: the file of certificates can't be used.
    """
    address = access.address
    headers = {"authorization": f"Bearer {access.key}"} if access.key else {}
    timeout = httpx.Timeout(None, connect=CONNECT_TIMEOUT_S)  # a model may take long to load
    if address.startswith(UNIX):
        transport = httpx.AsyncHTTPTransport(uds=unix_path(address))
        client = httpx.AsyncClient(base_url="http://localhost", headers=headers, timeout=timeout, transport=transport)
    else:
        is_local = urlsplit(address).hostname in ("127.0.0.1", "localhost", "::1")  # no proxy leads there
        verify = _trusting(access.cacert)
        client = httpx.AsyncClient(
            base_url=address, headers=headers, timeout=timeout, trust_env=not is_local, verify=verify
        )
    return ServerClient(client, address)


def _trusting(cacert: str | None) -> ssl.SSLContext | bool:
    if cacert is None:
        return True
    try:
        context = httpx.create_ssl_context()
        context.load_verify_locations(cacert)
    except OSError as error:  # ssl.SSLError is one
        raise CommandError(f"can't use the certificates in {cacert} (--cacert): {error.strerror or error}") from error
    return context


class ServerClient:
    """An asynchronous context manager around one httpx client.

    Raises, from every call:
        CommandError: no server answers, or it answers with an error; says which.
        NotFoundOnServerError: it answers 404.
    """

    def __init__(self, client: httpx.AsyncClient, address: str) -> None:
        self._client = client
        self.address = address

    async def __aenter__(self) -> Self:
        await self._client.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._client.__aexit__(kind, error, traceback)

    async def get(self, path: str) -> dict[str, Any]:
        return self._parse((await self._request("GET", path, None)).text)

    async def post(self, path: str, body: Mapping[str, object]) -> dict[str, Any]:
        return self._parse((await self._request("POST", path, body)).text)

    async def send(self, method: str, path: str, body: Mapping[str, object]) -> None:
        """For what is answered by nothing but success."""
        await self._request(method, path, body)

    async def has(self, path: str) -> bool:
        """Whether there is something."""
        try:
            await self._request("HEAD", path, None)
        except NotFoundOnServerError:
            return False
        return True

    async def upload(self, path: str, content: AsyncIterable[bytes], num_bytes: int) -> None:
        """A body that is sent while it is read."""
        await self._request("POST", path, content, {"content-length": str(num_bytes)})

    async def stream(self, path: str, body: Mapping[str, object]) -> AsyncGenerator[dict[str, Any], None]:
        """The objects of an NDJSON answer, as they come. Closing it early closes the connection, which aborts."""
        try:
            async with self._client.stream("POST", path, json=body) as response:
                if response.is_error:
                    await response.aread()
                    raise self._failure(response)
                async for line in response.aiter_lines():
                    item = self._parse(line)
                    if "error" in item:
                        raise CommandError(_message(item) or "the generation failed")
                    yield item
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error

    async def _request(
        self,
        method: str,
        path: str,
        body: Mapping[str, object] | AsyncIterable[bytes] | None,
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        given: dict[str, Any] = {"content": body} if isinstance(body, AsyncIterable) else {"json": body}
        try:
            response = await self._client.request(method, path, headers=headers, **given)
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error
        if response.is_error:
            raise self._failure(response)
        return response

    def _parse(self, text: str) -> dict[str, Any]:
        try:
            parsed = json.loads(text)
        except ValueError:
            parsed = None
        if not isinstance(parsed, dict):
            raise CommandError(f"what answers at {self.address} is not a Pagemill server")
        return parsed

    def _failure(self, response: httpx.Response) -> CommandError:
        try:
            message = _message(response.json())
        except ValueError:
            message = None
        message = message or f"the server at {self.address} answered {response.status_code} {response.reason_phrase}"
        if response.status_code == HTTP_UNAUTHORIZED:
            return CommandError(f"{self.address}: {message} (give it with --api-key or PAGEMILL_API_KEY)")
        return NotFoundOnServerError(message) if response.status_code == HTTP_NOT_FOUND else CommandError(message)

    def _unreachable(self, error: httpx.HTTPError) -> CommandError:
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            return CommandError(f"the certificate of {self.address} is not trusted (--cacert names one): {error}")
        if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
            return CommandError(
                f"no server answers at {self.address}: start one with `pagemill serve`, or name it with --server"
            )
        return CommandError(f"the connection to the server at {self.address} broke: {error or type(error).__name__}")


def _message(body: Any) -> str | None:
    """The text of an error in Ollama's or OpenAI's shape."""
    error = body.get("error") if isinstance(body, dict) else None
    if isinstance(error, dict):
        error = error.get("message")
    return error if isinstance(error, str) else None
