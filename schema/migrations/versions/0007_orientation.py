"""How a cutout lies on the sky; simulated ones have north up and east left."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("cutout", sa.Column("orientat_deg", sa.Double))
    op.add_column("cutout", sa.Column("sky_parity", sa.Integer))
    # arcs on a host lie as its cutout does, which nobody knows before its file is read again
    op.execute(
        """
        update cutout set orientat_deg = 0.0, sky_parity = 1
        where
            target_id in (select target.target_id from target where target.survey = 'sim')
            and target_id in (
                select injection.target_id from injection where injection.host_target_id is null
            )
        """
    )


def downgrade() -> None:
    op.drop_column("cutout", "sky_parity")
    op.drop_column("cutout", "orientat_deg")
