"""Signals wait for the end of a transaction, and are not lost."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import os, signal
from schema.processes import uninterrupted
signal.signal(signal.SIGTERM, signal.default_int_handler)
done = []
try:
    with uninterrupted():
        os.kill(os.getpid(), signal.{name})
        done.append("whole")
        {more}
    done.append("after")
except KeyboardInterrupt:
    done.append("interrupted")
print(*done)
"""


@pytest.mark.parametrize(
    ("name", "more", "said"),
    [
        ("SIGTERM", "", "whole interrupted"),
        ("SIGINT", "", "whole interrupted"),
        ("SIGTERM", "raise ValueError", "whole interrupted"),
        ("SIGTERM", "os.kill(os.getpid(), signal.SIGINT); done.append('more')", "whole interrupted"),
    ],
)
def test_a_signal_waits_for_the_end_and_a_second_does_not(name: str, more: str, said: str) -> None:
    script = SCRIPT.format(name=name, more=more or "pass")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout.split() == said.split(), done.stderr
