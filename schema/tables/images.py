"""Photometry, image cutouts, their scores, and the truth of simulated lenses."""

from __future__ import annotations

import sqlalchemy as sa

from schema.tables.base import Json, Time, col, key, metadata

BANDS = ("u", "g", "r", "i", "z", "y")
"""Optical bands that phot_obj has a magnitude column for; space bands have columns of their own."""


def _magnitude(name: str, what: str, ucd: str) -> list[sa.Column[float]]:
    return [
        col(f"mag_{name}", sa.Double, f"AB magnitude, {what}.", unit="mag", ucd=f"phot.mag;{ucd}"),
        col(
            f"mag_err_{name}",
            sa.Double,
            f"Error of mag_{name}.",
            unit="mag",
            ucd=f"stat.error;phot.mag;{ucd}",
        ),
    ]


phot_obj = sa.Table(
    "phot_obj",
    metadata,
    key("target_id", "Target that this photometric row is of.", ref="target.target_id"),
    col("source_file_id", sa.BigInteger, "File that the row came from.", ucd="meta.id", index=True),
    col("catalog", sa.Text, "Catalogue: hsc, cosmos2015, zcosmos, sdss_photo ...", ucd="meta.id"),
    col("object_id", sa.Text, "The catalogue's own identifier, as digits or text.", ucd="meta.id"),
    col("mag_kind", sa.Text, "Kind of magnitude: cmodel, auto, model, aperture, psf.", ucd="meta.code"),
    *_magnitude("u", "u band", "em.opt.U"),
    *_magnitude("g", "g band", "em.opt.B"),
    *_magnitude("r", "r band", "em.opt.R"),
    *_magnitude("i", "i band", "em.opt.I"),
    *_magnitude("z", "z band", "em.opt.I"),
    *_magnitude("y", "y band", "em.IR.NIR"),
    *_magnitude("f814w", "HST ACS F814W", "em.opt.I"),
    col("r_eff_arcsec", sa.Double, "Half-light radius.", unit="arcsec", ucd="phys.angSize"),
    col("area_pix", sa.Double, "Pixels above the detection threshold.", unit="pixel", ucd="phys.angArea"),
    col("axis_ratio", sa.Double, "Minor over major axis, 0 to 1.", ucd="src.morph"),
    col(
        "pa_deg", sa.Double, "Position angle of the major axis, east of north.", unit="deg", ucd="pos.posAng"
    ),
    col("sersic_n", sa.Double, "Sersic index.", ucd="src.morph.param"),
    col("z_phot", sa.Double, "Photometric redshift.", ucd="src.redshift.phot"),
    col("z_spec", sa.Double, "Spectroscopic redshift that the catalogue gives.", ucd="src.redshift"),
    col("class_star", sa.Double, "How star-like: 1 a point source, 0 extended.", ucd="src.class.starGalaxy"),
    col("flags", sa.BigInteger, "Flag bits of the catalogue or of the detection.", ucd="meta.code"),
    comment="One row per object with photometry; a sentinel of the catalogue is null here.",
)


image_shard = sa.Table(
    "image_shard",
    metadata,
    key("shard_id", "Key: hash of the shard's name."),
    col("name", sa.Text, "Folder name under the shard root.", ucd="meta.id", nullable=False, unique=True),
    col(
        "bands",
        sa.Text,
        "Bands in the order of the array's second axis, joined by commas.",
        ucd="instr.bandpass",
    ),
    col("n_band", sa.Integer, "Number of bands.", ucd="meta.number"),
    col("ny", sa.Integer, "Height of a cutout.", unit="pixel", ucd="meta.number"),
    col("nx", sa.Integer, "Width of a cutout.", unit="pixel", ucd="meta.number"),
    col("n_rows", sa.BigInteger, "Rows, one cutout each.", ucd="meta.number"),
    col("arrays", Json, "Names of the arrays held: image, stamp.", ucd="meta.note"),
    col("size_bytes", sa.BigInteger, "Size of the arrays.", unit="byte", ucd="meta.number"),
    col("created_at", Time, "When it was written (UTC).", ucd="time.creation"),
    comment="One row per image shard: a folder of plain arrays, shape (rows, bands, ny, nx).",
)


