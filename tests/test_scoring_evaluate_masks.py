"""Models at another mask of the lens's lines."""

from __future__ import annotations

import pytest
import torch

from schema.errors import UserError
from schema.grid import WINDOW_FIRST, WINDOW_NPIX
from scoring.evaluate.predict import with_mask
from scoring.localise import lens_line_mask
from scoring.registry import get_model


@pytest.mark.parametrize(
    "name", ["matched_filter_lae", "matched_filter_lae_template", "snr_lae", "resnet28_lae"]
)
def test_the_mask_is_the_one_asked_for(name: str) -> None:
    flux, ivar, z = torch.ones(1, WINDOW_NPIX), torch.ones(1, WINDOW_NPIX), torch.tensor([0.35])
    more = {"model": torch.ones_like(flux)}
    hashes = set()
    for width in (8, 12):
        model = with_mask(get_model(name), width)
        hashes.add(model.preprocessing_hash)
        hidden = lens_line_mask(z, WINDOW_FIRST, WINDOW_NPIX, width)
        # flux on the masked lines alone must not change what the network sees
        bright = torch.where(hidden, 50.0, flux)
        if name == "resnet28_lae":
            continue
        seen = model.preprocess(bright, ivar, z, **more)[0, 1 if "filter" in name else 3]
        assert torch.equal(seen > 0, ~hidden[0])
    assert len(hashes) == 2


def test_a_negative_width_is_refused() -> None:
    with pytest.raises(UserError, match="a mask of -1 pixels"):
        with_mask(get_model("matched_filter_lae"), -1)
