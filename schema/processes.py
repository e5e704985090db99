"""Processes by name, across hosts: who holds a lease or writes a folder, and whether it surely ended."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

ABANDONED_S = 24 * 3600.0
"""A temporary folder of another host that was not written to for so long is a leftover [s]."""

_JOINT = "~"
_TEMPORARY = re.compile(r"[^~]+~([^~]+)~([^~]+)~(\d+)~([^~]+)~[0-9a-f]{8}\.tmp")
_WITHOUT_HOST = re.compile(r".+-\d+-[0-9a-f]{8}\.tmp")


def owner_name() -> str:
    """This process: host, boot, process number and start time."""
    return f"{socket.gethostname()}:{_boot()}:{os.getpid()}:{_started(os.getpid())}"


def is_dead(owner: str) -> bool:
    """Whether the process of that name is surely gone: it ran on this host and does not any more."""
    host, boot, pid, started = owner.rsplit(":", 3)
    if host != socket.gethostname() or boot != _boot():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return _started(int(pid)) != started


def temporary_name(prefix: str) -> str:
    """Name of a folder that this process writes to before it renames it; `clean_temporary` knows it."""
    return _JOINT.join([prefix, *owner_name().rsplit(":", 3), secrets.token_hex(4)]) + ".tmp"


def clean_temporary(root: Path) -> int:
    """Remove temporary folders whose process is gone; returns how many.

    Of processes of other hosts nothing is known, nor of those that earlier versions named without their
    host: their folders go when nothing was written to them for a day.
    """
    removed = 0
    for folder in Path(root).glob("*.tmp"):
        owner = _TEMPORARY.fullmatch(folder.name)
        if owner:
            gone = is_dead(":".join(owner.groups())) or _is_abandoned(folder)
        else:
            gone = _WITHOUT_HOST.fullmatch(folder.name) is not None and _is_abandoned(folder)
        if gone:
            shutil.rmtree(folder, ignore_errors=True)
            removed += 1
    return removed


def _is_abandoned(folder: Path) -> bool:
    try:
        last = max(path.stat().st_mtime for path in (folder, *folder.iterdir()))
    except OSError:  # renamed or removed meanwhile, or no folder
        return False
    return time.time() - last > ABANDONED_S


def _boot() -> str:
    path = Path("/proc/sys/kernel/random/boot_id")
    return path.read_text().strip()[:8] if path.exists() else "-"


def _started(pid: int) -> str:
    """Start time of a process in clock ticks, so that a number used anew is not taken for the old process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return "-"


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Put off Ctrl-C and SIGTERM to the end of a short block, as of a transaction; a second comes through.

    A driver that is interrupted while it talks to its server may answer with its own error, and what the
    transaction did is then unknown.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # signals come to the main thread alone
        return
    came: list[tuple[int, FrameType | None]] = []
    held = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def note(number: int, frame: FrameType | None) -> None:
        handler = held[signal.Signals(number)]
        if came and callable(handler):
            handler(number, frame)
        came.append((number, frame))

    for number, handler in held.items():
        if callable(handler):  # what is ignored, or ends the process at once, stays so
            signal.signal(number, note)
    try:
        yield
    finally:
        for number, handler in held.items():
            if callable(handler):
                signal.signal(number, handler)
        if came:  # also when the block failed: the signal must not be lost
            first = held[signal.Signals(came[0][0])]
            if callable(first):
                first(*came[0])