cutout = sa.Table(
    "cutout",
    metadata,
    key("cutout_id", "Key: hash of source file path, HDU and object."),
    col(
        "target_id",
        sa.BigInteger,
        "Target in the middle of it.",
        ucd="meta.id",
        nullable=False,
        index=True,
        ref="target.target_id",
    ),
    col("source_file_id", sa.BigInteger, "File that holds the original pixels.", ucd="meta.id", index=True),
    col("hdu", sa.Text, "HDU or dataset of each band in its file, joined by commas.", ucd="meta.id"),
    col(
        "shard_id",
        sa.BigInteger,
        "Shard with the fast copy.",
        ucd="meta.id",
        nullable=False,
        index=True,
        ref="image_shard.shard_id",
    ),
    col("shard_row", sa.BigInteger, "Row in that shard.", ucd="meta.number", nullable=False),
    col(
        "instrument",
        sa.Text,
        "Instrument: hsc, acs, wfc3, megacam, decam, vis, sdss ...",
        ucd="meta.id;instr",
    ),
    col("bands", sa.Text, "Bands in the order of the array, joined by commas: g,r,i.", ucd="instr.bandpass"),
    col("ny", sa.Integer, "Height.", unit="pixel", ucd="meta.number"),
    col("nx", sa.Integer, "Width.", unit="pixel", ucd="meta.number"),
    col("pixscale_arcsec", sa.Double, "Width of a pixel.", unit="arcsec", ucd="phys.angSize;instr.pixel"),
    col(
        "orientat_deg",
        sa.Double,
        "Position angle of the +y axis of the pixels, east of north, as HST's ORIENTAT; null where unknown.",
        unit="deg",
        ucd="pos.posAng;obs.image",
    ),
    col(
        "sky_parity",
        sa.Integer,
        "1: with rows upwards east is counter-clockwise of north, as on the sky; -1: mirrored; 0: the file "
        "does not say; null: ingested before this was kept, and found out when it is ingested again.",
        ucd="meta.code;obs.image",
    ),
    col("unit", sa.Text, "Unit of the pixels, as the file gives it.", ucd="meta.unit"),
    col(
        "zeropoint",
        Json,
        "AB magnitude of one count, by band; null where unknown.",
        unit="mag",
        ucd="phot.mag",
    ),
    col("exposure_s", Json, "Exposure time by band; null where unknown.", unit="s", ucd="time.duration"),
    col("noise", Json, "Standard deviation of the background by band, in pixel units.", ucd="stat.stdev"),
    col("clip", Json, "Low and high clip of the percentile normalisation, by band.", ucd="stat.param"),
    col(
        "psf_path",
        sa.Text,
        "Files of the point spread function, one a band in band order, joined by commas; empty where none.",
        ucd="meta.ref.url",
    ),
    col(
        "psf_fwhm_arcsec",
        sa.Double,
        "Its full width at half maximum.",
        unit="arcsec",
        ucd="instr.obsty.seeing",
    ),
    col("frac_good", sa.Double, "Share of pixels that are finite and not masked.", ucd="meta.code.qual"),
    col("frac_saturated", sa.Double, "Share of pixels at the brightest value.", ucd="meta.code.qual"),
    col(
        "content_hash",
        sa.Text,
        "xxh3_128 of the pixels in the shard; a score of other pixels is stale.",
        ucd="meta.checksum",
        nullable=False,
    ),
    col(
        "is_primary",
        sa.Boolean,
        "True for the one cutout of a target that models score.",
        ucd="meta.code",
        nullable=False,
    ),
    comment="One row per image cutout: where its pixels are and what they mean.",
)


image_score = sa.Table(
    "image_score",
    metadata,
    col("cutout_id", sa.BigInteger, "Cutout scored.", ucd="meta.id", primary_key=True, autoincrement=False),
    col(
        "model_id",
        sa.BigInteger,
        "Model that scored it.",
        ucd="meta.id",
        primary_key=True,
        autoincrement=False,
        ref="model.model_id",
    ),
    col(
        "run_id",
        sa.BigInteger,
        "Run that wrote it.",
        ucd="meta.id",
        primary_key=True,
        autoincrement=False,
        ref="scoring_run.run_id",
    ),
    col("target_id", sa.BigInteger, "Target of the cutout.", ucd="meta.id", nullable=False, index=True),
    col(
        "content_hash",
        sa.Text,
        "Hash of the pixels scored; stale when cutout has another.",
        ucd="meta.checksum",
        nullable=False,
    ),
    col(
        "probability",
        sa.Double,
        "Probability that the cutout shows a lensed source.",
        ucd="stat.probability",
        nullable=False,
    ),
    comment="One row per cutout, model and run: appended, never overwritten.",
)


