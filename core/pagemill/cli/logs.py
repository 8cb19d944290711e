"""Logging, configured here and nowhere else: plain lines on standard error."""

import logging

FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def configure_logging(level: str) -> None:
    """Show our own records from `level` on, and those of libraries from WARNING on."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter(FORMAT))
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logging.getLogger("pagemill").setLevel(level.upper())
    if level == "error":
        logging.getLogger().setLevel(logging.ERROR)
