"""Plots of a small search: each draws in both ways, says what it shows, and carries its data."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from dashboard_data import NOW, write_search

from dashboard import plot_data, plot_stored, plot_versions, store
from dashboard.charts import Chart, Series
from schema.engine import connect_engine, read_frame
from schema.errors import UserError
from schema.tables import selection_function
from schema.upsert import insert_rows
from scoring.evaluate import metrics


@pytest.fixture
def search(db):
    return write_search(db)


def first_version(conn):
    return next(v for v in plot_versions.versions(conn) if v["name"] == "first")


@pytest.mark.parametrize("name", ["trc", "roc", "reliability", "completeness", "sky"])
def test_plots_draw_and_say_what_they_show(db, search, name):
    maker = plot_data.PLOTS[name][1]
    chart = store.reading(db, lambda conn: maker(conn, first_version(conn), {}))
    for part in ("model first", "run 111", "selection everything version 1", "2026-01-02 03:04 UTC"):
        assert part in chart.shows
    assert chart.csv().decode().startswith(f"# {chart.title}; {chart.shows}")
    assert chart.picture("png").startswith(b"\x89PNG")
    spec = json.loads(chart.vega().to_json())
    assert chart.shows in spec["description"]
    assert len(chart.frame()) > 0


def test_the_curves_are_those_of_the_evaluation(db, search):
    chart = store.reading(db, lambda conn: plot_data.trc(conn, first_version(conn), {}))
    label = np.arange(20) < 10
    rank, found = metrics.tracer_recovery_curve(label, search.probability[:20])
    curve = chart.series[0]
    assert np.allclose(curve.x, rank)
    assert np.allclose(curve.y, found)
    assert f"{metrics.ranking_performance(label, search.probability[:20]):.3f}" in chart.says


def test_the_sky_ends_at_360_degrees_and_legends_are_not_pale(db, search):
    chart = store.reading(db, lambda conn: plot_data.PLOTS["sky"][1](conn, None, {}))
    layers = json.loads(chart.vega().to_json())["layer"]
    assert all(one["encoding"]["x"]["scale"]["domain"] == [0, 360] for one in layers)
    assert all(one["encoding"]["x"]["scale"]["reverse"] for one in layers)
    assert all(one["encoding"]["color"]["legend"]["symbolOpacity"] == 1 for one in layers)


def test_plots_without_data_say_what_to_do(db):
    for name in ("sky", "colour_magnitude", "redshifts"):
        with pytest.raises(UserError, match="lensmine"):
            store.reading(db, lambda conn, name=name: plot_data.PLOTS[name][1](conn, None, {}))


def test_attrition_needs_spectra(db, search):
    with pytest.raises(UserError, match="no hits of spectra"):
        store.reading(
            db, lambda conn: plot_data.attrition(conn, first_version(conn) | {"modality": "spectrum"}, {})
        )


def test_attrition_of_images_is_by_the_threshold(db, search):
    version = store.reading(db, first_version)
    assert version["modality"] == "image"
    query = "select probability >= :t as hit from current_image_score where model_id = :m"
    asked = {"t": version["threshold"], "m": version["model_id"]}
    rows = store.reading(db, lambda conn: read_frame(conn, query, **asked))
    chart = store.reading(db, lambda conn: plot_data.attrition(conn, version, {}))
    assert chart.series[0].y.tolist() == [len(rows), max(rows["hit"].sum(), 0.5)]
    assert chart.names == ["scored", "above the threshold"]


def test_plots_of_everything_name_every_model_and_the_earlier_runs(db, search):
    every = store.reading(db, plot_versions.versions)
    said = plot_versions.what_all([{**every[0], "n_run": 3}, *every[1:]])
    assert "and 2 earlier of these weights" in said
    assert "UTC: model" in said
    assert all(f"model {v['name']}" in said for v in every)


def test_slices_of_the_selection_function_add_counts_before_dividing(db, search):
    cells = [
        {
            "cell_id": 10 * i + j,
            "measurement_id": 5,
            "model_id": 11,
            "stage": "scored",
            "instrument": "hsc",
            "threshold": 0.5,
            "x_name": "theta_e_arcsec",
            "x_lo": float(i),
            "x_hi": i + 1.0,
            "y_name": "arc_mag",
            "y_lo": 20.0 + j,
            "y_hi": 21.0 + j,
            "n_injected": 10 * (j + 1),
            "n_selected": 10 * (j + 1) - 5 * i,
            "measured_at": NOW,
        }
        for i in range(2)
        for j in range(3)
    ]
    with connect_engine(db).begin() as conn:
        insert_rows(conn, selection_function, cells)
    rows = store.reading(db, plot_stored.selection_slices)
    assert len(rows) == 6
    whole = plot_stored.selection_chart(rows, 20.0, 23.0)
    assert np.allclose(whole.series[0].y, [60 / 60, 45 / 60])
    part = plot_stored.selection_chart(rows, 21.0, 22.0)
    assert np.allclose(part.series[0].y, [20 / 20, 15 / 20])
    assert "arc_mag 21 to 22" in part.series[0].label
    assert "measurement 5" in part.shows


def test_bars_and_bands_draw_in_both_ways():
    bars = Chart(
        "b",
        "Bars",
        "step",
        "n",
        [Series("all", [0, 1], [100, 0.5], kind="bars"), Series("some", [1], [3], kind="bars")],
        "test",
        log_y=True,
        names=["scored", "hit"],
    )
    band = Chart("l", "Band", "x", "y", [Series("curve", [1, 2], [0.5, 0.6], [0.4, 0.5], [0.6, 0.7])], "test")
    for chart in (bars, band):
        assert chart.picture("pdf").startswith(b"%PDF")
        assert chart.picture("svg").lstrip().startswith(b"<?xml")
        json.loads(chart.vega().to_json())
    frame = band.frame()
    assert isinstance(frame, pd.DataFrame)
    assert frame[["lo", "hi"]].notna().all().all()
