"""Survey files, targets, spectra and known lenses."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from schema.migrations.helpers import JSON, TIME, create_foreign_key, create_index, key

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "source_file",
        key("source_file_id"),
        sa.Column("path", sa.Text, nullable=False),
        sa.Column("kind", sa.Text),
        sa.Column("content_hash", sa.Text),
        sa.Column("size_bytes", sa.BigInteger),
        sa.Column("n_rows", sa.BigInteger),
        sa.Column("n_rejected", sa.BigInteger),
        sa.Column("ingested_at", TIME),
    )
    op.create_table(
        "reject",
        key("reject_id"),
        sa.Column("source_file_id", sa.BigInteger),
        sa.Column("path", sa.Text),
        sa.Column("hdu", sa.Integer),
        sa.Column("row_index", sa.BigInteger),
        sa.Column("native_id", sa.Text),
        sa.Column("reason_code", sa.Text),
        sa.Column("reason", sa.Text),
        sa.Column("fatal", sa.Boolean),
        sa.Column("rejected_at", TIME),
    )
    op.create_table(
        "target",
        key("target_id"),
        sa.Column("survey", sa.Text, nullable=False),
        sa.Column("native_id", sa.Text, nullable=False),
        sa.Column("ra_deg", sa.Double, nullable=False),
        sa.Column("dec_deg", sa.Double, nullable=False),
        sa.Column("hpx29", sa.BigInteger, nullable=False),
        sa.Column("is_injection", sa.Boolean, nullable=False),
    )
    op.create_table(
        "spec_obj",
        key("target_id"),
        sa.Column("source_file_id", sa.BigInteger),
        sa.Column("spec_obj_id", sa.Text),
        sa.Column("best_obj_id", sa.Text),
        sa.Column("survey_name", sa.Text),
        sa.Column("instrument", sa.Text),
        sa.Column("programname", sa.Text),
        sa.Column("chunk", sa.Text),
        sa.Column("platequality", sa.Text),
        sa.Column("plate_sn2", sa.Double),
        sa.Column("run2d", sa.Text),
        sa.Column("run1d", sa.Text),
        sa.Column("plate", sa.Integer),
        sa.Column("mjd", sa.Integer),
        sa.Column("fiber_id", sa.Integer),
        sa.Column("tile", sa.Integer),
        sa.Column("objtype", sa.Text),
        sa.Column("sourcetype", sa.Text),
        sa.Column("class", sa.Text),
        sa.Column("subclass", sa.Text),
        sa.Column("z", sa.Double),
        sa.Column("z_err", sa.Double),
        sa.Column("z_warning", sa.Integer),
        sa.Column("z_noqso", sa.Double),
        sa.Column("z_err_noqso", sa.Double),
        sa.Column("z_warning_noqso", sa.Integer),
        sa.Column("class_noqso", sa.Text),
        sa.Column("subclass_noqso", sa.Text),
        sa.Column("rchi2", sa.Double),
        sa.Column("dof", sa.Integer),
        sa.Column("vdisp", sa.Double),
        sa.Column("vdisp_err", sa.Double),
        sa.Column("wave_min", sa.Double),
        sa.Column("wave_max", sa.Double),
        sa.Column("wcoverage", sa.Double),
        sa.Column("sn_median_all", sa.Double),
        sa.Column("spectro_flux_g", sa.Double),
        sa.Column("spectro_flux_r", sa.Double),
        sa.Column("spectro_flux_i", sa.Double),
        sa.Column("cmodel_mag_i", sa.Double),
        sa.Column("fiber2_mag_i", sa.Double),
        sa.Column("anyandmask", sa.BigInteger),
        sa.Column("anyormask", sa.BigInteger),
        sa.Column("boss_target1", sa.BigInteger),
        sa.Column("eboss_target0", sa.BigInteger),
        sa.Column("is_primary", sa.Boolean, nullable=False),
        sa.Column("primary_target_id", sa.BigInteger),
        sa.Column("n_epoch", sa.Integer),
    )
    op.create_table(
        "pixel_shard",
        key("shard_id"),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("pix0", sa.Integer),
        sa.Column("npix", sa.Integer),
        sa.Column("n_rows", sa.BigInteger),
        sa.Column("arrays", JSON),
        sa.Column("size_bytes", sa.BigInteger),
        sa.Column("created_at", TIME),
        sa.UniqueConstraint("name", name="uq_pixel_shard_name"),
    )
    op.create_table(
        "spectrum",
        key("spectrum_id"),
        sa.Column("target_id", sa.BigInteger, nullable=False),
        sa.Column("source_file_id", sa.BigInteger),
        sa.Column("hdu", sa.Integer),
        sa.Column("source_row", sa.BigInteger),
        sa.Column("shard_id", sa.BigInteger, nullable=False),
        sa.Column("shard_row", sa.BigInteger, nullable=False),
        sa.Column("run2d", sa.Text),
        sa.Column("pix_first", sa.Integer),
        sa.Column("pix_last", sa.Integer),
        sa.Column("n_good", sa.Integer),
        sa.Column("n_good_window", sa.Integer),
        sa.Column("content_hash", sa.Text, nullable=False),
        sa.Column("is_primary", sa.Boolean, nullable=False),
    )
    op.create_table(
        "known_lens",
        key("lens_id"),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("ra_deg", sa.Double, nullable=False),
        sa.Column("dec_deg", sa.Double, nullable=False),
        sa.Column("hpx29", sa.BigInteger, nullable=False),
        sa.Column("z_lens", sa.Double),
        sa.Column("z_source", sa.Double),
        sa.Column("lens_type", sa.Text),
        sa.Column("grading", sa.Text),
        sa.Column("theta_e_arcsec", sa.Double),
        sa.Column("n_names", sa.Integer),
    )
    op.create_table(
        "known_lens_name",
        key("lens_name_id"),
        sa.Column("lens_id", sa.BigInteger, nullable=False),
        sa.Column("source_file_id", sa.BigInteger),
        sa.Column("catalogue", sa.Text),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("ra_deg", sa.Double),
        sa.Column("dec_deg", sa.Double),
        sa.Column("z_lens_text", sa.Text),
        sa.Column("z_lens", sa.Double),
        sa.Column("z_source", sa.Double),
        sa.Column("lens_type", sa.Text),
        sa.Column("grading", sa.Text),
        sa.Column("theta_e_arcsec", sa.Double),
        sa.Column("reference", sa.Text),
    )
    op.create_table(
        "known_lens_cell",
        sa.Column("lens_id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("cell", sa.BigInteger, primary_key=True, autoincrement=False),
    )
    create_index("reject", "source_file_id")
    create_index("target", "hpx29")
    create_index("target", "native_id")
    create_index("spec_obj", "plate", "mjd", "fiber_id")
    create_index("spec_obj", "source_file_id")
    create_index("spectrum", "shard_id")
    create_index("spectrum", "source_file_id")
    create_index("spectrum", "target_id")
    create_index("known_lens", "hpx29")
    create_index("known_lens_name", "lens_id")
    create_index("known_lens_name", "name")
    create_index("known_lens_name", "source_file_id")
    create_index("known_lens_cell", "cell")
    create_foreign_key("spec_obj", "target_id", "target.target_id")
    create_foreign_key("spectrum", "target_id", "target.target_id")
    create_foreign_key("spectrum", "shard_id", "pixel_shard.shard_id")
    create_foreign_key("known_lens_name", "lens_id", "known_lens.lens_id")
    create_foreign_key("known_lens_cell", "lens_id", "known_lens.lens_id")


def downgrade() -> None:
    op.drop_table("known_lens_cell")
    op.drop_table("known_lens_name")
    op.drop_table("known_lens")
    op.drop_table("spectrum")
    op.drop_table("pixel_shard")
    op.drop_table("spec_obj")
    op.drop_table("target")
    op.drop_table("reject")
    op.drop_table("source_file")
