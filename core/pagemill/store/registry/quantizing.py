"""Models of fewer bits: the GGUF file of a manifest quantized to a blob of its own, one at a time in a folder.

Owns the work that runs, on a thread that holds up nothing. What quantizes is handed in. May not import HTTP, an engine
or a backend.
"""

import asyncio
import hashlib
import json
import secrets
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Protocol

from pagemill.errors import ModelLoadError
from pagemill.store import daemons
from pagemill.store.registry import blobs
from pagemill.store.registry.manifests import CONFIG_TYPE, Layer, Manifest
from pagemill.store.registry.pulling import TICK_S, Status

READ_BYTES = 2**20


class Quantizer(Protocol):
    """A backend's: it knows the types, by the names that `/api/show` has for them."""

    def type_named(self, text: str) -> str:
        """Raises InvalidRequestError: there is no such type."""

    def type_of(self, source: Path) -> str:
        """Raises InvalidRequestError: it can't be quantized. ModelLoadError: it is no such file."""

    def quantize(
        self, source: Path, target: Path, kind: str, report: Callable[[int], None], stopped: threading.Event
    ) -> None:
        """Blocks until `target` is whole, or `stopped` is set. `report` is told how many bytes of the source are done.

        Raises:
            ModelLoadError: it failed.
        """


class Plan(NamedTuple):
    """A quantization that can begin. `is_needless` if the file is of that type already."""

    manifest: Manifest
    model: Layer  # of the manifest
    was: str
    kind: str

    @property
    def is_needless(self) -> bool:
        return self.was == self.kind


class Quantizations:
    """In one folder. One that is closed early leaves nothing."""

    def __init__(self, models_dir: Path, quantizer: Quantizer) -> None:
        self._models_dir = models_dir
        self._quantizer = quantizer
        self._turn = asyncio.Lock()

    def plan(self, manifest: Manifest, text: str) -> Plan:
        """To the type that a client calls so. Reads the file's header. The manifest has one model.

        Raises:
            InvalidRequestError: there is no such type, or the model can't be quantized.
            ModelLoadError: the file can't be read.
        """
        kind = self._quantizer.type_named(text)
        (model,) = manifest.of_kind("model")
        return Plan(manifest, model, self._quantizer.type_of(blobs.path_of(self._models_dir, model.digest)), kind)

    async def run(self, plan: Plan) -> AsyncGenerator[Status | Manifest, None]:
        """Tell how far it is, and in the end of the manifest that has the new blob.

        Raises:
            ModelLoadError: it failed, or there is no room.
        """
        if plan.is_needless:
            yield plan.manifest
            return
        told = Status(f"quantizing {plan.was} model to {plan.kind}", plan.model.digest, plan.model.size_bytes, 0)
        yield told
        async with self._turn:
            work = _Work(self._models_dir, self._quantizer, plan)
            done = asyncio.wrap_future(daemons.begin(work.run, f"quantize-{plan.kind}"))
            done.add_done_callback(_note_failure)
            try:
                while not done.done():
                    yield told._replace(completed=work.done_bytes)
                    await asyncio.wait({done}, timeout=TICK_S)
            finally:
                work.stopped.set()
                await asyncio.wait({done})
            manifest = done.result()
        yield told._replace(completed=plan.model.size_bytes)
        yield manifest


class _Work:
    """One quantization, on its thread. `stopped` may be set from any; then the result is of no use."""

    def __init__(self, models_dir: Path, quantizer: Quantizer, plan: Plan) -> None:
        self.stopped = threading.Event()
        self.done_bytes = 0
        self._models_dir = models_dir
        self._quantizer = quantizer
        self._plan = plan

    def run(self) -> Manifest:
        plan, folder = self._plan, self._models_dir
        target = folder / blobs.FOLDER / f".quantized-{secrets.token_hex(8)}"  # such a name is no blob's
        try:
            source = blobs.path_of(folder, plan.model.digest)
            self._quantizer.quantize(source, target, plan.kind, self._report, self.stopped)
            digest = "" if self.stopped.is_set() else self._digest(target)
            if self.stopped.is_set():
                return plan.manifest
            layer = Layer(plan.model.media_type, digest, target.stat().st_size)
            target.replace(blobs.path_of(folder, layer.digest))
            return _with_model(folder, plan, layer)
        except OSError as error:
            raise ModelLoadError(f"can't keep {plan.model.digest} as {plan.kind}: {error.strerror}") from error
        finally:
            with suppress(OSError):
                target.unlink(missing_ok=True)

    def _report(self, done_bytes: int) -> None:
        self.done_bytes = done_bytes

    def _digest(self, path: Path) -> str:
        """Of the whole file, unless it was stopped meanwhile."""
        sha256 = hashlib.sha256()
        with path.open("rb") as file:
            while not self.stopped.is_set() and (data := file.read(READ_BYTES)):
                sha256.update(data)
        return f"sha256:{sha256.hexdigest()}"


def _with_model(models_dir: Path, plan: Plan, model: Layer) -> Manifest:
    """The manifest with that model in place of its own, and a configuration that tells of it."""
    layers = tuple(model if layer == plan.model else layer for layer in plan.manifest.layers)
    known = _configuration(models_dir, plan.manifest.config)
    image = {"rootfs": {"type": "layers", "diff_ids": [layer.digest for layer in layers]}}
    content = json.dumps({**known, **image, "file_type": plan.kind}, separators=(",", ":")).encode()
    return Manifest.of(Layer(CONFIG_TYPE, blobs.write(models_dir, content), len(content)), layers)


def _configuration(models_dir: Path, config: Layer | None) -> dict[str, object]:
    """What Ollama was told of the model; the least of it if that can't be read."""
    if config is not None:
        with suppress(OSError, ValueError):
            found = json.loads(blobs.path_of(models_dir, config.digest).read_bytes())
            if isinstance(found, dict):
                return found
    return {"model_format": "gguf", "architecture": "amd64", "os": "linux"}


def _note_failure(done: "asyncio.Future[Manifest]") -> None:
    """Who waits is told; if nobody does, nobody needs to know."""
    if not done.cancelled():
        done.exception()
