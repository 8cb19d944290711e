"""The error of a verb that can't do what was asked of it: printed as one line, exit code 1."""

from pagemill.errors import PagemillError


class CommandError(PagemillError):
    """The message says what was wrong and what to do."""

    code = "command_failed"
