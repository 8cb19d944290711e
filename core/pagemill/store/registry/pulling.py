"""Models from registries into a models folder: what is missing of their blobs, then their manifests.

A `Pulls` owns the fetches that run, all on one event loop: each blob is fetched once, however many want it, and given
up when nobody waits any more. The work is done by threads that hold up nothing. Imports httpx when something is pulled.
"""

import asyncio
import os
import threading
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import ExitStack, aclosing, closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pagemill.errors import ForbiddenError, PagemillError
from pagemill.settings import Settings
from pagemill.store import daemons
from pagemill.store.partial_file import PartialFile
from pagemill.store.progress import Progress
from pagemill.store.registry import blobs, verbs
from pagemill.store.registry.manifests import Layer, Manifest
from pagemill.store.registry.names import ModelName
from pagemill.store.registry.tokens import tokens_by_host
from pagemill.store.transfer import Download, Transfer, part_bytes_of
from pagemill.store.verification import ChecksumError, Expected

if TYPE_CHECKING:
    from pagemill.store.registry.client import Registry, RegistryClient

ANY = "*"
TICK_S = 0.1
REMEDY = "make room there, or set models_dir to another folder"
SHOWN_DIGITS = 12  # of a digest, as Ollama shows them


class PullOptions(NamedTuple):
    """The settings of pulls."""

    registries: Sequence[str]  # hosts that may be asked
    tokens: Mapping[str, str]  # to be shown to them, by host
    concurrency: int
    part_bytes: int | None
    timeout_s: float
    max_retries: int

    @classmethod
    def of(cls, settings: Settings, environment: Mapping[str, str] = os.environ) -> "PullOptions":
        return cls(
            registries=settings.registries,
            tokens=tokens_by_host(settings.registry_tokens, environment),
            concurrency=settings.download_concurrency,
            part_bytes=settings.download_part_bytes,
            timeout_s=settings.download_timeout_s,
            max_retries=settings.download_retries,
        )


class Status(NamedTuple):
    """How far a pull is. The numbers are of one blob."""

    status: str
    digest: str | None = None
    total: int | None = None
    completed: int | None = None

    def as_json(self) -> dict[str, object]:
        return {name: value for name, value in self._asdict().items() if value is not None}


@dataclass(slots=True)
class _Fetch:
    """Of one blob. It is stopped when `num_waiting` is 0."""

    done: "asyncio.Future[None]"
    progress: Progress
    num_waiting: int = 0


