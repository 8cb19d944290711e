"""Objects from elsewhere into files, by many ranged reads at once, and checked while they come.

A `Transfer` owns its threads, which are daemons: nothing that is fetched holds up the end of the process. A worker owns
the part that it took; where an answer is cut, it asks for the rest of the part.
"""

import os
import queue
import threading
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic

from pagemill.errors import ModelLoadError, PagemillError
from pagemill.store.disk import not_written
from pagemill.store.journal import Journal, Run, gaps
from pagemill.store.progress import Progress, ProgressLine
from pagemill.store.source import CutError, ItemT, Source
from pagemill.store.verification import Expected, Verification

READ_BYTES = 2**20  # at once from a connection: worth a turn of the interpreter, and still in the cache when written
RECORD_BYTES = 2**22  # between two lines of a journal
LEAST_PART_BYTES, MOST_PART_BYTES = 2**23, 2**26
TICK_S = 0.05

Came = tuple[Verification, int, int]  # bytes from a position to before another


class Part:
    """A run of bytes that one worker fetches. `position` is how far it is; only that worker moves it."""

    __slots__ = ("end", "position", "start")

    def __init__(self, start: int, end: int, position: int) -> None:
        self.start, self.end, self.position = start, end, position


class Download(Generic[ItemT]):
    """One object, the open file that it goes to, and what is there of it."""

    def __init__(self, item: ItemT, descriptor: int, expected: Expected | None, journal: Journal | None) -> None:
        self.item = item
        self.descriptor = descriptor
        self.expected = expected
        self.journal = journal
        self.parts: list[Part] = []
        self._starts: list[int] = []
        self.verification: Verification | None = None

    def divide(self, runs: Sequence[Run], part_bytes: int) -> None:
        """Lay out the parts: the runs that are here, and between them what is to be fetched."""
        parts = [Part(run.start, run.end, run.end) for run in runs]
        for gap in gaps(list(runs), self.item.size_bytes):
            starts = range(gap.start, gap.end, part_bytes)
            parts += [Part(start, min(start + part_bytes, gap.end), start) for start in starts]
        self.parts = sorted(parts, key=lambda part: part.start)
        self._starts = [part.start for part in self.parts]
        if self.expected is not None:
            self.verification = Verification(self.item, self.descriptor, self.expected, part_bytes, self.ready_until)

    def ready_until(self, position: int) -> int:
        """From that byte on, all before the returned one are here."""
        index = bisect_right(self._starts, position) - 1
        while 0 <= index < len(self.parts) and self.parts[index].position > position:
            position = self.parts[index].position
            if position < self.parts[index].end:
                break
            index += 1
        return position

    @property
    def num_missing_bytes(self) -> int:
        return sum(part.end - part.position for part in self.parts)


