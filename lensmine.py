"""The ``lensmine`` command: mounts each floor's commands; a failure becomes one line and an exit code."""

from __future__ import annotations

import errno
import importlib
import os
import sys
from typing import Annotated

import typer

from schema.errors import LensmineError, TransientError

__version__ = "0.1.0"

FLOORS = (
    "schema.cli",
    "schema.cli_sql",
    "etl.cli",
    "scoring.cli",
    "dashboard.cli",
    "lensmine_demo",
    "lensmine_refresh",
)
"""Modules whose ``register(app)`` adds commands; each imports what is heavy inside its commands only."""

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""

app = typer.Typer(
    name="lensmine",
    help="Mine surveys for strong gravitational lenses: the whole search in one database.\n\n"
    "New here? [bold]lensmine demo[/bold] makes a mock survey, searches it and says what to type next.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    add_completion=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"lensmine {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options of the command itself; ``--version`` is handled by its callback."""


for _floor in FLOORS:
    importlib.import_module(_floor).register(app)


def as_lensmine_error(exc: BaseException) -> LensmineError | None:
    """Translate failures of the system around us into our classes.

    Parameters
    ----------
    exc : BaseException
        What a command raised.

    Returns
    -------
    LensmineError or None
        The error to report as one line; None for what nobody foresaw.
    """
    if isinstance(exc, LensmineError):
        return exc
    if isinstance(exc, OSError) and exc.errno in (errno.ENOSPC, errno.EDQUOT):
        where = f" while writing {exc.filename}" if exc.filename else ""
        return TransientError(f"no space left on the disk{where}; free some and run the same command again")
    if isinstance(exc, MemoryError):
        return TransientError("not enough memory; close other programs or give a smaller --batch")
    return None


def _fail(line: str) -> None:
    """Print one line in red on stderr, without letting a terminal's width break it."""
    colour = sys.stderr.isatty() and "NO_COLOR" not in os.environ
    print(f"\x1b[31merror:\x1b[0m {line}" if colour else f"error: {line}", file=sys.stderr)


def main() -> None:
    """Run the command line; exits 2 (user), 65 (data), 75 (try later), 130 (Ctrl-C), 1 (unforeseen)."""
    try:
        app(prog_name="lensmine")
    except SystemExit as leave:
        if leave.code == INTERRUPTED:
            _fail("interrupted; what was committed stays, and the same command goes on from there")
        raise
    except Exception as exc:
        if os.environ.get("LENSMINE_TRACEBACK"):
            raise
        known = as_lensmine_error(exc)
        if known is not None:
            _fail(" ".join(str(known).split()))
            sys.exit(known.exit_code)
        text = " ".join(str(exc).split())[:300]
        _fail(
            f"{type(exc).__name__}: {text} (not foreseen; LENSMINE_TRACEBACK=1 shows where, please report it)"
        )
        sys.exit(1)


if __name__ == "__main__":
    main()
