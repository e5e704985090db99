"""Everything that the database knows about the objects on screen, a page of them in a few queries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from schema.healpix import sep_arcsec_sql

LENS_REACH_ARCSEC = 60.0
"""Known lenses are listed up to this distance [arcsec]."""


@dataclass
class ReviewObject:
    """One target as the review page shows it.

    Attributes
    ----------
    target_id : int
    row : dict  target, spectroscopic row, photometry and primary spectrum
    scores : list of dict  the latest score of each model, best first
    fits : dict  line fit by model_id
    cutouts : list of dict  the primary one first
    lenses : list of dict  known lenses near it, nearest first
    """

    target_id: int
    row: dict[str, Any]
    scores: list[dict[str, Any]] = field(default_factory=list)
    fits: dict[int, dict[str, Any]] = field(default_factory=dict)
    cutouts: list[dict[str, Any]] = field(default_factory=list)
    lenses: list[dict[str, Any]] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Name by position, which tells nothing but where it is."""
        return position_name(self.row["ra_deg"], self.row["dec_deg"])

    @property
    def has_spectrum(self) -> bool:
        """Whether its spectrum has pixels."""
        return self.row.get("shard") is not None

    def about(self) -> dict[str, Any]:
        """What the picture of the spectrum needs: redshift, hit, and the fit of the model that is surest."""
        spectral = [s for s in self.scores if s["modality"] == "spectrum" and s["wave_angstrom"]]
        out: dict[str, Any] = {"z_lens": self.row["z"]}
        if not spectral:
            return out
        out["hit_wave"] = spectral[0]["wave_angstrom"]
        fit = next((self.fits[s["model_id"]] for s in spectral if s["model_id"] in self.fits), None)
        if fit and fit["wave_angstrom"] and abs(fit["wave_angstrom"] - spectral[0]["wave_angstrom"]) < 60:
            out |= {
                "wave": fit["wave_angstrom"], "sigma": fit["sigma_angstrom"], "skewness": fit["skewness"],
                "skewness_err": fit["skewness_err"], "line_flux": fit["line_flux"],
                "line_flux_err": fit["line_flux_err"], "constant": fit["constant"], "z_oii": fit["z_oii"],
            }  # fmt: skip
        return out


def position_name(ra_deg: float, dec_deg: float) -> str:
    """JHHMMSS.ss+DDMMSS.s, truncated as the IAU asks."""
    ra = int((ra_deg % 360.0) * 24000 + 1e-6)
    dec = int(abs(dec_deg) * 36000 + 1e-6)
    sign = "-" if dec_deg < 0 else "+"
    return (
        f"J{ra // 360000:02d}{ra // 6000 % 60:02d}{ra // 100 % 60:02d}.{ra % 100:02d}"
        f"{sign}{dec // 36000:02d}{dec // 600 % 60:02d}{dec // 10 % 60:02d}.{dec % 10}"
    )


def load_objects(conn: sa.Connection, target_ids: Sequence[int]) -> dict[int, ReviewObject]:
    """Objects by target_id; a target that the database lacks is left out."""
    ids = [int(t) for t in dict.fromkeys(target_ids)]
    if not ids:
        return {}
    found = {r["target_id"]: ReviewObject(r["target_id"], r) for r in _rows(conn, _TARGETS, ids)}
    for row in _rows(conn, _SCORES, ids):
        one = found.get(row["target_id"])
        key = (row["model"], row["modality"])
        if one and key not in {(s["model"], s["modality"]) for s in one.scores}:
            one.scores.append(row)  # of a model's versions the one that ran last
    for row in _rows(conn, _FITS, ids):
        one = found.get(row["target_id"])
        if one:
            one.fits.setdefault(row["model_id"], row)
    for row in _rows(conn, _CUTOUTS, ids):
        if row["target_id"] in found:
            found[row["target_id"]].cutouts.append(row)
    for row in _rows(conn, _LENSES, ids):
        if row["target_id"] in found and row["sep_arcsec"] <= LENS_REACH_ARCSEC:
            found[row["target_id"]].lenses.append(row)
    for one in found.values():
        one.scores.sort(key=lambda s: (not s["is_current"], -s["probability"]))
    return found


