"""Photometry, cutouts, image scores, simulated lenses, tracers, the selection function and mining rounds."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from schema.migrations.helpers import JSON, TIME, create_foreign_key, create_index, key

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("source_file", sa.Column("modified_at", TIME))
    op.add_column("scoring_run", sa.Column("modality", sa.Text))
    op.create_table(
        "phot_obj",
        key("target_id"),
        sa.Column("source_file_id", sa.BigInteger),
        sa.Column("catalog", sa.Text),
        sa.Column("object_id", sa.Text),
        sa.Column("mag_kind", sa.Text),
        sa.Column("mag_u", sa.Double),
        sa.Column("mag_err_u", sa.Double),
        sa.Column("mag_g", sa.Double),
        sa.Column("mag_err_g", sa.Double),
        sa.Column("mag_r", sa.Double),
        sa.Column("mag_err_r", sa.Double),
        sa.Column("mag_i", sa.Double),
        sa.Column("mag_err_i", sa.Double),
        sa.Column("mag_z", sa.Double),
        sa.Column("mag_err_z", sa.Double),
        sa.Column("mag_y", sa.Double),
        sa.Column("mag_err_y", sa.Double),
        sa.Column("mag_f814w", sa.Double),
        sa.Column("mag_err_f814w", sa.Double),
        sa.Column("r_eff_arcsec", sa.Double),
        sa.Column("area_pix", sa.Double),
        sa.Column("axis_ratio", sa.Double),
        sa.Column("pa_deg", sa.Double),
        sa.Column("sersic_n", sa.Double),
        sa.Column("z_phot", sa.Double),
        sa.Column("z_spec", sa.Double),
        sa.Column("class_star", sa.Double),
        sa.Column("flags", sa.BigInteger),
    )
    op.create_table(
        "image_shard",
        key("shard_id"),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("bands", sa.Text),
        sa.Column("n_band", sa.Integer),
        sa.Column("ny", sa.Integer),
        sa.Column("nx", sa.Integer),
        sa.Column("n_rows", sa.BigInteger),
        sa.Column("arrays", JSON),
        sa.Column("size_bytes", sa.BigInteger),
        sa.Column("created_at", TIME),
        sa.UniqueConstraint("name", name="uq_image_shard_name"),
    )
    op.create_table(
        "cutout",
        key("cutout_id"),
        sa.Column("target_id", sa.BigInteger, nullable=False),
        sa.Column("source_file_id", sa.BigInteger),
        sa.Column("hdu", sa.Text),
        sa.Column("shard_id", sa.BigInteger, nullable=False),
        sa.Column("shard_row", sa.BigInteger, nullable=False),
        sa.Column("instrument", sa.Text),
        sa.Column("bands", sa.Text),
        sa.Column("ny", sa.Integer),
        sa.Column("nx", sa.Integer),
        sa.Column("pixscale_arcsec", sa.Double),
        sa.Column("unit", sa.Text),
        sa.Column("zeropoint", JSON),
        sa.Column("exposure_s", JSON),
        sa.Column("noise", JSON),
        sa.Column("clip", JSON),
        sa.Column("psf_path", sa.Text),
        sa.Column("psf_fwhm_arcsec", sa.Double),
        sa.Column("frac_good", sa.Double),
        sa.Column("frac_saturated", sa.Double),
        sa.Column("content_hash", sa.Text, nullable=False),
        sa.Column("is_primary", sa.Boolean, nullable=False),
    )
    op.create_table(
        "image_score",
        sa.Column("cutout_id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("model_id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("run_id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("target_id", sa.BigInteger, nullable=False),
        sa.Column("content_hash", sa.Text, nullable=False),
        sa.Column("probability", sa.Double, nullable=False),
    )
    op.create_table(
        "injection_lens",
        key("target_id"),
        sa.Column("theta_e_arcsec", sa.Double),
        sa.Column("lens_q", sa.Double),
        sa.Column("lens_phi_deg", sa.Double),
        sa.Column("gamma1", sa.Double),
        sa.Column("gamma2", sa.Double),
        sa.Column("band", sa.Text),
        sa.Column("lens_mag", sa.Double),
        sa.Column("lens_r_eff_arcsec", sa.Double),
        sa.Column("lens_sersic_n", sa.Double),
        sa.Column("lens_ellipticity", sa.Double),
        sa.Column("source_mag", sa.Double),
        sa.Column("arc_mag", sa.Double),
        sa.Column("magnification", sa.Double),
        sa.Column("source_x_arcsec", sa.Double),
        sa.Column("source_y_arcsec", sa.Double),
        sa.Column("source_r_eff_arcsec", sa.Double),
        sa.Column("source_sersic_n", sa.Double),
        sa.Column("source_q", sa.Double),
        sa.Column("source_phi_deg", sa.Double),
        sa.Column("arc_snr", sa.Double),
        sa.Column("weight", sa.Double),
    )
    op.create_table(
        "tracer",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("target_id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("origin", sa.Text),
        sa.Column("added_at", TIME),
    )
    op.create_table(
        "selection_function",
        key("cell_id"),
        sa.Column("measurement_id", sa.BigInteger),
        sa.Column("model_id", sa.BigInteger, nullable=False),
        sa.Column("stage", sa.Text, nullable=False),
        sa.Column("instrument", sa.Text),
        sa.Column("mode", sa.Text),
        sa.Column("band", sa.Text),
        sa.Column("threshold", sa.Double),
        sa.Column("x_name", sa.Text),
        sa.Column("x_lo", sa.Double),
        sa.Column("x_hi", sa.Double),
        sa.Column("y_name", sa.Text),
        sa.Column("y_lo", sa.Double),
        sa.Column("y_hi", sa.Double),
        sa.Column("n_injected", sa.BigInteger),
        sa.Column("n_selected", sa.BigInteger),
        sa.Column("n_eff", sa.Double),
        sa.Column("p_selected", sa.Double),
        sa.Column("p_lo", sa.Double),
        sa.Column("p_hi", sa.Double),
        sa.Column("recipe", JSON),
        sa.Column("measured_at", TIME),
    )
    op.create_table(
        "mining_round",
        key("round_id"),
        sa.Column("campaign", sa.Text, nullable=False),
        sa.Column("round_no", sa.Integer, nullable=False),
        sa.Column("phase", sa.Text, nullable=False),
        sa.Column("parent_round_id", sa.BigInteger),
        sa.Column("start_model_id", sa.BigInteger),
        sa.Column("model_id", sa.BigInteger),
        sa.Column("run_id", sa.BigInteger),
        sa.Column("pool_sql", sa.Text),
        sa.Column("hard_sql", sa.Text),
        sa.Column("weights_path", sa.Text),
        sa.Column("n_pool", sa.BigInteger),
        sa.Column("n_hard", sa.BigInteger),
        sa.Column("n_positive", sa.BigInteger),
        sa.Column("config", JSON),
        sa.Column("metrics", JSON),
        sa.Column("status", sa.Text),
        sa.Column("started_at", TIME),
        sa.Column("finished_at", TIME),
        sa.UniqueConstraint("campaign", "round_no", name="uq_mining_round_campaign_round_no"),
    )
    op.create_table(
        "mining_member",
        sa.Column("round_id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("target_id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("role", sa.Text, nullable=False),
    )
    create_index("phot_obj", "source_file_id")
    create_index("cutout", "target_id")
    create_index("cutout", "source_file_id")
    create_index("cutout", "shard_id")
    create_index("image_score", "target_id")
    create_index("selection_function", "measurement_id")
    create_index("selection_function", "model_id")
    create_index("mining_round", "model_id")
    create_foreign_key("phot_obj", "target_id", "target.target_id")
    create_foreign_key("cutout", "target_id", "target.target_id")
    create_foreign_key("cutout", "shard_id", "image_shard.shard_id")
    create_foreign_key("image_score", "model_id", "model.model_id")
    create_foreign_key("image_score", "run_id", "scoring_run.run_id")
    create_foreign_key("injection_lens", "target_id", "target.target_id")
    create_foreign_key("selection_function", "model_id", "model.model_id")
    create_foreign_key("mining_member", "round_id", "mining_round.round_id")


def downgrade() -> None:
    op.drop_table("mining_member")
    op.drop_table("mining_round")
    op.drop_table("selection_function")
    op.drop_table("tracer")
    op.drop_table("injection_lens")
    op.drop_table("image_score")
    op.drop_table("cutout")
    op.drop_table("image_shard")
    op.drop_table("phot_obj")
    op.drop_column("source_file", "modified_at")
    op.drop_column("scoring_run", "modality")
