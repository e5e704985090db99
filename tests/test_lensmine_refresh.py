"""Refresh does what is new and nothing else, one at a time, and leaves a row that says how it ended."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa
from safetensors.torch import load_file, save_file

from lensmine_config import ExportSettings, IngestSettings, RefreshConfig, ScoreSettings
from lensmine_refresh import only_one, refresh
from lensmine_status import collect_status
from schema.engine import connect_engine
from schema.errors import DataError, TransientError, UserError
from schema.tables import job, scoring_run, spec_obj, spectrum
from scoring.mock_population import MockRecipe
from scoring.mocksurvey import MockSurvey, load_truth, write_mock_survey
from scoring.models.base import WEIGHTS_DIR

MODEL = "matched_filter_lae"


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory) -> MockSurvey:
    """A mock survey of 300 fibres."""
    return write_mock_survey(tmp_path_factory.mktemp("mock"), MockRecipe.of_size(300, seed=3))


@pytest.fixture
def config(survey: MockSurvey, db: str, tmp_path: Path) -> RefreshConfig:
    """Settings of a refresh of that survey with the matched filter, which needs no weights."""
    return RefreshConfig(
        db=db,
        ingest=IngestSettings(sdss=(str(survey.specobj), str(survey.spectra)), lenses=(str(survey.lenses),)),
        score=ScoreSettings(models=(MODEL,)),
        export=ExportSettings(candidates=(str(tmp_path / "candidates.csv"),)),
    )


def jobs(db: str) -> list[sa.RowMapping]:
    with connect_engine(db, read_only=True).connect() as conn:
        query = sa.select(job).where(job.c.command == "refresh").order_by(job.c.job_id)
        return list(conn.execute(query).mappings())


def test_refresh_does_all_once_then_nothing_then_only_what_is_stale(
    config: RefreshConfig, survey: MockSurvey
) -> None:
    assert config.db is not None
    first = refresh(config)
    assert first["status"] == "done"
    assert first["ingest"]["spectra"] == 299
    assert first["score"]["runs"][0]["n_scored"] > 150
    assert first["fit"]["models"][0]["n_fitted"] > 5
    exported = Path(config.export.candidates[0])
    lines = [line for line in exported.read_text().splitlines() if not line.startswith("#")]
    assert len(lines) == first["candidates"]["counts"][MODEL] + 1
    stamp = exported.stat().st_mtime_ns
    again = refresh(config)
    assert exported.stat().st_mtime_ns == stamp  # the same candidates are not written again
    assert (again["status"], again["changed"]) == ("nothing-to-do", False)
    assert again["message"].startswith("nothing new")

    # one redshift changes: exactly that spectrum is stale, says status, and is scored again
    with connect_engine(config.db).begin() as conn:
        one = conn.execute(
            sa.select(spec_obj.c.target_id)
            .join(spectrum, spectrum.c.target_id == spec_obj.c.target_id)
            .where(spec_obj.c["class"] == "GALAXY", spec_obj.c.subclass.is_(None), spec_obj.c.z > 0.5)
            .limit(1)
        ).scalar_one()
        conn.execute(sa.update(spec_obj).where(spec_obj.c.target_id == one).values(z=0.45))
        load_truth(conn, survey.truth)
    stale = collect_status(config.db)["scores"][0]
    assert (stale["todo"], stale["redshift_changed"], stale["never_scored"]) == (1, 1, 0)
    third = refresh(config)
    assert "completeness after all cuts" in third["message"]  # now that there are simulated targets
    assert third["score"]["runs"][0]["n_scored"] == 1
    status = collect_status(config.db)
    assert status["scores"][0]["todo"] == 0
    assert status["next"] == []
    assert [(row["status"], row["exit_code"]) for row in jobs(config.db)] == [
        ("done", 0),
        ("nothing-to-do", 0),
        ("done", 0),
    ]


def test_second_refresh_leaves_at_once(config: RefreshConfig) -> None:
    with only_one(config.db), pytest.raises(TransientError, match="another refresh") as busy:
        refresh(config)
    assert busy.value.exit_code == 75
    assert config.db is not None
    assert jobs(config.db) == []
    with only_one(config.db):  # and the lock is free again afterwards
        pass


def test_failed_refresh_leaves_its_reason_and_code(config: RefreshConfig) -> None:
    wrong = replace(config, score=replace(config.score, selection="no_such_selection"))
    with pytest.raises(UserError, match="no_such_selection"):
        refresh(wrong)
    assert config.db is not None
    (row,) = jobs(config.db)
    assert (row["status"], row["exit_code"]) == ("failed", 2)
    assert "no_such_selection" in row["message"]


def test_refresh_that_was_killed_is_marked_by_the_next(config: RefreshConfig) -> None:
    assert config.db is not None
    with connect_engine(config.db).begin() as conn:
        conn.execute(job.insert(), [{"job_id": 5, "command": "refresh", "status": "running"}])
    with pytest.raises(UserError):
        refresh(replace(config, ingest=IngestSettings(sdss=("/no/such/file.fits",))))
    assert [row["status"] for row in jobs(config.db)] == ["failed", "failed"]
    assert jobs(config.db)[0]["message"] == "killed"


def test_rejected_lens_catalogues_are_told(config: RefreshConfig, survey: MockSurvey, tmp_path: Path) -> None:
    """None could be read: an error, as every known lens would become a candidate; some: their number."""
    wrong = tmp_path / "lenses.csv"
    wrong.write_text("a,b\n1,2\n")
    settings = replace(config, score=replace(config.score, models=()), export=ExportSettings(candidates=()))
    for _ in range(2):  # also when it is as it was
        with pytest.raises(DataError, match="none of 1 catalogues of known lenses"):
            refresh(replace(settings, ingest=IngestSettings(lenses=(str(wrong),))))
    done = refresh(replace(settings, ingest=IngestSettings(lenses=(str(survey.lenses), str(wrong)))))
    assert done["lenses"]["text"].endswith("known lenses, 1 catalogue rejected")
    assert "1 catalogue rejected" in done["message"]
    assert config.db is not None
    assert [row["exit_code"] for row in jobs(config.db)] == [65, 65, 0]
    again = refresh(replace(settings, ingest=IngestSettings(lenses=(str(survey.lenses), str(wrong)))))
    assert again["status"] == "nothing-to-do"


def test_precision_and_weights_reach_the_scores(
    config: RefreshConfig, survey: MockSurvey, tmp_path: Path
) -> None:
    """A filter among the models has no precision, and stays at fp32."""
    from scoring.registry import get_model
    from scoring.versions import model_key

    settings = ScoreSettings(models=("snr_lae", MODEL), backend="torch", precision="bf16")
    done = refresh(replace(config, score=settings, export=ExportSettings()))
    assert [run["precision"] for run in done["score"]["runs"]] == ["bf16", "fp32"]
    tensors = load_file(WEIGHTS_DIR / "snr_lae.safetensors")
    first = next(name for name, t in tensors.items() if t.is_floating_point())
    save_file(tensors | {first: tensors[first] * 1.01}, tmp_path / "own.safetensors")
    given = str(tmp_path / "own.safetensors")
    own = ScoreSettings(models=("snr_lae",), backend="torch", weights=given)
    refresh(replace(config, score=own, export=ExportSettings()))
    with connect_engine(config.db, read_only=True).connect() as conn:
        runs = conn.execute(
            sa.select(scoring_run.c.model_id, scoring_run.c.precision).order_by(scoring_run.c.run_id)
        ).all()
    network = get_model("snr_lae", given)
    assert [tuple(r) for r in runs] == [
        (model_key(get_model("snr_lae"), "bf16"), "bf16"),
        (model_key(get_model(MODEL)), "fp32"),
        (model_key(network), "fp32"),
    ]
