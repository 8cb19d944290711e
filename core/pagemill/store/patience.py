"""How often, and after what pauses, something that may pass is tried again. Owns one series of failures."""

import random
import threading

FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 10.0


class Patience:
    """For one thing to be done. Pauses grow twofold and are random, so that many who fail do not return together."""

    def __init__(self, max_retries: int, stopped: threading.Event) -> None:
        self._max_retries = max_retries
        self._stopped = stopped
        self._num_failures = 0

    def renew(self) -> None:
        """There was progress: what failed before does not count any more."""
        self._num_failures = 0

    def pause(self) -> bool:
        """Wait before the next try. False if there shall be none: they are used up, or one is to stop."""
        self._num_failures += 1
        if self._num_failures > self._max_retries:
            return False
        ceiling_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2**self._num_failures)
        return not self._stopped.wait(random.uniform(0, ceiling_s))
