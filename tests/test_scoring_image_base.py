"""What every image model does: bands chosen, the field cut out or resampled, hashes that follow the code."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from schema.errors import DataError, UserError
from scoring.models.image_base import ImageModel, background, on_grid, regrid, resampler
from scoring.registry import image_model, spectral_model


@dataclass(frozen=True)
class Config:
    gain: float = 2.0


class Summing(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean((1, 2, 3)) - 0.5


class Three(ImageModel):
    n_band = 3
    band_sets = (("i", "r", "g"), ("z", "i", "r"))
    npix = 32
    config_class = Config

    def build(self) -> nn.Module:
        return Summing()


class Wide(Three):
    field_arcsec = 8.0


def test_bands_are_chosen_in_the_order_of_the_model() -> None:
    assert Three.choose_bands(("g", "r", "i", "z", "y")) == ("i", "r", "g")
    assert Three.choose_bands(("r", "i", "z")) == ("z", "i", "r")
    assert Three.choose_bands(("g", "r")) is None
    assert ImageModel.choose_bands(("F606W", "F814W")) == ("F814W",)


def test_a_stamp_of_the_right_size_is_only_scaled() -> None:
    stamps = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8)
    x = Three().preprocess(stamps)
    assert x.dtype == torch.float32
    assert torch.equal(x, stamps.float() / 255)


def test_a_larger_stamp_gives_its_middle() -> None:
    stamps = torch.randint(0, 256, (2, 3, 40, 36), dtype=torch.uint8)
    assert torch.equal(Three().preprocess(stamps), stamps[..., 4:36, 2:34].float() / 255)


def test_a_smaller_stamp_is_filled_with_its_background() -> None:
    stamps = torch.full((1, 3, 24, 30), 51, dtype=torch.uint8)
    stamps[..., 10:14, 13:17] = 255
    x = Three().preprocess(stamps)
    assert torch.allclose(x[..., :4, :], torch.full((), 0.2))
    assert torch.equal(x[..., 4:28, 1:31], stamps.float() / 255)


def test_less_than_half_a_field_is_refused() -> None:
    with pytest.raises(DataError, match=r"covers 25% of a field of 32 pixels; at least 50%"):
        Three().preprocess(torch.zeros((1, 3, 16, 16), dtype=torch.uint8))
    assert Three.coverage(16, 16) == 0.25
    assert Three.coverage(64, 16) == 0.5
    assert Wide.coverage(10, 40, 0.4) == 0.5
    assert Wide.coverage(10, 10) != Wide.coverage(10, 10)  # NaN: the scale is not known


def test_a_field_on_the_sky_needs_the_pixel_scale() -> None:
    with pytest.raises(DataError, match="needs the pixel scale"):
        Wide().preprocess(torch.zeros((1, 3, 32, 32), dtype=torch.uint8))


@pytest.mark.parametrize(("n", "pixscale"), [(160, 0.05), (107, 0.075), (32, 0.25), (20, 0.4), (48, 0.1684)])
def test_resampling_keeps_surface_brightness_and_place(n: int, pixscale: float) -> None:
    """A blob 0.6 arcsec right and 0.4 up of the middle is there on the model's grid, whatever the pixels."""
    axis = (torch.arange(n) + 0.5 - n / 2) * pixscale
    blob = torch.exp(-((axis[:, None] - 0.4) ** 2 + (axis - 0.6) ** 2) / (2 * 0.6**2))[None, None]
    got = on_grid(blob, pixscale, 32, 8.0)[0, 0]
    grid = (torch.arange(32) + 0.5 - 16) * 0.25
    want = torch.exp(-((grid[:, None] - 0.4) ** 2 + (grid - 0.6) ** 2) / (2 * 0.6**2))
    # linear interpolation errs by step^2/8 times the curvature, 1/sigma^2 each way
    assert float((got - want).abs().max()) < 0.12
    middle = (got.sum(0) @ grid / got.sum(), got.sum(1) @ grid / got.sum())
    assert float(middle[0]) == pytest.approx(0.6, abs=0.02)
    assert float(middle[1]) == pytest.approx(0.4, abs=0.02)
    assert float(got.sum() * 0.25**2) == pytest.approx(float(blob.sum() * pixscale**2), rel=0.02)


@pytest.mark.parametrize(
    ("n", "width", "npix"), [(100, 80.0, 64), (60, 47.5, 64), (64, 71.3, 64), (30, 35.0, 64)]
)
def test_rows_of_the_resampler_sum_to_what_the_cutout_covers(n: int, width: float, npix: int) -> None:
    rows = resampler(n, width, npix).sum(1)
    assert float(rows.max()) <= 1 + 1e-5
    assert float(rows.sum()) * width / npix == pytest.approx(min(n, width), rel=1e-5)


def test_pixel_scales_may_differ_within_a_batch() -> None:
    images = torch.rand((3, 1, 64, 64))
    scales = torch.tensor([0.125, 0.2, 0.125], dtype=torch.float64)
    together = on_grid(images, scales, 32, 8.0)
    for k in range(3):
        assert torch.allclose(together[k : k + 1], on_grid(images[k : k + 1], float(scales[k]), 32, 8.0))


def test_missing_pixels_become_background() -> None:
    images = torch.full((2, 1, 32, 32), 3.0)
    images[0, 0, 10:12] = torch.nan
    images[1] = torch.nan
    got = regrid(images, 32.0, 32)
    assert torch.equal(got[0], torch.full((1, 32, 32), 3.0))
    assert torch.equal(got[1], torch.zeros((1, 32, 32)))
    assert torch.equal(background(images), torch.tensor([[3.0], [0.0]]))


def test_the_hash_follows_bands_field_configuration_and_code() -> None:
    class Recoloured(Three):
        band_sets = (("z", "r", "g"),)

    class Rescaled(Three):
        def scale(self, x: Tensor) -> Tensor:
            return x / 128.0 - 1.0

    models = [Three(), Wide(), Three(Config(gain=3.0)), Recoloured(), Rescaled()]
    assert len({m.preprocessing_hash for m in models}) == len(models)
    assert Three().preprocessing_hash == Three().preprocessing_hash


def test_probability_is_the_sigmoid_of_the_network_on_the_grid() -> None:
    stamps = torch.full((2, 3, 32, 32), 255, dtype=torch.uint8)
    assert torch.allclose(Three().probability(stamps), torch.sigmoid(torch.tensor(0.5)))


def test_models_of_the_wrong_kind_are_refused() -> None:
    with pytest.raises(UserError, match="snr_lae scores spectra; choose a model of images"):
        image_model("snr_lae")
    assert spectral_model("snr_lae").modality == "spectrum"


@pytest.mark.parametrize(
    ("name", "preprocessing", "weights"),
    [
        ("resnet28_lae", "f0a1cd5a8f3d4bb106f6b3c35222071d", "4fe1d81131e03b839bb7e5789cec3c9f"),
        ("snr_lae", "bc51326b760267e25388ce6de0aeeb8f", "9266e4b15ce185df77a2798363aca844"),
        ("snr_lae_template", "4a755df1db6566072b5e2b3ef4c55269", "1567ee8022eea4900ee2a8855004d6b3"),
    ],
)
def test_spectral_models_keep_their_hashes(name: str, preprocessing: str, weights: str) -> None:
    """Scores in databases are keyed by these: a change of the base class must not make them stale."""
    model = spectral_model(name)
    assert (model.preprocessing_hash, model.weights_hash) == (preprocessing, weights)
