"""Survey files wherever they are: local paths, folders, globs, zip archives and fsspec URLs, gzipped
or not.
"""

from __future__ import annotations

import contextlib
import datetime
import errno
import gzip
import lzma
import mmap
import os
import tempfile
import time
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xxhash

from etl.checks import Fault
from etl.fits_fast import Buffer
from schema.errors import TransientError, UserError

SUFFIXES = (".fits", ".fit", ".fits.gz", ".fit.gz", ".fits.fz", ".csv", ".csv.gz")
"""Endings of the files that a folder is searched for."""

IN_MEMORY = 64 << 20
"""Files up to this size are read whole, larger ones are mapped [byte]."""

PIECE = 8 << 20
GZIP = b"\x1f\x8b"
_WEB = ("http://", "https://")
_LOCAL = ("file", "local", "memory")
SETTLED_NS = 2_000_000_000
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


@dataclass
class Content:
    """A file's bytes, unpacked if it was compressed, and the hash of the bytes as they were stored."""

    buf: Buffer
    content_hash: str
    size: int
    modified_at: datetime.datetime | None = None
    """Time stamp before the bytes were read; None for a URL, and for a file written a moment ago."""


def discover(paths: Iterable[str], suffixes: tuple[str, ...] = SUFFIXES) -> list[str]:
    """Files that the arguments name, each once, as absolute paths or URLs, in order.

    Parameters
    ----------
    paths : iterable of str
        Files, folders (searched for FITS and CSV files at any depth), globs, .zip archives, fsspec URLs.
    suffixes : tuple of str
        Endings of the files that folders and archives are searched for.

    Raises
    ------
    UserError
        When an argument names nothing.
    """
    found: dict[str, None] = {}
    for text in paths:
        text = os.fspath(text)
        names = _remote(text, suffixes) if is_url(text) else _local(text, suffixes)
        if not names:
            raise UserError(
                f"nothing to ingest at {text!r}: give files, folders, globs or fsspec URLs of survey files"
            )
        found.update(dict.fromkeys(names))
    return list(found)


def is_url(path: str) -> bool:
    """Whether a path goes through fsspec."""
    return "://" in path


def _local(text: str, suffixes: tuple[str, ...]) -> list[str]:
    path = Path(text).expanduser()
    if path.is_dir():
        return sorted(_walk(path.absolute(), suffixes))
    if path.suffix.lower() == ".zip" and path.is_file():
        return _remote(f"zip://**::file://{path.absolute()}", suffixes)
    if path.exists():
        return [str(path.absolute())]
    if any(c in text for c in "*?["):
        import glob

        hits = sorted(glob.glob(str(path), recursive=True))
        return [str(Path(h).absolute()) for h in hits if os.path.isfile(h)]
    raise UserError(f"no file or folder {text!r}")


def _walk(folder: Path, suffixes: tuple[str, ...]) -> Iterator[str]:
    for base, folders, files in os.walk(folder):
        folders.sort()
        for name in files:
            if name.lower().endswith(suffixes):
                yield os.path.join(base, name)


def _remote(text: str, suffixes: tuple[str, ...]) -> list[str]:
    import fsspec

    try:
        system, path = fsspec.core.url_to_fs(text)
        chained = "::" + text.split("::", 1)[1] if "::" in text else ""
        globbed = any(c in path for c in "*?[")
        if not globbed and not path.endswith("/") and system.isfile(path):
            return [text]
        hits = system.glob(path) if globbed else system.find(path)
        any_ending = globbed and "**" not in path
        web = text.startswith(_WEB)  # there, to ask whether it is a folder is to read all of it
        if web and not hits:
            _ask_why(system, path)
        out = []
        for hit in sorted(hits):
            known = hit.lower().endswith(suffixes)
            if not (known or any_ending) or (not (known and web) and system.isdir(hit)):
                continue
            protocol = text.split("://", 1)[0]
            out.append(hit if is_url(hit) else f"{protocol}://{hit.lstrip('/') if chained else hit}{chained}")
        return out
    except UserError:
        raise
    except FileNotFoundError:
        return []
    except Exception as exc:
        fault = _url_trouble(text, exc)
        raise UserError(f"{text!r}: {fault}") if isinstance(fault, Fault) else fault from exc


def _ask_why(system: Any, path: str) -> None:
    """Raise what keeps a web address from being listed, which fsspec takes for an empty folder."""
    try:
        system.info(path)
    except FileNotFoundError as exc:
        if isinstance(exc.__cause__, Exception):
            raise exc.__cause__ from None
        raise


def _url_trouble(path: str, exc: Exception) -> Fault | TransientError:
    """What to raise for a URL that could not be read: of a server in trouble, that it may help to wait."""
    told = " ".join(str(exc).split())[:200] or type(exc).__name__
    status = getattr(exc, "status", 0)  # of a server's answer
    refused = isinstance(status, int) and 400 <= status < 500 and status not in (408, 429)
    hopeless = isinstance(exc, FileNotFoundError | PermissionError | ImportError | ValueError | LookupError)
    if refused or hopeless or path.rpartition("::")[2].partition("://")[0] in _LOCAL:
        return Fault("unreadable", f"the URL cannot be opened: {told}")
    return TransientError(
        f"{path} cannot be reached: {told}; see to the network or wait, and run the same again: it goes on "
        "from where it ended"
    )


