"""A registry of models over HTTP, by the OCI distribution protocol: manifests, and ranges of blobs.

A `RegistryClient` owns its connections, and is a `Source` for transfers. It shows a registry the token that there is
for its host; of one that wants a token where there is none it gets that for everybody. Imports httpx.
"""

import threading
from collections.abc import Generator, Iterator, Mapping
from typing import NamedTuple

import httpx

from pagemill import __version__
from pagemill.errors import FetchError, ModelLoadError, ModelNotFoundError, PagemillError
from pagemill.store.patience import Patience
from pagemill.store.registry.manifests import MANIFEST_TYPE, MAX_MANIFEST_BYTES, OCI_MANIFEST_TYPE, Layer, Manifest
from pagemill.store.registry.names import ModelName
from pagemill.store.registry.tokens import Challenge
from pagemill.store.source import Body, CutError

CONNECT_TIMEOUT_S = 10.0  # at most; a read may take the whole of the setting
BUSY_STATUSES = frozenset({408, 429, 500, 502, 503, 504})
LOOPBACK = ("127.0.0.1", "localhost")  # no proxy leads there, and nobody listens on the way
SHOWN_DIGEST = len("sha256:") + 12
NOT_FOUND, UNAUTHORIZED, FORBIDDEN = 404, 401, 403


class RemoteBlob(NamedTuple):
    """A blob of a model, as it can be fetched."""

    name: ModelName
    layer: Layer

    @property
    def location(self) -> str:
        return f"{self.layer.digest} of {self.name}"

    @property
    def size_bytes(self) -> int:
        return self.layer.size_bytes


class Token(httpx.Auth):
    """One of our own; or one for everybody, which gets itself when a registry asks for it, and again when it has
    expired. httpx does not show it to other hosts, where a registry redirects to.
    """

    def __init__(self, own: str | None = None) -> None:
        self.is_own = own is not None
        self._header = None if own is None else f"Bearer {own}"

    def sync_auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        if self._header is not None:
            request.headers["authorization"] = self._header
        response = yield request
        challenge = Challenge.parse(response.headers.get("www-authenticate", ""))
        if self.is_own or response.status_code != UNAUTHORIZED or challenge is None:
            return
        answer = yield httpx.Request("GET", challenge.url())
        answer.read()
        answer.raise_for_status()
        self._header = request.headers["authorization"] = f"Bearer {challenge.token_in(answer.content)}"
        yield request


class Registry(NamedTuple):
    """Of a model: where it is asked for, and the token that was got for it, which several clients may share."""

    name: ModelName
    insecure: bool  # HTTP instead of HTTPS
    token: Token

    @classmethod
    def of(cls, name: ModelName, tokens: Mapping[str, str], *, insecure: bool) -> "Registry":
        """With the token of our own that there is for its host. That does not travel by HTTP to other machines."""
        safe = not insecure or is_loopback(name.host)
        return cls(name, insecure, Token(tokens.get(name.host.casefold()) if safe else None))

    @property
    def url(self) -> str:
        return f"{'http' if self.insecure else 'https'}://{self.name.host}/v2/{self.name.repository}"


