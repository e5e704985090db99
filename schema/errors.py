"""Three classes of failure, each with the exit code that cron and scripts see.

The codes follow BSD ``sysexits.h`` where it has a fitting one, so that cron wrappers know them.
"""

from __future__ import annotations


class LensmineError(Exception):
    """Base of every failure that is reported as one line instead of a traceback."""

    exit_code = 1


class UserError(LensmineError):
    """The command cannot be carried out as asked; asking differently helps (exit code 2)."""

    exit_code = 2


class DataError(LensmineError):
    """A file or a row is not what it should be; mending or removing the data helps (exit code 65)."""

    exit_code = 65


class TransientError(LensmineError):
    """Something outside is busy, full or gone for now; the same command later helps (exit code 75)."""

    exit_code = 75
