"""Groups of image files into cutouts: bands put together, faults told, PSFs found.

A group is the files of one object on one pixel grid. What cannot go with the rest (another size, another
place on the sky, no pixels) is left out and told; what remains is one cutout.
"""

from __future__ import annotations

import contextlib
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from etl.batch import fault_note, file_row, reject_row, source_file_id
from etl.checks import Fault, Note
from etl.image_batch import Cutout, ImageBatch, Place, write_cutouts
from etl.image_files import read_auxiliary, read_image_file
from etl.image_groups import Group, ImageOptions
from etl.image_header import PIXSCALES
from etl.image_match import BAND_ORDER, by_scale, mismatch, outside
from etl.image_names import MASK, SCIENCE, Name, parse_name
from etl.image_planes import ImageFile, Plane
from etl.image_psf import SUM_TOLERANCE, PsfFiles
from etl.sources import opened

SURVEY_OF = {"hsc": "hsc", "acs": "hst", "wfc3": "hst", "wfpc2": "hst", "megacam": "cfht", "decam": "des"}
"""Survey of a stamp by its instrument; others belong to the survey of the command."""

MASKED_VALUE = 100.0
"""What the Bologna lens challenge writes where a pixel is masked."""

MIN_GOOD = 0.5
"""Share of a band's pixels that must be finite, where other bands of the cutout have that many."""

WANTED = {"hsc": ("g", "r", "i")}
"""Bands without which a cutout of that survey is noted: models of colour images need them."""


def read_groups(
    groups: list[Group],
    known: dict[str, str],
    root: Path,
    options: ImageOptions,
    psfs: PsfFiles | None = None,
) -> ImageBatch:
    """Read groups of files and write their pixels to shards.

    Parameters
    ----------
    groups : list of Group
        What to read.
    known : dict
        Content hash by path, of files that the database has.
    root : Path
        Shard root.
    options : ImageOptions
        What the command says.

    Returns
    -------
    ImageBatch
        Rows without target_id.
    """
    batch = ImageBatch()
    finder = psfs or PsfFiles()
    made: list[Cutout] = []
    for group in groups:
        reader = _GroupReader(group, known, options, finder)
        cutout = reader.read(batch)
        if cutout is not None:
            made.append(cutout)
    write_cutouts(batch, made, root)
    return batch


