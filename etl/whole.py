"""Files that hold many spectra each: catalogues and plates, read in the main process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import sqlalchemy as sa
from numpy.typing import NDArray

from etl.batch import Batch, file_row, now, reject_row, shard_row, source_file_id, spectra_table, spectrum_row
from etl.catalogue import Piece, read_catalogue, read_csv
from etl.checks import Fault, Note
from etl.columns import IDENTITY, require
from etl.fills import drop_rows, take_back
from etl.load import load_files, read_again
from etl.merge import Blanked, Origin, merge_rows
from etl.pixels import ShardWriter
from etl.plates import read_plate
from etl.rows import Rows, make_rows, unlisted
from etl.sources import Content
from etl.text import text
from schema.ahead import ahead
from schema.tables import spec_obj, target
from schema.upsert import bulk_load


class CatalogueLoader:
    """A catalogue on its way into the database, a piece at a time.

    The first piece is read at once, so that a file that is no catalogue fails before a transaction begins.
    Loaded into an empty table, the rows' ``positions`` are kept for finding epochs: target_id, ra_deg and
    dec_deg, 24 bytes a row.

    Parameters
    ----------
    path : str
        Path or URL of the file.
    content : Content
        Its bytes.
    known : bool
        Whether an earlier ingest loaded it with other content.
    """

    def __init__(self, path: str, content: Content, known: bool) -> None:
        self.path, self.content, self.known = path, content, known
        self.file_id = source_file_id(path)
        self.n_expected = 0
        self.positions: dict[str, NDArray[Any]] | None = None
        if bytes(content.buf[:6]) == b"SIMPLE":
            self.kind, self.n_expected, pieces = read_catalogue(path, content.buf)
        else:
            self.kind, pieces = "skyserver", read_csv(content.buf)
        self.listed: dict[str, int] = {}
        self._made = ahead(self._rows(piece) for piece in pieces)
        self._first = next(self._made)

    def _rows(self, piece: Piece) -> Rows:
        require(set(piece.fields), IDENTITY, piece.hdu or 0)
        first = piece.first_row if piece.numbers is None else piece.numbers
        rows = make_rows(piece.fields, self.file_id, hdu=piece.hdu, first_row=first, listed=self.listed)
        rows.notes += piece.notes
        return rows

    def _all(self) -> Iterator[Rows]:
        yield self._first
        yield from self._made

    def load(self, conn: sa.Connection) -> tuple[Batch, int, NDArray[np.int64]]:
        """Load every row within the caller's transaction.

        Returns
        -------
        batch : Batch
            The file's row and its rejects, already loaded.
        n_rows : int
            Rows loaded.
        changed : ndarray of int64
            Targets whose rows changed.
        """
        old = _old_targets(conn, self.file_id) if self.known else np.empty(0, dtype=np.int64)
        empty = conn.execute(sa.select(spec_obj.c.target_id).limit(1)).first() is None
        notes: list[Note] = []
        ids = [np.empty(0, dtype=np.int64)]
        spots: list[pa.Table] = []
        n_met = 0
        blanked = Blanked()
        written = self.content.modified_at or now()
        with bulk_load(conn, [target, spec_obj], self.n_expected):
            for rows in self._all():
                notes += rows.notes
                if len(rows.target):
                    origin = Origin(self.kind, rows.provided, blanked if self.known else None, written)
                    n_met += merge_rows(conn, rows.target, rows.spec_obj, origin)
                    ids.append(np.asarray(rows.target["target_id"]))
                    if empty:
                        spots.append(rows.target.select(["target_id", "ra_deg", "dec_deg"]))
        notes += unlisted(self.listed)
        new = np.concatenate(ids)
        if spots and not n_met:
            whole = pa.concat_tables(spots)
            self.positions = {name: np.asarray(whole[name]) for name in whole.column_names}
        if len(old):
            gone = np.setdiff1d(old, new)
            drop_rows(conn, gone)
            new = np.concatenate([new, gone])
        if self.known:
            blanked.parts.append(take_back(conn, [self.file_id], new))
        n_rows = sum(len(part) for part in ids)
        n_fatal = sum(n.fatal for n in notes)
        content = self.content
        batch = Batch(
            files=[
                file_row(
                    self.path,
                    self.kind,
                    content.content_hash,
                    content.size,
                    n_rows,
                    n_fatal,
                    content.modified_at,
                )
            ],
            rejects=[reject_row(self.path, n) for n in notes],
            replaced=[self.file_id] if self.known else [],
        )
        load_files(conn, batch)
        read_again(conn, blanked.target_id)
        return batch, n_rows, new


def plate_batch(path: str, content: Content, partner: Content | None, known: bool, root: Path) -> Batch:
    """Spectra and rows of an spPlate file, the pixels already in their shard.

    Parameters
    ----------
    path : str
        Path or URL of the spPlate file.
    content, partner : Content
        Its bytes, and those of its spZbest where there is one.
    known : bool
        Whether an earlier ingest loaded it with other content.
    root : Path
        Folder of the shards.

    Raises
    ------
    Fault
        When it is no whole plate.
    TransientError
        When the disk is full.
    """
    plate = read_plate(content.buf, None if partner is None else partner.buf)
    file_id = source_file_id(path)
    rows = make_rows(plate.fields, file_id, hdu=5)
    notes = list(rows.notes)
    runs = text(plate.fields["run2d"]).to_pylist()
    keys, natives = rows.target["target_id"].to_pylist(), rows.target["native_id"].to_pylist()
    writer = ShardWriter(root)
    spectra = []
    try:
        for key, native, k in zip(keys, natives, rows.kept.tolist(), strict=True):
            try:
                placed = writer.add(plate.pixels(k), 0)
            except Fault as fault:
                notes.append(Note(fault.code, fault.reason, True, 0, k, native))
                continue
            spectra.append(spectrum_row(path, 0, k, key, runs[k], placed))
            notes += [Note(n.code, n.reason, n.fatal, n.hdu, k, native) for n in placed.notes]
        name = writer.close()
    except BaseException:
        writer.abandon()
        raise
    if not plate.has_redshifts:
        reason = "no spZbest beside it: targets without redshift, spectra without model"
        notes.append(Note("no_redshift_file", reason, False))
    fatal = sum(n.fatal for n in notes)
    return Batch(
        target=rows.target,
        spec_obj=rows.spec_obj,
        spectrum=spectra_table(spectra, name),
        shard=shard_row(name, len(spectra)) if name else None,
        files=[file_row(path, "spplate", plate_hash(content, partner), content.size, len(spectra), fatal)],
        rejects=[reject_row(path, n) for n in notes],
        replaced=[file_id] if known else [],
        n_files=1,
    )


def plate_hash(content: Content, partner: Content | None) -> str:
    """Content hash of a plate: of its spPlate, and of the spZbest that its models come from."""
    return content.content_hash if partner is None else f"{content.content_hash}+{partner.content_hash}"


def _old_targets(conn: sa.Connection, file_id: int) -> NDArray[np.int64]:
    found = conn.execute(sa.text("select target_id from spec_obj where source_file_id = :f"), {"f": file_id})
    return np.fromiter(found.scalars(), dtype=np.int64)
