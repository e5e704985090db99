"""Known lenses, their catalogue entries, and the sky cells that make the cross-match a join."""

from __future__ import annotations

import sqlalchemy as sa

from schema.tables.base import col, key, metadata

known_lens = sa.Table(
    "known_lens",
    metadata,
    key("lens_id", "Key: hash of the first catalogue name."),
    col("name", sa.Text, "Preferred name.", ucd="meta.id;meta.main", nullable=False),
    col("ra_deg", sa.Double, "Right ascension, ICRS.", unit="deg", ucd="pos.eq.ra;meta.main", nullable=False),
    col("dec_deg", sa.Double, "Declination, ICRS.", unit="deg", ucd="pos.eq.dec;meta.main", nullable=False),
    col(
        "hpx29",
        sa.BigInteger,
        "Nested HEALPix cell of order 29 that holds the position.",
        ucd="pos.healpix",
        nullable=False,
        index=True,
    ),
    col("z_lens", sa.Double, "Redshift of the lens; null when unknown or ambiguous.", ucd="src.redshift"),
    col("z_source", sa.Double, "Redshift of the source; null when unknown.", ucd="src.redshift"),
    col("lens_type", sa.Text, "galaxy, cluster or group as catalogued.", ucd="src.class"),
    col("grading", sa.Text, "confident or probable as catalogued.", ucd="meta.code.qual"),
    col(
        "theta_e_arcsec", sa.Double, "Einstein radius; null when unknown.", unit="arcsec", ucd="phys.angSize"
    ),
    col("n_names", sa.Integer, "Number of catalogue entries merged into this lens.", ucd="meta.number"),
    comment="One row per known lens or candidate on the sky, all its catalogue names merged.",
)


known_lens_name = sa.Table(
    "known_lens_name",
    metadata,
    key("lens_name_id", "Key: hash of catalogue, name and row."),
    col(
        "lens_id",
        sa.BigInteger,
        "Lens that the entry was merged into.",
        ucd="meta.id",
        nullable=False,
        index=True,
        ref="known_lens.lens_id",
    ),
    col("source_file_id", sa.BigInteger, "Catalogue file.", ucd="meta.id", index=True),
    col("catalogue", sa.Text, "lenscat or masterlens.", ucd="meta.id"),
    col("name", sa.Text, "Name in that catalogue.", ucd="meta.id", nullable=False, index=True),
    col("ra_deg", sa.Double, "Right ascension given there.", unit="deg", ucd="pos.eq.ra"),
    col("dec_deg", sa.Double, "Declination given there.", unit="deg", ucd="pos.eq.dec"),
    col("z_lens_text", sa.Text, "Lens redshift as printed there.", ucd="meta.note"),
    col(
        "z_lens", sa.Double, "Lens redshift given there, null when it is not one number.", ucd="src.redshift"
    ),
    col("z_source", sa.Double, "Source redshift given there.", ucd="src.redshift"),
    col("lens_type", sa.Text, "Type given there.", ucd="src.class"),
    col("grading", sa.Text, "Grade given there.", ucd="meta.code.qual"),
    col("theta_e_arcsec", sa.Double, "Einstein radius given there.", unit="arcsec", ucd="phys.angSize"),
    col("reference", sa.Text, "Paper or page that the catalogue cites.", ucd="meta.bib"),
    comment="One row per catalogue entry of a known lens.",
)


known_lens_cell = sa.Table(
    "known_lens_cell",
    metadata,
    col(
        "lens_id",
        sa.BigInteger,
        "Known lens.",
        ucd="meta.id",
        primary_key=True,
        autoincrement=False,
        ref="known_lens.lens_id",
    ),
    col(
        "cell",
        sa.BigInteger,
        "Nested HEALPix cell of order 11 that comes within 60 arcsec of the lens.",
        ucd="pos.healpix",
        primary_key=True,
        autoincrement=False,
        index=True,
    ),
    comment="One row per order-11 HEALPix cell near a known lens: turns the cross-match into a plain join.",
)