def part_bytes_of(size_bytes: int, expected: Expected | None, concurrency: int) -> int:
    """One part for each connection, unless that is too much to share out the work well, or too little for a request.
    What must be hashed from the first byte to the last is to come in about that order, so in small parts.
    """
    if expected is not None and expected.in_order:
        return LEAST_PART_BYTES
    return min(MOST_PART_BYTES, max(LEAST_PART_BYTES, -(-size_bytes // concurrency)))


class Transfer(Generic[ItemT]):
    """Of several objects together. `run` may be called once. Unless it is `silent`, it tells how far it is."""

    def __init__(
        self,
        source: Source[ItemT],
        downloads: Sequence[Download[ItemT]],
        concurrency: int,
        progress: Progress,
        what: str,
        *,
        silent: bool = False,
    ) -> None:
        self._source = source
        self._silent = silent
        self._downloads = downloads
        self._concurrency = concurrency
        self._progress = progress
        self._what = what
        self._queue = deque((item, part) for item in downloads for part in item.parts if part.position < part.end)
        self._came: queue.SimpleQueue[Came] = queue.SimpleQueue()
        self._failures: list[PagemillError] = []

    def run(self) -> None:
        """Fetch and check everything; returns when it is done.

        Raises:
            ModelLoadError: a file could not be fetched, or its checksum is wrong.
        """
        total = sum(item.item.size_bytes for item in self._downloads)
        self._progress.begin(total, total - sum(item.num_missing_bytes for item in self._downloads))
        num_workers = min(self._concurrency, len(self._queue))
        threads = [threading.Thread(target=self._guarded, args=(self._work,), daemon=True) for _ in range(num_workers)]
        hashing = threading.Thread(target=self._guarded, args=(self._hash,), name="fetch-hash", daemon=True)
        for thread in (*threads, hashing):
            thread.start()
        line = ProgressLine(self._what, self._progress)
        for thread in (*threads, hashing):
            while thread.is_alive():
                thread.join(TICK_S)
                if not self._silent:
                    line.show()
        if num_workers and not self._silent:
            line.end()
        if self._failures:
            raise self._failures[0]
        if self._progress.stopped.is_set():  # perhaps before everything was checked
            raise ModelLoadError(f"can't fetch {self._what}: it was stopped")

    @property
    def _ending(self) -> bool:
        return bool(self._failures) or self._progress.stopped.is_set()

    def _guarded(self, target: Callable[[], None]) -> None:
        try:
            target()
        except PagemillError as error:
            self._failures.append(error)
        except Exception as error:
            failure = ModelLoadError(f"can't fetch {self._what}: {type(error).__name__}: {error}")
            failure.__cause__ = error
            self._failures.append(failure)

    def _work(self) -> None:
        while not self._ending:
            try:
                download, part = self._queue.popleft()
            except IndexError:
                return
            self._fetch(download, part)

    def _fetch(self, download: Download[ItemT], part: Part) -> None:
        patience = self._source.patience()
        while part.position < part.end and not self._ending:
            before = part.position
            try:
                self._read(download, part)
            except self._source.failures as error:
                if part.position > before:
                    patience.renew()
                if not self._source.may_pass(error) or not patience.pause():
                    raise self._source.translated(error, download.item) from error

    def _read(self, download: Download[ItemT], part: Part) -> None:
        """The rest of the part, or as much of it as comes."""
        body = self._source.open_range(download.item, part.position, part.end)
        recorded = part.position
        try:
            while part.position < part.end and not self._ending:
                data = body.read(min(READ_BYTES, part.end - part.position))
                if not data:
                    raise CutError(f"the answer ended {part.end - part.position} bytes early")
                self._keep(download, part, data)
                if part.position - recorded >= RECORD_BYTES:
                    _record(download, recorded, part.position)
                    recorded = part.position
        finally:
            body.close()
            if part.position > recorded:
                _record(download, recorded, part.position)

    def _keep(self, download: Download[ItemT], part: Part, data: bytes) -> None:
        start = part.position
        try:
            _write(download.descriptor, data, start)
        except OSError as error:
            raise not_written(error, f"can't keep {download.item.location} here: {error.strerror}") from error
        part.position += len(data)
        self._progress.add(len(data))
        if download.verification is not None:
            self._came.put((download.verification, start, part.position))

    def _hash(self) -> None:
        """What has come, then compare. That a file is wrong is told of only when all came."""
        verifications = [item.verification for item in self._downloads if item.verification is not None]
        for item in self._downloads:
            if item.verification is not None:  # what is here from an earlier fetch
                item.verification.advance(0, item.item.size_bytes)
        while not self._ending and any(item.num_missing_bytes for item in verifications):
            try:
                verification, start, end = self._came.get(timeout=TICK_S)
            except queue.Empty:
                continue
            verification.advance(start, end)
        if not self._ending:
            for verification in verifications:
                verification.check()


def _record(download: Download[ItemT], start: int, end: int) -> None:
    if download.journal is not None:
        try:
            download.journal.record(Run(start, end))
        except OSError as error:  # of our disk, and not of the source, whose failures may pass
            raise not_written(error, f"can't keep {download.item.location} here: {error.strerror}") from error


def _write(descriptor: int, data: bytes, position: int) -> None:
    view = memoryview(data)
    while view:
        num_bytes = os.pwrite(descriptor, view, position)
        position += num_bytes
        view = view[num_bytes:]