@contextlib.contextmanager
def opened(path: str) -> Iterator[Content]:
    """A file's content, unpacked; large files are mapped, large compressed ones unpacked to a temporary file.

    Raises
    ------
    Fault
        When the file cannot be read or its compressed stream is damaged.
    TransientError
        When a disk is full.
    """
    stored = Content(b"", "", 0)
    with contextlib.ExitStack() as stack:
        try:
            content = _open_url(path, stack, stored) if is_url(path) else _open_local(path, stack, stored)
        except (EOFError, zlib.error, gzip.BadGzipFile, lzma.LZMAError) as exc:
            fault = Fault("truncated", f"the compressed file is cut short or damaged: {exc}")
            fault.content_hash, fault.size = stored.content_hash, stored.size
            fault.modified_at = stored.modified_at
            raise fault from exc
        except OSError as exc:
            if exc.errno == errno.ENOSPC:
                raise TransientError(f"no room to unpack {path}: {exc.strerror}") from exc
            raise Fault("unreadable", f"the file cannot be read: {exc.strerror or exc}") from exc
        yield content


def _open_local(path: str, stack: contextlib.ExitStack, stored: Content) -> Content:
    handle = stack.enter_context(open(path, "rb"))  # noqa: SIM115
    stat = os.fstat(handle.fileno())
    stored.size, stored.modified_at = stat.st_size, settled_time(stat)
    if stored.size <= IN_MEMORY:
        return _held(handle.read(), stored)
    stored.content_hash = _hash_of(handle)
    return Content(_mapped_or_unpacked(handle, stack), stored.content_hash, stored.size, stored.modified_at)


def settled_time(stat: os.stat_result) -> datetime.datetime | None:
    """Modification time of a file, to the microsecond; None where it may yet change without a new time stamp.

    Time stamps are as coarse as 2 s on some disks, so a file written within the last 2 s says nothing.
    """
    if time.time_ns() - stat.st_mtime_ns < SETTLED_NS:
        return None
    return _EPOCH + datetime.timedelta(microseconds=stat.st_mtime_ns // 1000)


def _open_url(path: str, stack: contextlib.ExitStack, stored: Content) -> Content:
    import fsspec

    web = {"block_size": 0} if path.startswith(_WEB) else {}  # one request, read from begin to end
    spool = None
    try:
        with fsspec.open(path, "rb", compression=None, **web) as remote:
            first = _up_to(remote, IN_MEMORY)
            if len(first) == IN_MEMORY:
                spool = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
                spool.write(first)
                while piece := remote.read(PIECE):
                    spool.write(piece)
                spool.flush()
    except (EOFError, zlib.error, gzip.BadGzipFile, lzma.LZMAError):
        raise
    except Exception as exc:
        if isinstance(exc, OSError) and exc.errno == errno.ENOSPC:
            raise
        raise _url_trouble(path, exc) from exc
    if spool is None:
        return _held(first, stored)
    stored.content_hash, stored.size = _hash_of(spool), spool.tell()
    return Content(_mapped_or_unpacked(spool, stack), stored.content_hash, stored.size)


def _up_to(handle: Any, size: int) -> bytes:
    """The first so many bytes, or all that there are: one read of a stream may give fewer."""
    pieces = []
    while size and (piece := handle.read(min(size, PIECE))):
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)


def _held(data: bytes, stored: Content) -> Content:
    """Content of a file read whole; ``stored`` learns of it before anything is unpacked."""
    stored.content_hash, stored.size = xxhash.xxh3_128_hexdigest(data), len(data)
    buf = gzip.decompress(data) if data[:2] == GZIP else data
    return Content(buf, stored.content_hash, stored.size, stored.modified_at)


def _mapped_or_unpacked(handle: Any, stack: contextlib.ExitStack) -> mmap.mmap:
    return _unpack_to_file(handle, stack) if _magic(handle) == GZIP else _mapped(handle, stack)


def _hash_of(handle: Any) -> str:
    digest = xxhash.xxh3_128()
    handle.seek(0)
    while piece := handle.read(PIECE):
        digest.update(piece)
    return digest.hexdigest()


def _magic(handle: Any) -> bytes:
    handle.seek(0)
    magic: bytes = handle.read(2)
    handle.seek(0)
    return magic


def _unpack_to_file(handle: Any, stack: contextlib.ExitStack) -> mmap.mmap:
    spool = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
    with gzip.GzipFile(fileobj=handle) as packed:
        while piece := packed.read(PIECE):
            spool.write(piece)
    spool.flush()
    return _mapped(spool, stack)


def _mapped(handle: Any, stack: contextlib.ExitStack) -> mmap.mmap:
    mapped = mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ)
    stack.callback(_unmap, mapped)
    return mapped


def _unmap(mapped: mmap.mmap) -> None:
    """Close a map unless arrays still look into it; those keep it alive and it goes with them."""
    with contextlib.suppress(BufferError):
        mapped.close()
