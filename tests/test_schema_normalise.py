"""Matching histograms and averaging blocks, as the thesis's section 2.1 does."""

from __future__ import annotations

import numpy as np
import pytest

from schema.normalise import block_mean, default_template, histogram_match, template_quantiles

RNG = np.random.default_rng(3)


def test_a_matched_image_has_the_template_histogram() -> None:
    template = default_template()
    images = np.stack([RNG.normal(size=(50, 50)), RNG.lognormal(2.0, 1.0, (50, 50)) * 1e-12])
    matched = histogram_match(images, template)
    want = np.interp(np.linspace(0, 1, 2500), np.linspace(0, 1, template.size), template)
    for before, after in zip(images, matched, strict=True):
        np.testing.assert_allclose(np.sort(after.ravel()), want, atol=1e-5)
        assert (np.diff(after.ravel()[np.argsort(before.ravel())]) >= -1e-7).all()  # order is kept
    assert matched.min() >= 0
    assert matched.max() <= 1


def test_mean_and_deviation_no_longer_depend_on_the_source() -> None:
    template = default_template()
    faint, bright = RNG.normal(size=(64, 64)), RNG.normal(size=(64, 64)) * 1e5 + 7
    a, b = histogram_match(faint, template), histogram_match(bright, template)
    assert a.mean() == pytest.approx(b.mean(), rel=1e-5)
    assert a.std() == pytest.approx(b.std(), rel=1e-5)


def test_equal_pixels_stay_equal_and_missing_ones_do_not_count() -> None:
    image = RNG.integers(0, 4, (20, 20)).astype(float)
    image[0, :5] = np.nan
    out = histogram_match(image, np.linspace(0.0, 1.0, 11))
    for value in range(4):
        assert np.ptp(out[image == value]) == 0
    assert (out[0, :5] == 0).all()
    assert (histogram_match(np.full((4, 4), 2.0), np.array([0.0, 1.0])) == 0.5).all()
    assert (histogram_match(np.full((4, 4), np.nan), np.array([0.0, 1.0])) == 0.5).all()


def test_a_template_is_a_quantile_function() -> None:
    template = template_quantiles(RNG.normal(size=(40, 40)), gamma=0.5)
    assert (np.diff(template) >= 0).all()
    assert (template[0], template[-1]) == (0.0, 1.0)
    # gamma below 1 lifts faint pixels: equation 2.1
    assert np.median(template) > np.median(template_quantiles(np.sort(RNG.normal(size=1600)), gamma=1.0))
    with pytest.raises(ValueError, match="contrast"):
        template_quantiles(np.ones((5, 5)))
    with pytest.raises(ValueError, match="never fall"):
        histogram_match(np.zeros((3, 3)), np.array([1.0, 0.0]))


def test_block_mean() -> None:
    image = RNG.normal(size=(3, 20, 12)).astype(np.float32)
    image[0, 0, 0] = np.nan
    image[1, :2, :2] = np.nan
    small = block_mean(image, 2)
    assert small.shape == (3, 10, 6)
    assert small[0, 0, 0] == pytest.approx(image[0, :2, :2].ravel()[1:].mean(), rel=1e-5)
    assert np.isnan(small[1, 0, 0])
    assert small[2, 4, 3] == pytest.approx(image[2, 8:10, 6:8].mean(), rel=1e-5)
    assert small[2].mean() == pytest.approx(image[2].mean(), abs=1e-6)
    with pytest.raises(ValueError, match="blocks of 3"):
        block_mean(image, 3)
