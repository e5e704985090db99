"""Simulated sets: reproducible, resumable, balanced between kinds; real cutouts as parts beside them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from schema.errors import DataError, UserError
from schema.image_shards import percentile_stamp
from scoring.imaging import sets
from scoring.imaging.scenes import (
    KINDS,
    LEARN,
    MIXES,
    View,
    draw_lenses,
    family,
    lenses,
    ordinary,
    stream,
    vary,
)  # fmt: skip
from scoring.imaging.sets import ImageSet, Prepared, from_arrays, simulate, simulated
from scoring.imaging.truth import TRUTH, observable, total_snr
from scoring.lensing.negatives import FRACTIONS, SURVEY_FRACTIONS
from scoring.light.instruments import get_instrument
from scoring.registry import get_model


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few simulated images of the one-band family."""
    folder = tmp_path_factory.mktemp("sets") / "space"
    simulate(folder, "space", 24, 30, seed=5)
    return folder


def test_set_holds_what_was_asked_for(space: Path) -> None:
    lens, other = simulated(space)
    assert len(lens) == 24
    kinds = np.bincount(other.kind, minlength=4)
    assert kinds[KINDS.index("ordinary")] == 30
    assert kinds[KINDS.index("bare")] + kinds[KINDS.index("beside")] == pytest.approx(24, abs=1)
    assert {part.pixscale for part in lens.parts} == {0.1}
    for part in (*lens.parts, *other.parts):
        assert part.pixels.shape[1:] == (1, 64, 64)
        assert np.isfinite(part.pixels).all()


def test_a_set_may_do_without_survey_sources(tmp_path: Path) -> None:
    simulate(tmp_path, "space", 8, 0, seed=1)
    lens, other = simulated(tmp_path)
    assert len(lens) == 8
    assert KINDS.index("ordinary") not in other.kind


def test_sky_noise_is_the_unit(space: Path) -> None:
    part = simulated(space)[1].parts[-1]
    corner = np.asarray(part.pixels[:, 0, :6, :6], dtype=np.float64)
    assert np.median(np.abs(corner - np.median(corner, axis=(1, 2), keepdims=True))) == pytest.approx(
        0.67, abs=0.15
    )