def _rows(conn: sa.Connection, query: str, ids: list[int]) -> list[dict[str, Any]]:
    statement = sa.text(query).bindparams(sa.bindparam("ids", expanding=True))
    return [dict(r) for r in conn.execute(statement, {"ids": ids}).mappings()]


_TARGETS = """
select
    target.target_id, target.survey, target.native_id, target.ra_deg, target.dec_deg, target.is_injection,
    spec_obj."class", spec_obj.z, spec_obj.z_warning, spec_obj.cmodel_mag_i, spec_obj.sn_median_all,
    spec_obj.plate, spec_obj.mjd, spec_obj.fiber_id,
    spectrum.spectrum_id, spectrum.shard_row, spectrum.pix_first, spectrum.pix_last, spectrum.content_hash,
    spectrum.n_good, pixel_shard.name as shard,
    phot_obj.catalog, phot_obj.mag_g, phot_obj.mag_r, phot_obj.mag_i, phot_obj.mag_f814w,
    phot_obj.r_eff_arcsec, phot_obj.z_phot, phot_obj.z_spec
from target
left join spec_obj on spec_obj.target_id = target.target_id
left join spectrum on spectrum.target_id = target.target_id and spectrum.is_primary
left join pixel_shard on pixel_shard.shard_id = spectrum.shard_id
left join phot_obj on phot_obj.target_id = target.target_id
where target.target_id in :ids
"""
_SCORES = """
select
    score.target_id, score.model_id, score.run_id, score.probability, score.wave_angstrom, score.snr,
    model.name as model, model.threshold, 'spectrum' as modality,
    spectrum.content_hash = score.content_hash as is_current, version_order.last_run_id
from score
inner join model on model.model_id = score.model_id
inner join version_order on version_order.model_id = score.model_id
inner join spectrum on spectrum.spectrum_id = score.spectrum_id
where score.target_id in :ids
union all
select
    image_score.target_id, image_score.model_id, image_score.run_id, image_score.probability,
    cast(null as double precision) as wave_angstrom, cast(null as double precision) as snr,
    model.name as model, model.threshold, 'image' as modality,
    cutout.content_hash = image_score.content_hash as is_current, version_order.last_run_id
from image_score
inner join model on model.model_id = image_score.model_id
inner join version_order on version_order.model_id = image_score.model_id
inner join cutout on cutout.cutout_id = image_score.cutout_id
where image_score.target_id in :ids
order by last_run_id desc, run_id desc
"""
_FITS = """
select
    line_fit.target_id, line_fit.model_id, line_fit.status, line_fit.wave_angstrom, line_fit.sigma_angstrom,
    line_fit.skewness, line_fit.skewness_err, line_fit.line_flux, line_fit.line_flux_err, line_fit.constant,
    line_fit.z_lya, line_fit.z_oii, line_fit.snr_oiii_5008, line_fit.snr_oiii_4960, line_fit.snr_hbeta,
    line_fit.snr_halpha
from line_fit
inner join spectrum
    on spectrum.spectrum_id = line_fit.spectrum_id and spectrum.content_hash = line_fit.content_hash
where line_fit.target_id in :ids
order by line_fit.fitted_at desc, line_fit.fit_id desc
"""
_CUTOUTS = """
select
    cutout.target_id, cutout.cutout_id, cutout.shard_row, cutout.instrument, cutout.bands, cutout.ny,
    cutout.nx,
    cutout.pixscale_arcsec, cutout.psf_fwhm_arcsec, cutout.frac_good, cutout.content_hash, cutout.is_primary,
    image_shard.name as shard
from cutout
inner join image_shard on image_shard.shard_id = cutout.shard_id
where cutout.target_id in :ids
order by cutout.is_primary desc, cutout.instrument, cutout.bands, cutout.cutout_id
"""
_SEP = sep_arcsec_sql("target.ra_deg", "target.dec_deg", "known_lens.ra_deg", "known_lens.dec_deg")
_LENSES = f"""
select target.target_id, known_lens.lens_id, known_lens.name, known_lens.z_lens, known_lens.z_source,
    known_lens.grading, {_SEP} as sep_arcsec
from target
inner join known_lens_cell on known_lens_cell.cell = (target.hpx29 >> 36)
inner join known_lens on known_lens.lens_id = known_lens_cell.lens_id
where target.target_id in :ids
order by sep_arcsec, known_lens.lens_id
"""
