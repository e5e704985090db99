"""Survey files over HTTP, from a real server of this test."""

from __future__ import annotations

import contextlib
import functools
import shutil
import socket
import threading
import zipfile
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from astropy.io import fits
from ingest_state import select
from sdss_files import row, spec_file, table

from etl import sources
from etl.checks import Fault
from etl.sdss import ingest_sdss
from etl.sources import opened
from schema.errors import TransientError, UserError


class Handler(SimpleHTTPRequestHandler):
    """Files of a folder; some paths are broken on purpose."""

    def do_GET(self) -> None:
        if "busy" in self.path:
            self.send_error(503)
        elif "secret" in self.path:
            self.send_error(403)
        elif "cut" in self.path:
            self.send_response(200)
            self.send_header("Content-Length", "100000")
            self.end_headers()
            self.wfile.write(b"SIMPLE")
        else:
            super().do_GET()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def duck(duckdb_template: Path, tmp_path: Path) -> str:
    """A DuckDB database, where the engine does not matter."""
    return str(shutil.copy(duckdb_template, tmp_path / "duck.duckdb"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A spec file and a catalogue."""
    made = tmp_path / "web"
    made.mkdir()
    spec_file(made / "spec-1.fits", FIBERID=1, PLUG_RA=1.0)
    rows = [row(FIBERID=k, PLUG_RA=float(k)) for k in (1, 2, 3)]
    fits.HDUList([fits.PrimaryHDU(), table(rows)]).writeto(made / "specObj-1.fits")
    return made


@pytest.mark.parametrize("in_memory", [1 << 26, 5000])
def test_files_and_folders(duck: str, folder: Path, in_memory: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Held in memory or, if large, in a temporary file; a folder of files by its listing."""
    monkeypatch.setattr(sources, "IN_MEMORY", in_memory)
    with served(folder) as url:
        done = ingest_sdss([f"{url}/spec-1.fits", f"{url}/specObj-1.fits"], duck)
        assert (done.loaded, done.rows, done.spectra) == (2, 4, 1)
        assert ingest_sdss([f"{url}/"], duck).nothing_new
        with pytest.raises(UserError, match=r"none.fits.*404"):
            ingest_sdss([f"{url}/none.fits"], duck)
    assert select(duck, "select fiber_id from spec_obj order by 1") == [(1,), (2,), (3,)]
    assert select(duck, "select count(*) from source_file where path like 'http://%'") == [(2,)]


def test_a_server_in_trouble_ends_the_ingest_for_now(duck: str, folder: Path) -> None:
    """What may be there later is no fault of the file; what is refused is."""
    shutil.copy(folder / "spec-1.fits", folder / "secret.fits")
    shutil.copy(folder / "spec-1.fits", folder / "busy.fits")
    shutil.copy(folder / "spec-1.fits", folder / "cut.fits")
    with served(folder) as url:
        for name in ("busy", "cut"):
            with pytest.raises(TransientError, match=f"{name}.fits cannot be reached.*run the same again"):
                ingest_sdss([f"{url}/{name}.fits"], duck)
            with pytest.raises(TransientError, match="run the same again"), opened(f"{url}/{name}.fits"):
                pass
        assert select(duck, "select count(*) from reject") == [(0,)]
        with pytest.raises(UserError, match=r"secret.fits.*403"):
            ingest_sdss([f"{url}/secret.fits"], duck)
        for name in ("secret", "gone"):
            with pytest.raises(Fault, match="cannot be opened") as refused, opened(f"{url}/{name}.fits"):
                pass
            assert refused.value.code == "unreadable"
    with socket.socket() as taken:  # a port at which nobody answers
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        for path in ("/spec-1.fits", "/", "/*.fits"):
            with pytest.raises(TransientError, match="run the same again"):
                ingest_sdss([url + path], duck)


def test_a_damaged_archive_is_a_fault_of_the_file(duck: str, folder: Path) -> None:
    archive = folder / "a.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        packed.write(folder / "spec-1.fits", "spec-1.fits")
    data = bytearray(archive.read_bytes())
    data[5000] ^= 255
    archive.write_bytes(data)
    done = ingest_sdss([str(archive)], duck)
    assert (done.rejected, dict(done.reasons)) == (1, {"unreadable": 1})
