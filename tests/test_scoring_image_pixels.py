"""Cutouts whose shard lacks the pixels that a model looks at: simulated for another model, or damaged."""

from __future__ import annotations

import sqlalchemy as sa

from benchmarks.generated_images import add_images, plain_images
from lensmine_status import collect_status
from schema.engine import connect_engine
from scoring.run import score


def test_lenses_simulated_as_stamps_do_not_stop_a_model_of_images(db: str) -> None:
    """A selection function of eznet keeps stamps alone; arclet looks at calibrated pixels."""
    add_images(db, iter([("images", plain_images(12, 1, npix=40, bands=1))]), bands=("F814W",))
    stamps = plain_images(5, 2, npix=40, bands=1)
    add_images(db, iter([("sim-stamps", stamps)]), bands=("F814W",), survey="sim", with_image=False)
    for _ in range(2):
        report = score(db, "arclet", "all_images", backend="torch")
        assert (report.n_selected, report.n_skipped["no_pixels"]) == (17, 5)
    assert report.n_todo == 0
    assert "5 skipped (simulated for models that look at stamps" in report.line()
    with connect_engine(db, read_only=True).connect() as conn:
        assert conn.execute(sa.text("select count(*) from image_score")).scalar_one() == 12
    (line,) = collect_status(db)["scores"]
    assert (line["no_pixels"], line["todo"]) == (5, 0)
