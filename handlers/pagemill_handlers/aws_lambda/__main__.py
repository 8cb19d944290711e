"""`python -m pagemill_handlers.aws_lambda`: the bootstrap process of a container image or custom runtime.

Owns the process: its logging, its signals, its exit code. The model's load begins first; the rest is imported while it
runs, and the first invocation is asked for before it has ended. What makes serving impossible is reported to Lambda as
an init error.
"""

import gc
import logging
import os
import sys

from pagemill.errors import PagemillError
from pagemill.settings import Settings
from pagemill.settings_layers import load_settings
from pagemill_handlers.aws_lambda.settings import LambdaSettings, load_lambda_settings, max_concurrency
from pagemill_handlers.logs import configure_logging

API_VARIABLE = "AWS_LAMBDA_RUNTIME_API"

logger = logging.getLogger("pagemill_handlers.aws_lambda")


def main() -> int:
    address = os.environ.get(API_VARIABLE)
    if not address:
        sys.stderr.write(f"{API_VARIABLE} is not set: Lambda sets it; elsewhere use `pagemill serve`\n")
        return 2
    gc.disable()  # for the imports
    try:
        settings, own, num_pollers = load_settings({}), load_lambda_settings(), max_concurrency()
        configure_logging(settings.log_level)
        return _serve(settings, own, address, num_pollers)
    except PagemillError as error:
        logger.error("can't serve: %s", error)
        _report(address, error)
        return 1


def _serve(settings: Settings, own: LambdaSettings, address: str, num_pollers: int) -> int:
    from pagemill.bootstrap import build_app, build_pool

    pool = build_pool(settings, load_at_once=True)
    app = build_app(settings, pool)
    import uvloop

    from pagemill_handlers.aws_lambda.runtime import Runtime
    from pagemill_handlers.aws_lambda.runtime_api import RuntimeApiError

    async def run() -> None:
        runtime = Runtime(app, pool, settings, own, address, num_pollers)
        runtime.stop_on_signals()
        gc.freeze()
        gc.enable()
        await runtime.run()

    try:
        uvloop.run(run())
    except (OSError, RuntimeApiError) as error:
        logger.error("the Runtime API is gone: %s", error)
        return 1
    return 0


def _report(address: str, error: PagemillError) -> None:
    import asyncio

    from pagemill_handlers.aws_lambda.runtime_api import RuntimeApi, RuntimeApiError

    async def report() -> None:
        api = RuntimeApi(address)
        await api.fail_init(type(error).__name__, error.message)
        await api.close()

    try:
        asyncio.run(report())
    except (OSError, RuntimeApiError) as lost:
        logger.error("can't report it to the Runtime API: %s", lost)


if __name__ == "__main__":
    sys.exit(main())
