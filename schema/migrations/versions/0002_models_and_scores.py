"""Models, selections, runs, scores, fits, injections and the settings of the cuts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from schema.migrations.helpers import JSON, TIME, create_foreign_key, create_index, key

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "model",
        key("model_id"),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("kind", sa.Text),
        sa.Column("reference", sa.Text),
        sa.Column("preprocessing_hash", sa.Text, nullable=False),
        sa.Column("weights_hash", sa.Text, nullable=False),
        sa.Column("threshold", sa.Double),
        sa.Column("config", JSON),
        sa.Column("card", JSON),
        sa.Column("registered_at", TIME),
    )
    op.create_table(
        "selection",
        key("selection_id"),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("where_sql", sa.Text, nullable=False),
        sa.Column("description", sa.Text),
        sa.Column("created_at", TIME),
        sa.UniqueConstraint("name", "version", name="uq_selection_name_version"),
    )
    op.create_table(
        "scoring_run",
        key("run_id"),
        sa.Column("model_id", sa.BigInteger, nullable=False),
        sa.Column("selection_id", sa.BigInteger),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("backend", sa.Text),
        sa.Column("device", sa.Text),
        sa.Column("precision", sa.Text),
        sa.Column("n_selected", sa.BigInteger),
        sa.Column("n_todo", sa.BigInteger),
        sa.Column("n_scored", sa.BigInteger),
        sa.Column("started_at", TIME),
        sa.Column("finished_at", TIME),
        sa.Column("seconds", JSON),
        sa.Column("spectra_per_s", sa.Double),
        sa.Column("host", sa.Text),
        sa.Column("software", JSON),
        sa.Column("message", sa.Text),
    )
    op.create_table(
        "run_chunk",
        sa.Column("run_id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("chunk_no", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("shard_id", sa.BigInteger),
        sa.Column("row_first", sa.BigInteger),
        sa.Column("row_last", sa.BigInteger),
        sa.Column("n_spectra", sa.Integer),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("lease_owner", sa.Text),
        sa.Column("lease_token", sa.BigInteger, nullable=False),
        sa.Column("lease_until", TIME),
        sa.Column("done_at", TIME),
    )
    op.create_table(
        "score",
        sa.Column("spectrum_id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("model_id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("run_id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("target_id", sa.BigInteger, nullable=False),
        sa.Column("content_hash", sa.Text, nullable=False),
        sa.Column("z_used", sa.Double),
        sa.Column("probability", sa.Double, nullable=False),
        sa.Column("wave_angstrom", sa.Double),
        sa.Column("snr", sa.Double),
    )
    op.create_table(
        "line_fit",
        key("fit_id"),
        sa.Column("target_id", sa.BigInteger, nullable=False),
        sa.Column("spectrum_id", sa.BigInteger, nullable=False),
        sa.Column("content_hash", sa.Text, nullable=False),
        sa.Column("model_id", sa.BigInteger, nullable=False),
        sa.Column("fit_version", sa.Text, nullable=False),
        sa.Column("hit_wave_angstrom", sa.Double),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("wave_angstrom", sa.Double),
        sa.Column("wave_err_angstrom", sa.Double),
        sa.Column("peak_wave_angstrom", sa.Double),
        sa.Column("line_flux", sa.Double),
        sa.Column("line_flux_err", sa.Double),
        sa.Column("peak_flux", sa.Double),
        sa.Column("peak_flux_err", sa.Double),
        sa.Column("sigma_angstrom", sa.Double),
        sa.Column("sigma_err_angstrom", sa.Double),
        sa.Column("skewness", sa.Double),
        sa.Column("skewness_err", sa.Double),
        sa.Column("constant", sa.Double),
        sa.Column("constant_err", sa.Double),
        sa.Column("chi2", sa.Double),
        sa.Column("dof", sa.Integer),
        sa.Column("line_snr", sa.Double),
        sa.Column("delta_chi2_gaussian", sa.Double),
        sa.Column("z_lya", sa.Double),
        sa.Column("z_oii", sa.Double),
        sa.Column("snr_oiii_5008", sa.Double),
        sa.Column("snr_oiii_4960", sa.Double),
        sa.Column("snr_hbeta", sa.Double),
        sa.Column("snr_halpha", sa.Double),
        sa.Column("n_mask_near", sa.Integer),
        sa.Column("fitted_at", TIME),
    )
    op.create_table(
        "injection",
        key("target_id"),
        sa.Column("host_target_id", sa.BigInteger),
        sa.Column("is_lens", sa.Boolean, nullable=False),
        sa.Column("z_lens", sa.Double),
        sa.Column("z_source", sa.Double),
        sa.Column("line", sa.Text),
        sa.Column("wave_angstrom", sa.Double),
        sa.Column("line_flux", sa.Double),
        sa.Column("peak_flux", sa.Double),
        sa.Column("fwhm_km_s", sa.Double),
        sa.Column("skewness", sa.Double),
        sa.Column("recipe", sa.Text),
        sa.Column("seed", sa.BigInteger),
    )
    op.create_table(
        "cut_setting",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("value", sa.Double, nullable=False),
        sa.Column("unit", sa.Text),
        sa.Column("description", sa.Text),
    )
    op.create_table(
        "wave_mask",
        key("wave_mask_id"),
        sa.Column("frame", sa.Text, nullable=False),
        sa.Column("wave_min_angstrom", sa.Double, nullable=False),
        sa.Column("wave_max_angstrom", sa.Double, nullable=False),
        sa.Column("reason", sa.Text),
    )
    create_index("model", "name")
    create_index("scoring_run", "model_id")
    create_index("score", "target_id")
    create_index("line_fit", "spectrum_id")
    create_index("line_fit", "target_id")
    create_foreign_key("scoring_run", "model_id", "model.model_id")
    create_foreign_key("scoring_run", "selection_id", "selection.selection_id")
    create_foreign_key("run_chunk", "run_id", "scoring_run.run_id")
    create_foreign_key("score", "model_id", "model.model_id")
    create_foreign_key("score", "run_id", "scoring_run.run_id")
    create_foreign_key("line_fit", "model_id", "model.model_id")
    create_foreign_key("injection", "target_id", "target.target_id")


def downgrade() -> None:
    op.drop_table("wave_mask")
    op.drop_table("cut_setting")
    op.drop_table("injection")
    op.drop_table("line_fit")
    op.drop_table("score")
    op.drop_table("run_chunk")
    op.drop_table("scoring_run")
    op.drop_table("selection")
    op.drop_table("model")
