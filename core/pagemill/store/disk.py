"""What a disk says when it can't take a model, in Pagemill's words. Owns no state."""

import errno

from pagemill.errors import ModelLoadError, NoSpaceError

FULL = (errno.ENOSPC, errno.EDQUOT)


def not_written(error: OSError, message: str) -> ModelLoadError:
    """The error to raise with that message: a full disk is one of its own."""
    return NoSpaceError(message) if error.errno in FULL else ModelLoadError(message)
