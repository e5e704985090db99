"""Where text goes: results to standard output, progress and warnings to standard error."""

from __future__ import annotations

import datetime
import json
import math
import shutil
import sys
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


def _width() -> int:
    """Columns of tables: the terminal's, at least 110 so that no figure is cut; 200 into a file or a pipe."""
    return max(shutil.get_terminal_size().columns, 110) if sys.stdout.isatty() else 200


out = Console(soft_wrap=True, highlight=False, width=_width())
"""Results."""

err = Console(stderr=True, soft_wrap=True, highlight=False)
"""Progress, warnings and errors."""


def jsonable(value: Any) -> Any:
    """The value with everything that JSON lacks replaced: NaN and infinities by null, times by ISO text."""
    if isinstance(value, dict):
        return {str(k): jsonable(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [jsonable(v) for v in value]
    if isinstance(value, np.ndarray):
        return jsonable(value.tolist())
    if isinstance(value, np.generic):
        return jsonable(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, (datetime.datetime, datetime.date)):
        return value.isoformat()
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    return str(value)


def print_json(obj: Any) -> None:
    """Print one JSON document on standard output, plainly: no colour, no wrapping, no NaN."""
    sys.stdout.write(json.dumps(jsonable(obj), indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    sys.stdout.flush()


def progress(*, quiet: bool = False) -> Progress:
    """A progress bar on standard error; silent when quiet or when standard error is not a terminal."""
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=err,
        transient=True,
        disable=quiet or not err.is_terminal,
    )
