"""The bootstrap process with a slow fake backend, for tests that need an answer to take its time:

python lambda_function.py SECONDS_PER_TOKEN
"""

import sys

from pagemill import bootstrap
from pagemill.backends.fake import FakeBackend
from pagemill.settings import Settings
from pagemill.store.references import ModelReference
from pagemill_handlers.aws_lambda.__main__ import main

if __name__ == "__main__":
    step_delay_s = float(sys.argv[1])

    def load_backend(reference: ModelReference, settings: Settings) -> FakeBackend:
        return FakeBackend(step_delay_s=step_delay_s)

    bootstrap.load_backend = load_backend
    sys.exit(main())