injection_lens = sa.Table(
    "injection_lens",
    metadata,
    key("target_id", "Simulated target.", ref="target.target_id"),
    col("theta_e_arcsec", sa.Double, "Einstein radius.", unit="arcsec", ucd="phys.angSize"),
    col("lens_q", sa.Double, "Axis ratio of the lens's mass.", ucd="src.morph"),
    col(
        "lens_phi_deg",
        sa.Double,
        "Angle of the mass in the pixels, from +x towards +y; east of north it is cutout.orientat_deg + "
        "sky_parity * (lens_phi_deg - 90).",
        unit="deg",
        ucd="pos.posAng",
    ),
    col("gamma1", sa.Double, "External shear along x and y of the pixels.", ucd="phys"),
    col("gamma2", sa.Double, "External shear along the diagonals of the pixels.", ucd="phys"),
    col("band", sa.Text, "Band that the magnitudes are in.", ucd="instr.bandpass"),
    col("lens_mag", sa.Double, "AB magnitude of the lens galaxy.", unit="mag", ucd="phot.mag"),
    col("lens_r_eff_arcsec", sa.Double, "Effective radius of the lens.", unit="arcsec", ucd="phys.angSize"),
    col("lens_sersic_n", sa.Double, "Sersic index of the lens's light.", ucd="src.morph.param"),
    col("lens_ellipticity", sa.Double, "1 - axis ratio of the lens's light.", ucd="src.ellipticity"),
    col("source_mag", sa.Double, "AB magnitude of the source, not lensed.", unit="mag", ucd="phot.mag"),
    col("arc_mag", sa.Double, "AB magnitude of the lensed images together.", unit="mag", ucd="phot.mag"),
    col("magnification", sa.Double, "Flux of the lensed images over that of the source.", ucd="arith.factor"),
    col(
        "source_x_arcsec",
        sa.Double,
        "Offset of the source along x of the pixels.",
        unit="arcsec",
        ucd="pos.cartesian.x",
    ),
    col(
        "source_y_arcsec",
        sa.Double,
        "Offset of the source along y of the pixels.",
        unit="arcsec",
        ucd="pos.cartesian.y",
    ),
    col(
        "source_r_eff_arcsec", sa.Double, "Effective radius of the source.", unit="arcsec", ucd="phys.angSize"
    ),
    col("source_sersic_n", sa.Double, "Sersic index of the source.", ucd="src.morph.param"),
    col("source_q", sa.Double, "Axis ratio of the source.", ucd="src.morph"),
    col(
        "source_phi_deg",
        sa.Double,
        "Angle of the source in the pixels, from +x towards +y, as lens_phi_deg.",
        unit="deg",
        ucd="pos.posAng",
    ),
    col("arc_snr", sa.Double, "S/N of the lensed images over all pixels of the band.", ucd="stat.snr"),
    col(
        "weight",
        sa.Double,
        "Density of the prior over that of the draw: 1 for a draw from it, null where parameters were set.",
        ucd="stat.weight",
    ),
    comment="One row per simulated lens image: what it was drawn with, beside its row in injection.",
)


tracer = sa.Table(
    "tracer",
    metadata,
    col("name", sa.Text, "Name of the set of tracers.", ucd="meta.id", primary_key=True),
    col(
        "target_id",
        sa.BigInteger,
        "Target that is known to be a lens.",
        ucd="meta.id",
        primary_key=True,
        autoincrement=False,
    ),
    col("origin", sa.Text, "Why it is taken for one: known_lens, injection, grade, list.", ucd="meta.code"),
    col("added_at", Time, "When it was added (UTC).", ucd="time.creation"),
    comment="One row per known lens of a named set that is seeded among ordinary objects to judge a ranking.",
)
