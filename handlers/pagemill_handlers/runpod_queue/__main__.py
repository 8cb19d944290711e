"""`python -m pagemill_handlers.runpod_queue`: the process of a worker, on RunPod or under its local test API.

Owns the process: its logging, its exit code; signals are RunPod's package's. The model's load begins first; the rest,
RunPod's package above all, is imported while it runs.
"""

import logging
import os
import sys

from pagemill.errors import PagemillError
from pagemill.settings import UNGUARDED, Settings
from pagemill.settings_layers import load_settings
from pagemill_handlers.logs import configure_logging

logger = logging.getLogger("pagemill_handlers.runpod_queue")


def main() -> int:
    try:
        settings = load_settings(UNGUARDED)  # the queue is RunPod's to guard
        configure_logging(settings.log_level)
        _serve(settings)
    except PagemillError as error:
        logger.error("can't serve: %s", error)
        return 1
    return 0


def _serve(settings: Settings) -> None:
    from pagemill.bootstrap import build_app, build_pool

    pool = build_pool(settings, load_at_once=True)
    app = build_app(settings, pool)
    os.environ.setdefault("RUNPOD_LOG_LEVEL", "INFO")  # by default RunPod's package would log what is answered
    import runpod

    from pagemill_handlers.runpod_queue.worker import QueueWorker

    worker = QueueWorker(app, pool, settings)
    runpod.serverless.start(
        {
            "handler": worker.handle,
            "concurrency_modifier": worker.max_concurrency,
            "return_aggregate_stream": True,
        }
    )


if __name__ == "__main__":
    sys.exit(main())
