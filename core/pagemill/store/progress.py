"""How far a fetch is: for probes, and as a line on the terminal or in the log. Knows nothing of what is fetched."""

import logging
import sys
import threading
import time

logger = logging.getLogger(__name__)

LINE_EVERY_S = 0.2  # on a terminal
LOG_EVERY_S = 5.0
MB = 10**6


class Progress:
    """Counts bytes. Several threads add to it, any may read it. `stop` asks whoever fetches to give up."""

    def __init__(self) -> None:
        self.total_bytes = 0
        self.fetched_bytes = 0
        self.stopped = threading.Event()
        self._lock = threading.Lock()

    def begin(self, total_bytes: int, fetched_bytes: int) -> None:
        """So much is to be fetched, of which so much is here already."""
        self.total_bytes, self.fetched_bytes = total_bytes, fetched_bytes

    def add(self, num_bytes: int) -> None:
        with self._lock:
            self.fetched_bytes += num_bytes

    def stop(self) -> None:
        self.stopped.set()

    def __str__(self) -> str:
        """Empty until it is known how much there is to fetch."""
        if not self.total_bytes:
            return ""
        return f"{self.fetched_bytes / MB:.0f} of {self.total_bytes / MB:.0f} MB fetched"


class ProgressLine:
    """Shows a progress: on a terminal one line that is written over and over, else a log line every few seconds.

    A terminal whose log level hides such lines gets none.
    """

    def __init__(self, what: str, progress: Progress) -> None:
        self._what = what
        self._progress = progress
        self._on_terminal = sys.stderr.isatty()
        self._enabled = logger.isEnabledFor(logging.INFO)
        self._began_at = self._shown_at = time.perf_counter()
        self._began_with = progress.fetched_bytes

    def show(self) -> None:
        """To be called often; shows something if it is time."""
        now = time.perf_counter()
        if not self._enabled or now - self._shown_at < (LINE_EVERY_S if self._on_terminal else LOG_EVERY_S):
            return
        self._shown_at = now
        if self._on_terminal:
            sys.stderr.write(f"\r{self._text(now)}\x1b[K")
            sys.stderr.flush()
        else:
            logger.info("%s", self._text(now))

    def end(self) -> None:
        """The last line, which stays."""
        if self._on_terminal and self._enabled:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
        logger.info("%s", self._text(time.perf_counter()))

    def _text(self, now: float) -> str:
        rate = (self._progress.fetched_bytes - self._began_with) / max(now - self._began_at, 1e-6)
        return f"{self._what}: {self._progress}, {rate / MB:.0f} MB/s"
