"""The `pagemill` command with a slow fake backend, for tests that need an answer, or a load, to take its time:

python slow_pagemill.py SECONDS_PER_TOKEN SECONDS_TO_LOAD serve fake --port 0
"""

import sys
import time

from pagemill import bootstrap
from pagemill.backends.fake import FakeBackend
from pagemill.cli.main import main
from pagemill.settings import Settings
from pagemill.store.references import ModelReference

if __name__ == "__main__":
    step_delay_s, load_delay_s = float(sys.argv[1]), float(sys.argv[2])

    def load_backend(reference: ModelReference, settings: Settings) -> FakeBackend:
        time.sleep(load_delay_s)
        return FakeBackend(step_delay_s=step_delay_s)

    bootstrap.load_backend = load_backend
    sys.exit(main(sys.argv[3:]))