def test_the_same_seed_gives_the_same_images_and_another_one_others(space: Path, tmp_path: Path) -> None:
    simulate(tmp_path / "again", "space", 24, 30, seed=5)
    simulate(tmp_path / "other", "space", 24, 30, seed=6)
    first, again, other = (
        simulated(f)[0].parts[0].pixels for f in (space, tmp_path / "again", tmp_path / "other")
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_an_interrupted_run_goes_on_with_the_same_images(
    space: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sets, "CHUNK", 8)
    simulate(tmp_path / "whole", "space", 40, 20, seed=7)
    calls = 0
    real = sets.lenses

    def stop_in_between(*args: object) -> dict[str, torch.Tensor]:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        return real(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(sets, "lenses", stop_in_between)
    with pytest.raises(KeyboardInterrupt):
        simulate(tmp_path / "parts", "space", 40, 20, seed=7)
    monkeypatch.setattr(sets, "lenses", real)
    simulate(tmp_path / "parts", "space", 40, 20, seed=7)
    for whole, parts in zip(simulated(tmp_path / "whole"), simulated(tmp_path / "parts"), strict=True):
        assert [len(p.pixels) for p in whole.parts] == [len(p.pixels) for p in parts.parts]
        assert all(np.array_equal(a.pixels, b.pixels) for a, b in zip(whole.parts, parts.parts, strict=True))


def test_a_folder_of_another_recipe_is_refused(space: Path) -> None:
    with pytest.raises(DataError, match="another recipe"):
        simulate(space, "space", 25, 30, seed=5)


def test_unknown_family_lists_the_known(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="hsc, space"):
        simulate(tmp_path, "spacee", 10, 10, seed=1)


def test_arcs_of_every_lens_can_be_told_from_the_galaxy() -> None:
    view, mix = family("hsc")[0], MIXES["hsc"]
    generator = torch.Generator().manual_seed(3)
    instrument = vary(view, generator)
    drawn = draw_lenses(16, instrument, 64, generator, mix)
    assert len(drawn.scene) == len(drawn.lens) == 16
    sigma = instrument.background_sigma().float()[:, None, None]
    assert bool(((drawn.arcs / sigma).square().sum((2, 3)).amax(1).sqrt() > mix.min_snr).all())
    assert bool((drawn.scene.theta_e >= mix.min_theta).all())


def test_truth_of_every_lens_is_kept_beside_its_image(space: Path) -> None:
    lens, other = simulated(space)
    truth = np.concatenate([part.truth for part in lens.parts if part.truth is not None])
    assert truth.shape == (24, len(TRUTH))
    assert np.isfinite(truth).all()
    assert (truth[:, TRUTH.index("theta_e_arcsec")] >= MIXES["space"].min_theta).all()
    assert (truth[:, TRUTH.index("magnification")] > 0.5).all()
    assert lens.observable.shape == (24,)
    assert lens.take(np.array([0, 20])).observable.tolist() == lens.observable[[0, 20]].tolist()
    assert other.observable.all()  # nothing is known of them


@pytest.mark.parametrize(
    ("column", "value"),
    [("theta_e_arcsec", 0.5), ("magnification", 2.9), ("arc_snr", 19.9), ("source_r_eff_arcsec", 0.1)],
)
def test_each_condition_of_collett_alone_hides_a_lens(column: str, value: float) -> None:
    plain = torch.tensor([[1.2, 0.3, 5.0, 40.0, 0.7, 0.6]])
    assert bool(observable(plain))
    hidden = plain.clone()
    hidden[0, TRUTH.index(column)] = value
    assert not bool(observable(hidden))


def test_total_signal_to_noise_takes_the_best_pixels_only() -> None:
    light, variance = torch.zeros(1, 1, 4, 4), torch.ones(1, 1, 4, 4)
    light[0, 0, 0, :4] = 3.0
    assert float(total_snr(light, variance)[0, 0]) == pytest.approx(12 / 2)
    light[0, 0, 3, 3], variance[0, 0, 3, 3] = 1.0, 1e6  # light that adds more noise than signal
    assert float(total_snr(light, variance)[0, 0]) == pytest.approx(12 / 2)


def test_sets_to_learn_from_hold_brighter_arcs_than_those_to_measure_on() -> None:
    for name, mix in MIXES.items():
        assert LEARN[name].brighter > mix.brighter
        assert LEARN[name].min_snr == mix.min_snr


def test_lenses_drawn_widely_have_rings_that_nature_makes_too_rarely() -> None:
    view, plain = family("hsc")[0], replace(LEARN["hsc"], wide=0.0)
    instrument = vary(view, stream(3))
    wide, usual = (
        draw_lenses(96, instrument, 64, stream(4), replace(plain, wide=share)).scene for share in (1.0, 0.0)
    )
    high = 0.35 * 64 * instrument.pixel_scale_arcsec
    assert bool(((wide.theta_e >= plain.min_theta) & (wide.theta_e <= high)).all())
    assert float((wide.theta_e > 2).float().mean()) > 3 * float((usual.theta_e > 2).float().mean())
    centred = [torch.hypot(s.source_x - s.lens_x, s.source_y - s.lens_y) / s.theta_e for s in (wide, usual)]
    assert float(centred[0].median()) < 0.8 * float(centred[1].median())
    bright = [(s.source_mag[:, 0] < s.lens_mag[:, 0]).float().mean() for s in (wide, usual)]
    assert bright[0] > 1.5 * bright[1]
    assert float(wide.lens_n.std()) > 1.2


def test_tracers_may_be_asked_to_be_observable() -> None:
    view, mix = family("hsc")[0], replace(MIXES["hsc"], min_snr=60.0, observable=True)
    truth = lenses(24, view, mix, stream(5))[1]
    assert len(truth) == 24
    assert bool(observable(truth).all())
    assert not bool(observable(lenses(24, view, replace(mix, observable=False), stream(5))[1]).all())


def test_shares_of_a_survey_are_shares_and_have_fewer_that_mimic_arcs() -> None:
    assert sum(SURVEY_FRACTIONS.values()) == pytest.approx(1.0)
    assert sum(FRACTIONS.values()) == pytest.approx(1.0)
    assert set(SURVEY_FRACTIONS) == set(FRACTIONS)
    for kind in ("ring", "satellites", "merger", "tidal"):
        assert SURVEY_FRACTIONS[kind] < FRACTIONS[kind]
    view, mix = family("hsc")[0], MIXES["hsc"]
    assert not torch.equal(
        ordinary(16, view, mix, stream(6)), ordinary(16, view, replace(mix, survey=True), stream(6))
    )


def test_seeing_and_depth_vary_within_their_ranges() -> None:
    view = View("euclid", 64, depth=(-1.0, 1.0), seeing=(0.5, 2.0))
    made = [vary(view, torch.Generator().manual_seed(seed)) for seed in range(20)]
    fwhm = np.array([m.psf_fwhm_arcsec[0] for m in made]) / 0.18
    depth = np.array([m.depth_5sigma[0] for m in made]) - get_instrument("euclid").depth_5sigma[0]
    assert (fwhm >= 0.5).all()
    assert (fwhm <= 2).all()
    assert fwhm.std() > 0.1
    assert (np.abs(depth) <= 1).all()
    assert depth.std() > 0.1


def test_parts_of_several_sizes_become_one_batch_in_the_order_asked_for() -> None:
    rng = np.random.default_rng(1)
    small, large = (rng.normal(size=(4, 1, n, n)).astype(np.float32) for n in (64, 120))
    both = from_arrays(small, ("VIS",), 0.1) + from_arrays(large, ("F814W",), 0.05)
    model = get_model("arclet", None)
    index = np.array([6, 0, 7, 3, 3])
    x = both.inputs(model, index)
    for row, i in enumerate(index):
        source, scale = (small[i : i + 1], 0.1) if i < 4 else (large[i - 4 : i - 3], 0.05)
        assert torch.allclose(x[row], model.preprocess(torch.from_numpy(source), scale)[0], atol=1e-5)


def test_models_of_stamps_get_stamps_in_their_bands() -> None:
    image = np.random.default_rng(2).normal(size=(3, 3, 64, 64)).astype(np.float32)
    image[:, 2] += 5 * np.hypot(*np.mgrid[-32:32, -32:32])[None]
    x = from_arrays(image, ("g", "r", "i"), 0.168).inputs(get_model("eznet", None), np.arange(3))
    assert np.allclose(x.numpy() * 255, percentile_stamp(image)[0][:, [2, 1, 0]])


def test_stamps_are_no_images() -> None:
    stamps = from_arrays(np.zeros((2, 1, 64, 64), np.uint8), ("VIS",), 0.1)
    with pytest.raises(DataError, match="not on stamps"):
        stamps.inputs(get_model("arclet", None), np.arange(2))


def test_bands_that_a_model_cannot_use_are_refused() -> None:
    with pytest.raises(DataError, match="cannot use bands g, z"):
        from_arrays(np.zeros((1, 2, 64, 64), np.float32), ("g", "z")).inputs(
            get_model("eznet", None), np.arange(1)
        )


def test_wrong_shape_is_refused() -> None:
    with pytest.raises(DataError, match=r"allowed is \(n, 2, ny, nx\)"):
        from_arrays(np.zeros((2, 1, 64, 64), np.float32), ("g", "r"))


def test_prepared_inputs_are_kept_and_made_anew_for_other_images(space: Path, tmp_path: Path) -> None:
    lens, other = simulated(space)
    model = get_model("arclet", None)
    path = tmp_path / "lens.npy"
    made = Prepared(lens, model, path)
    assert torch.allclose(made.batch(np.arange(3)), lens.inputs(model, np.arange(3)), atol=2e-3)
    stamp = path.stat().st_mtime_ns
    assert len(Prepared(lens, model, path)) == 24
    assert path.stat().st_mtime_ns == stamp
    assert len(Prepared(other, model, path)) == len(other)
    assert path.stat().st_mtime_ns != stamp


def test_taking_rows_keeps_kinds(space: Path) -> None:
    other = simulated(space)[1]
    some = other.take(np.flatnonzero(other.kind == KINDS.index("beside")))
    assert len(some)
    assert set(some.kind) == {KINDS.index("beside")}
    assert len(ImageSet([])) == 0