class _GroupReader:
    """Reads one group; its notes are told by file."""

    def __init__(self, group: Group, known: dict[str, str], options: ImageOptions, psfs: PsfFiles) -> None:
        self.group, self.known, self.options, self.psfs = group, known, options, psfs
        self.seen: dict[str, tuple[str, int, str | None]] = {}
        self.notes: list[tuple[str, Note]] = []
        self.noise: dict[str | None, float] = {}
        self.mask: NDArray[np.bool_] | None = None
        self.psf_rows: list[dict[str, Any]] = []

    def read(self, batch: ImageBatch) -> Cutout | None:
        """The cutout, or None where there is none or nothing is new; files and faults go to the batch."""
        batch.n_files += len(self.group.paths)
        planes: list[Plane] = []
        with contextlib.ExitStack() as stack:
            contents = []
            for path in self.group.paths:
                try:
                    content = stack.enter_context(opened(path))
                    self.seen[path] = (content.content_hash, content.size, None)
                    contents.append((path, content.buf))
                except Fault as fault:
                    self.seen[path] = (fault.content_hash, fault.size, None)
                    self._note(path, fault_note(fault))
            if all(self.known.get(p) == self.seen[p][0] for p in self.group.paths):
                batch.unchanged += len(self.group.paths)
                return None
            for path, buf in contents:
                name = parse_name(path)
                try:
                    if name.role == SCIENCE:
                        found = read_image_file(path, buf, name, self.options.bands)
                        planes.extend(self._taken(path, found))
                    else:
                        self._beside(path, name, read_auxiliary(buf))
                except Fault as fault:
                    self._note(path, fault_note(fault))
                except Exception as exc:  # a file that breaks a reader must not stop the others
                    told = (
                        f"cannot be made sense of: {type(exc).__name__}: {' '.join(str(exc).split())[:200]}"
                    )
                    self._note(path, Note("damaged", told, True))
            cutout = self._cutout(planes)
        self._tell(batch, cutout)
        return cutout if self._is_new(cutout) else None

    def _taken(self, path: str, found: ImageFile) -> list[Plane]:
        digest, size, _ = self.seen[path]
        self.seen[path] = (digest, size, found.kind)
        for note in found.notes:
            self._note(path, note)
        if found.mask is not None:
            self.mask = found.mask
        for plane in found.planes:
            if plane.noise is None and found.noise is not None:
                plane.noise = found.noise
        return found.planes

    def _beside(self, path: str, name: Name, pixels: NDArray[np.float32]) -> None:
        digest, size, _ = self.seen[path]
        self.seen[path] = (digest, size, f"image_{name.role}")
        if name.role == MASK:
            flagged = pixels != 0
            self.mask = flagged if flagged.mean() <= 0.5 else ~flagged  # either 1 or 0 may mean masked
        else:
            good = pixels[np.isfinite(pixels) & (pixels > 0)]
            if good.size:
                self.noise[name.band] = float(np.median(good))

    def _is_new(self, cutout: Cutout | None) -> bool:
        """A group with a file that has become unreadable keeps the cutout of its last good content."""
        bad = {path for path, note in self.notes if note.fatal}
        return cutout is not None and not any(p in self.known for p in bad)

    def _note(self, path: str, note: Note) -> None:
        self.notes.append((path, note))

    def _tell(self, batch: ImageBatch, cutout: Cutout | None) -> None:
        """Rows of source_file and reject."""
        fatal = {path for path, note in self.notes if note.fatal}
        lost = cutout is None or not self._is_new(cutout)
        for path, (digest, size, kind) in self.seen.items():
            n_bad = sum(note.fatal for p, note in self.notes if p == path)
            loaded = int(path in self.group.science and path not in fatal and not lost)
            batch.files.append(file_row(path, kind, digest, size, loaded, n_bad))
            if path in self.known:
                (batch.failed if path in fatal or lost else batch.replaced).append(source_file_id(path))
        batch.rejects.extend(reject_row(path, note) for path, note in self.notes)
        if not lost:
            batch.files.extend(self.psf_rows)

    # -- planes into a cutout -----------------------------------------------------------------------------

    def _cutout(self, planes: list[Plane]) -> Cutout | None:
        planes = self._whole(self._fitting(self._distinct([p for p in planes if self._has_pixels(p)])))
        if not planes:
            return None
        planes.sort(key=lambda p: (BAND_ORDER.index(p.band) if p.band in BAND_ORDER else 9, p.band or ""))
        first = planes[0]
        name = parse_name(first.path)
        image = np.stack([p.pixels for p in planes])
        instrument = next((p.instrument for p in planes if p.instrument), None) or by_scale(planes)
        survey = SURVEY_OF.get(instrument or "", self.options.survey)
        if survey == "hst" and self.options.survey == "cosmos":
            survey = "cosmos"
        if name.is_challenge:
            survey, instrument = "bologna", "vis" if first.band == "VIS" else "sdss"
        cutout = Cutout(
            key=self.group.key if len(self.group.science) > 1 or "*" in self.group.key else first.path,
            survey=survey,
            native_id=name.object_name,
            path=first.path,
            bands=tuple(str(p.band) for p in planes),
            hdus=[p.hdu for p in planes],
            image=image,
            place=Place("none"),
            instrument=instrument,
            unit=", ".join(dict.fromkeys(p.unit for p in planes if p.unit)) or None,
            pixscale=next((p.pixscale for p in planes if p.pixscale), None),
            orientation=next((p.orientation for p in planes if p.orientation), None),
            zeropoint=[p.zeropoint for p in planes],
            exposure_s=[p.exposure_s for p in planes],
            noise=[
                self.noise.get(p.band, self.noise.get(None)) if p.noise is None else p.noise for p in planes
            ],
            saturate=[p.saturate for p in planes],
            is_injection=name.is_challenge,
            is_lens=name.is_lens,
        )
        if self.mask is not None and self.mask.shape == image.shape[1:]:
            cutout.mask = self.mask
        self._place(cutout, planes, name)
        self._check_scale(cutout)
        self._tell_gaps(cutout)
        self._find_psf(cutout)
        return cutout

    def _has_pixels(self, plane: Plane) -> bool:
        pixels = plane.pixels
        if parse_name(plane.path).is_challenge:
            pixels[pixels == MASKED_VALUE] = np.nan
        if np.isfinite(pixels).all():
            if pixels.min() < pixels.max():
                return True
        elif (infinite := np.isinf(pixels)).any():
            pixels[infinite] = np.nan
            self._note(
                plane.path,
                Note(
                    "nonfinite",
                    f"{int(infinite.sum())} infinite pixels in band {plane.band} are masked",
                    False,
                ),
            )
        good = pixels[np.isfinite(pixels)]
        if good.size and good.min() < good.max():
            return True
        told = "no pixel is finite" if not good.size else f"all pixels are {good[0]:g}"
        self._note(plane.path, Note("blank_stamp", f"band {plane.band}, HDU {plane.hdu}: {told}", True))
        return False

    def _distinct(self, planes: list[Plane]) -> list[Plane]:
        out: dict[str | None, Plane] = {}
        for plane in planes:
            if plane.band in out:
                told = f"band {plane.band} came from {out[plane.band].path} already; this file is left out"
                self._note(plane.path, Note("duplicate_object", told, True))
            else:
                out[plane.band] = plane
        return list(out.values())

    def _fitting(self, planes: list[Plane]) -> list[Plane]:
        """The largest set of planes of one size at one place; the others are left out and told."""
        if len(planes) < 2:
            return planes
        best = max(planes, key=lambda p: sum(mismatch(p, q) is None for q in planes))
        out = []
        for plane in planes:
            told = mismatch(best, plane)
            if told is None:
                out.append(plane)
            else:
                self._note(plane.path, Note("band_mismatch", f"band {plane.band} {told}; left out", True))
        return out

    def _whole(self, planes: list[Plane]) -> list[Plane]:
        """Bands of which half is there; a stamp of the others would be scored on what is no image.

        `frac_good` is over all bands, so it would not show one that is missing.
        """
        share = [float(np.isfinite(p.pixels).mean()) for p in planes]
        if not planes or max(share) < MIN_GOOD:
            return planes
        for plane, good in zip(planes, share, strict=True):
            if good < MIN_GOOD:
                told = f"band {plane.band}, HDU {plane.hdu}: only {good:.0%} of its pixels are finite"
                self._note(plane.path, Note("blank_stamp", told, True))
        return [p for p, good in zip(planes, share, strict=True) if good >= MIN_GOOD]

    def _place(self, cutout: Cutout, planes: list[Plane], name: Name) -> None:
        sky = next((p.sky for p in planes if p.sky is not None), None)
        at = name.position
        if name.is_challenge:
            cutout.place = Place("fake", 0.0, 0.0)
            told = "a simulated image at ra 0, dec 0, as its header says; it lies nowhere on the sky"
            self._note(cutout.path, Note("fake_position", told, False, native_id=cutout.native_id))
        elif sky is not None and not sky.is_stand_in:
            if at is not None and outside(sky.ra_deg, sky.dec_deg, at, cutout):
                cutout.place = Place(
                    "degrees" if at.half_ra_arcsec <= 1 else "name",
                    at.ra_deg, at.dec_deg, at.half_ra_arcsec, at.half_dec_arcsec,
                )  # fmt: skip
                told = (
                    f"the header puts the middle at {sky.ra_deg:.5f}, {sky.dec_deg:.5f}, the name at "
                    f"{at.ra_deg:.5f}, {at.dec_deg:.5f}; the name is believed, as headers are copied from "
                    "tiles"
                )
                self._note(cutout.path, Note("position_mismatch", told, False, native_id=cutout.native_id))
            else:
                cutout.place = Place("wcs", sky.ra_deg, sky.dec_deg)
        elif at is not None:
            cutout.place = Place(
                "degrees" if at.half_ra_arcsec <= 1 else "name",
                at.ra_deg, at.dec_deg, at.half_ra_arcsec, at.half_dec_arcsec,
            )  # fmt: skip

    def _check_scale(self, cutout: Cutout) -> None:
        allowed = PIXSCALES.get(cutout.instrument or "")
        if allowed and cutout.pixscale and not allowed[0] <= cutout.pixscale <= allowed[1]:
            told = (
                f"{cutout.pixscale:.3f} arcsec a pixel, where {cutout.instrument} has {allowed[0]} to "
                f"{allowed[1]}: the image was resampled or simulated, so its zero point is not taken from "
                "the header"
            )
            self._note(cutout.path, Note("odd_pixscale", told, False, native_id=cutout.native_id))
            cutout.zeropoint = [None] * len(cutout.bands)

    def _tell_gaps(self, cutout: Cutout) -> None:
        unknown = [b for b, z in zip(cutout.bands, cutout.zeropoint, strict=True) if z is None]
        if unknown:
            told = (
                f"no zero point for {', '.join(unknown)}: magnitudes cannot be had from these pixels; a "
                "header with FLUXMAG0, PHOTFLAM and PHOTPLAM, or MAGZERO would give it"
            )
            self._note(cutout.path, Note("unknown_zeropoint", told, False, native_id=cutout.native_id))
        missing = [b for b in WANTED.get(cutout.survey, ()) if b not in cutout.bands]
        if missing and len(cutout.bands) > 1:
            told = f"no {', '.join(missing)} among {', '.join(cutout.bands)}: models of g, r, i skip it"
            self._note(cutout.path, Note("missing_bands", told, False, native_id=cutout.native_id))

    def _find_psf(self, cutout: Cutout) -> None:
        widths: list[float] = []
        per_band = {parse_name(p).band: p for p in self.group.science}
        for k, band in enumerate(cutout.bands):
            path = self.psfs.find(per_band.get(band, cutout.path), band, cutout.instrument)
            cutout.psf.append(path)
            if path is None:
                continue
            width = self._measure_psf(path, k, len(cutout.bands))
            if width is not None and cutout.pixscale:
                widths.append(width * cutout.pixscale)
        if widths:
            cutout.psf_fwhm_arcsec = float(np.median(widths))

    def _measure_psf(self, path: str, k: int, n_band: int) -> float | None:
        psf = self.psfs.measured(path)
        if psf.fault is not None:
            self._note(path, Note("bad_psf", f"the PSF cannot be read: {psf.fault}", False))
            return None
        self.psf_rows.append(file_row(path, "psf", psf.content_hash, psf.size, 0, 0))
        at = 0 if len(psf.total) == 1 else k if len(psf.total) == n_band else None
        total = math.nan if at is None else psf.total[at]
        if not abs(total - 1.0) <= SUM_TOLERANCE:
            told = (
                f"the PSF of shape {psf.shape} sums to {total:.4g}, not to 1; divide it by its sum before use"
            )
            self._note(path, Note("psf_sum", told, False))
        width = None if at is None else psf.fwhm_pix[at]
        if width is None:
            self._note(
                path, Note("bad_psf", f"no width can be measured on the PSF of shape {psf.shape}", False)
            )
        return width
