"""Logging, as the entry points of all handlers configure it: plain lines on standard error, without the time, which the
platforms' log streams have. Owns no state.
"""

import logging

FORMAT = "%(levelname)s %(name)s: %(message)s"


def configure_logging(level: str) -> None:
    """Show our own records from `level` on, and those of libraries from WARNING on."""
    logging.basicConfig(format=FORMAT, level=logging.WARNING, force=True)
    for name in ("pagemill", "pagemill_handlers"):
        logging.getLogger(name).setLevel(level.upper())