class Pulls:
    """Into one folder. A pull that is closed early leaves what has come, and the next goes on from there."""

    def __init__(self, models_dir: Path, options: PullOptions) -> None:
        self._models_dir = models_dir
        self._options = options
        self._fetches: dict[str, _Fetch] = {}  # by digest

    def check(self, name: ModelName) -> None:
        """
        Raises:
            ForbiddenError: its registry is none of those that may be asked.
        """
        allowed = [host.casefold() for host in self._options.registries]
        if ANY not in allowed and name.host.casefold() not in allowed:
            known = ", ".join(self._options.registries) or "no registry"
            raise ForbiddenError(f"models are pulled from {known}, not from {name.host} (registries)", param="model")

    async def pull(self, name: ModelName, *, insecure: bool = False) -> AsyncGenerator[Status, None]:
        """Bring the model here, and tell how far it is. `insecure`: over HTTP.

        Raises:
            ForbiddenError: as `check`.
            ModelNotFoundError: the registry has no such model.
            ModelLoadError: it can't be fetched or written, or came damaged.
        """
        from pagemill.store.registry.client import Registry

        self.check(name)
        registry = Registry.of(name, self._options.tokens, insecure=insecure)
        yield Status("pulling manifest")
        manifest = await self._manifest(registry)
        for layer in manifest.blobs():
            async with aclosing(self._fetched(registry, layer)) as told:
                async for status in told:
                    yield status
        yield Status("verifying sha256 digest")  # what was fetched was hashed while it came
        yield Status("writing manifest")
        await asyncio.to_thread(verbs.put, self._models_dir, name, manifest)
        yield Status("success")

    async def _manifest(self, registry: "Registry") -> Manifest:
        stopped = threading.Event()

        def read() -> Manifest:
            with closing(self._client(registry, stopped)) as client:
                return client.manifest()

        try:
            return await asyncio.wrap_future(daemons.begin(read, f"pull-{registry.name}"))
        finally:
            stopped.set()

    async def _fetched(self, registry: "Registry", layer: Layer) -> AsyncGenerator[Status, None]:
        """Tells of a blob until it is here."""
        status = Status(f"pulling {_shown(layer)}", layer.digest, layer.size_bytes)
        if not blobs.is_here(self._models_dir, layer.digest, layer.size_bytes):
            fetch = self._fetches.get(layer.digest) or self._begin(registry, layer)
            fetch.num_waiting += 1
            try:
                while not fetch.done.done():
                    yield status._replace(completed=fetch.progress.fetched_bytes)
                    await asyncio.wait({fetch.done}, timeout=TICK_S)
                _raise_failure(fetch.done)
            finally:
                fetch.num_waiting -= 1
                if not fetch.num_waiting:
                    fetch.progress.stop()
                    if self._fetches.get(layer.digest) is fetch:
                        del self._fetches[layer.digest]
        yield status._replace(completed=layer.size_bytes)

    def _begin(self, registry: "Registry", layer: Layer) -> _Fetch:
        progress = Progress()

        def fetch() -> None:
            with closing(self._client(registry, progress.stopped)) as client:
                fetch_blob(self._models_dir, client, registry.name, layer, progress, self._options)

        done = asyncio.wrap_future(daemons.begin(fetch, f"pull-{_shown(layer)}"))
        done.add_done_callback(_note_failure)
        begun = self._fetches[layer.digest] = _Fetch(done, progress)
        return begun

    def _client(self, registry: "Registry", stopped: threading.Event) -> "RegistryClient":
        from pagemill.store.registry.client import RegistryClient

        options = self._options
        return RegistryClient(
            registry,
            max_connections=options.concurrency,
            timeout_s=options.timeout_s,
            max_retries=options.max_retries,
            stopped=stopped,
        )


def fetch_blob(
    models_dir: Path, client: "RegistryClient", name: ModelName, layer: Layer, progress: Progress, options: PullOptions
) -> None:
    """Of several who want the same blob, also in other processes, one fetches it and the others wait.

    Raises:
        ModelLoadError: it can't be fetched or written, came damaged, or `progress` was stopped.
    """
    from pagemill.store.registry.client import RemoteBlob

    item = RemoteBlob(name, layer)
    file = PartialFile(blobs.path_of(models_dir, layer.digest), item.location, REMEDY)
    with file.locked(progress.stopped), ExitStack() as stack:
        if blobs.is_here(models_dir, layer.digest, layer.size_bytes):
            return
        descriptor, runs = file.open(layer.digest, layer.size_bytes)
        stack.callback(os.close, descriptor)
        stack.callback(file.journal.close)
        file.check_space(layer.size_bytes - sum(run.end - run.start for run in runs))
        expected = Expected("SHA256", bytes.fromhex(layer.digest.removeprefix("sha256:")))
        download = Download(item, descriptor, expected, file.journal)
        part_bytes = options.part_bytes or part_bytes_of(layer.size_bytes, expected, options.concurrency)
        download.divide(runs, part_bytes)
        try:
            Transfer(client, [download], options.concurrency, progress, item.location, silent=True).run()
        except ChecksumError:
            file.discard()
            raise
        file.finish()


def _shown(layer: Layer) -> str:
    return layer.digest.removeprefix("sha256:")[:SHOWN_DIGITS]


def _note_failure(done: "asyncio.Future[None]") -> None:
    """Whoever waits is told; if nobody does, nobody needs to know."""
    if not done.cancelled():
        done.exception()


def _raise_failure(done: "asyncio.Future[None]") -> None:
    error = done.exception()
    if isinstance(error, PagemillError):
        raise error.with_traceback(None)  # raised for every waiter: tracebacks must not pile up
    done.result()