class RegistryClient:
    """See the module. May be used by several threads."""

    failures = (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError)  # the last of hosts that are none

    def __init__(
        self, registry: Registry, *, max_connections: int, timeout_s: float, max_retries: int, stopped: threading.Event
    ) -> None:
        self._registry = registry
        self._max_retries = max_retries
        self._stopped = stopped
        self._client = httpx.Client(
            auth=registry.token,
            headers={"user-agent": f"pagemill/{__version__}", "accept-encoding": "identity"},
            timeout=httpx.Timeout(timeout_s, connect=min(CONNECT_TIMEOUT_S, timeout_s), pool=None),
            limits=httpx.Limits(max_connections=max_connections),
            follow_redirects=True,  # to where the blobs lie; the token stays with the registry
            event_hooks={} if registry.insecure else {"request": [_check_https]},
            trust_env=not is_loopback(registry.name.host),
        )

    def close(self) -> None:
        self._client.close()

    def patience(self) -> Patience:
        return Patience(self._max_retries, self._stopped)

    def manifest(self) -> Manifest:
        """
        Raises:
            ModelNotFoundError: the registry has none.
            FetchError: it has none that can be used, or does not answer.
        """
        name, patience = self._registry.name, self.patience()
        while True:
            try:
                return _parsed(self._read_manifest(), name)
            except self.failures as error:
                if not self.may_pass(error) or not patience.pause():
                    raise _translated(error, self._registry, "manifest") from error

    def open_range(self, item: RemoteBlob, start: int, end: int) -> Body:
        """See `Source`.

        Raises:
            FetchError: the registry does not do ranges.
        """
        url, headers = f"{self._registry.url}/blobs/{item.layer.digest}", {"range": f"bytes={start}-{end - 1}"}
        response = self._client.send(self._client.build_request("GET", url, headers=headers), stream=True)
        try:
            response.raise_for_status()
            _check_range(response, item, start, end)
        except BaseException:
            response.close()
            raise
        return _ResponseBody(response)

    def may_pass(self, error: Exception) -> bool:
        if isinstance(error, httpx.HTTPStatusError):
            return error.response.status_code in BUSY_STATUSES
        return isinstance(error, httpx.TransportError | CutError) and "CERTIFICATE_VERIFY_FAILED" not in str(error)

    def translated(self, error: Exception, item: RemoteBlob) -> PagemillError:
        return _translated(error, self._registry, item.layer.digest[:SHOWN_DIGEST])

    def _read_manifest(self) -> bytes:
        url, content = f"{self._registry.url}/manifests/{self._registry.name.tag}", b""
        accepted = {"accept": f"{MANIFEST_TYPE}, {OCI_MANIFEST_TYPE}"}
        with self._client.stream("GET", url, headers=accepted) as response:
            response.raise_for_status()
            for chunk in response.iter_raw():
                content += chunk
                if len(content) > MAX_MANIFEST_BYTES:
                    raise FetchError(f"the manifest of {self._registry.name} has over {MAX_MANIFEST_BYTES} bytes")
        return content


def _parsed(content: bytes, name: ModelName) -> Manifest:
    try:
        return Manifest.parse(content, f"what {name.host} has of {name}")
    except ModelLoadError as error:
        raise FetchError(error.message) from error


def _check_https(request: httpx.Request) -> None:
    """Also of redirects, and of where tokens are had."""
    if request.url.scheme != "https":
        raise FetchError(f"a registry sends us to {request.url}, which is not https (insecure allows it)")


class _ResponseBody:
    """A response's bytes as they came."""

    def __init__(self, response: httpx.Response) -> None:
        self._response = response
        self._chunks: Iterator[bytes] = response.iter_raw()
        self._rest = b""

    def read(self, amt: int) -> bytes:
        data = self._rest or next(self._chunks, b"")
        self._rest = data[amt:]
        return data[:amt]

    def close(self) -> None:
        self._response.close()


def _check_range(response: httpx.Response, item: RemoteBlob, start: int, end: int) -> None:
    told = response.headers.get("content-range", "")
    if response.status_code == httpx.codes.PARTIAL_CONTENT:
        if told.strip() != f"bytes {start}-{end - 1}/{item.size_bytes}":
            raise FetchError(
                f"can't fetch {item.location}: asked for the bytes {start} to {end - 1} of {item.size_bytes}, the "
                f"registry answers with {told!r}"
            )
    elif start > 0:
        raise FetchError(f"can't fetch {item.location}: its registry answers a request for a range with the whole")


def is_loopback(host: str) -> bool:
    return host.partition(":")[0].casefold() in LOOPBACK


def _translated(error: Exception, registry: Registry, what: str) -> PagemillError:
    name = registry.name
    if isinstance(error, httpx.HTTPStatusError):
        status = error.response.status_code
        if status == NOT_FOUND:
            return ModelNotFoundError(
                f"pull model {what}: file does not exist: {name.host} has no {name}", param="model"
            )
        if status in (UNAUTHORIZED, FORBIDDEN):
            return ModelNotFoundError(f"pull model {what}: {_refusal(registry)} (HTTP {status})", param="model")
        return FetchError(f"pull model {what}: {name.host} answers HTTP {status} for {name}")
    return FetchError(f"pull model {what}: can't fetch {name} from {name.host}: {error or type(error).__name__}")


def _refusal(registry: Registry) -> str:
    name = registry.name
    if registry.token.is_own:
        return f"{name.host} has no {name} for the token that registry_tokens or HF_TOKEN has for it"
    hint = "registry_tokens may have one for the host, which is shown to it by HTTPS"
    return f"{name.host} has no {name} that everybody may have, and was shown no token ({hint})"
