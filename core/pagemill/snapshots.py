"""Prefix snapshots: the KV of a fixed prefix, made once and kept in a file, and put into engines that start later.

While a model loads, its snapshots are opened, bound to the model and checked for damage on a thread of their own. When
the backend is there, what the KV depends on is compared, and the engine takes it in. A snapshot that was named and
doesn't fit fails the load; one that merely lies beside the model is left out with a warning.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import NamedTuple

from pagemill import __version__
from pagemill.backends.base import Backend
from pagemill.engine.engine import Engine
from pagemill.engine.prefix import compute_prefix
from pagemill.errors import ModelLoadError, PagemillError
from pagemill.store.model_identity import is_same_model, record_files
from pagemill.store.references import ModelReference
from pagemill.store.snapshot_file import Identity, SnapshotFile, SnapshotHead, open_snapshot, write_snapshot

logger = logging.getLogger(__name__)

AUTO, OFF = "auto", "off"  # of the setting `prefix_snapshot`, beside paths


class Candidate(NamedTuple):
    """A snapshot to start with. `named` if a setting asks for this file."""

    path: Path
    named: bool


class SnapshotLoad:
    """The snapshots of one load of a model. `start` begins to read them, `restore` ends it."""

    def __init__(self, reference: ModelReference, candidates: Sequence[Candidate]) -> None:
        self._reference = reference
        self._candidates = [(candidate, Future[SnapshotFile]()) for candidate in candidates]

    def start(self) -> None:
        for _, future in self._candidates:
            future.set_running_or_notify_cancel()  # from here on, a cancelled wait can't cancel the future itself
        threading.Thread(target=self._read, name=f"snapshots-{self._reference.name}", daemon=True).start()

    async def restore(self, engine: Engine, backend: str) -> None:
        """Wait for the files, and put those that fit into the started engine's cache. `backend` is the kind of the
        engine's.

        Raises:
            ModelLoadError: one that was named does not fit, or can't be read; names the file and what is wrong.
        """
        for candidate, future in self._candidates:
            try:
                snapshot = await asyncio.wrap_future(future)
                check_fit(snapshot, backend, engine.kv_identity())
                began = time.perf_counter()
                await self._restore(engine, snapshot)
            except PagemillError as error:
                if candidate.named:
                    raise
                logger.warning("starting without a prefix snapshot: %s", error)
                continue
            num_tokens, elapsed_ms = len(snapshot.head.token_ids), (time.perf_counter() - began) * 1000
            logger.info("restored %d tokens from %s in %.1f ms", num_tokens, candidate.path, elapsed_ms)

    async def _restore(self, engine: Engine, snapshot: SnapshotFile) -> None:
        try:
            await engine.restore(snapshot.head.token_ids, snapshot.data)
        except PagemillError as error:
            raise ModelLoadError(f"the prefix snapshot {snapshot.path} can't be restored: {error}") from error

    def _read(self) -> None:
        for candidate, future in self._candidates:
            try:
                snapshot = open_snapshot(candidate.path)
                check_model(snapshot, self._reference)
                snapshot.verify()
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(snapshot)


def candidates_of(reference: ModelReference, prefix_snapshot: Sequence[str]) -> list[Candidate]:
    """What the setting asks for, and what is there of its own accord."""
    candidates = [Candidate(Path(name).expanduser(), True) for name in prefix_snapshot if name not in (AUTO, OFF)]
    beside = reference.snapshot_path()
    if AUTO in prefix_snapshot and beside.is_file() and beside not in (candidate.path for candidate in candidates):
        candidates.append(Candidate(beside, False))
    return candidates


def check_model(snapshot: SnapshotFile, reference: ModelReference) -> None:
    """
    Raises:
        ModelLoadError: it was made from another model; gives both digests.
    """
    head = snapshot.head
    if not is_same_model(reference, head.model_digest, head.model_files):
        raise ModelLoadError(
            f"the prefix snapshot {snapshot.path} was made from another model: from {head.model} with the digest "
            f"{head.model_digest}, and {reference.path} has {reference.digest()}"
        )


def check_fit(snapshot: SnapshotFile, backend: str, identity: Identity) -> None:
    """
    Raises:
        ModelLoadError: something that KV depends on differs; names it, and gives both values.
    """
    theirs: Identity = {"backend": snapshot.head.backend, **snapshot.head.identity}
    ours: Identity = {"backend": backend, **identity}
    for name in {**theirs, **ours}:
        if theirs.get(name) != ours.get(name):
            raise ModelLoadError(
                f"the prefix snapshot {snapshot.path} does not fit: it was made with {name} {theirs.get(name)}, here "
                f"{name} is {ours.get(name)}"
            )


def make_snapshot(
    reference: ModelReference, backend: Backend, backend_name: str, token_ids: tuple[int, ...], path: Path
) -> int:
    """Compute the prefix on a backend that runs nothing else, and write the file. Returns its size in bytes.

    Raises:
        ModelLoadError: the prefix is empty or too long for the backend, or the file can't be written.
        BackendError: the prefix can't be computed, or not be saved.
    """
    if not 0 < len(token_ids) < backend.max_model_len:
        raise ModelLoadError(
            f"a prefix must have at least one token and leave room for one more: it has {len(token_ids)}, and "
            f"max_model_len is {backend.max_model_len}"
        )
    from zlib import crc32

    files = record_files(reference)  # before anything is read: what changes afterwards is another model
    data = compute_prefix(backend, token_ids)
    head = SnapshotHead(
        made_by=f"pagemill {__version__}",
        model=reference.name,
        model_digest=reference.digest(),
        model_files=files,
        backend=backend_name,
        identity=backend.kv_identity(),
        token_ids=token_ids,
        num_bytes=len(data),
        crc32=crc32(data),
    )
    return write_snapshot(path, head, data)
