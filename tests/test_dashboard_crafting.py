"""The lens that LensCrafter shows first."""

from __future__ import annotations

import numpy as np

from dashboard.crafting import SLIDERS, craft

START = {name: slider.start for name, slider in SLIDERS.items()}


def test_first_scene_shows_an_arc_apart_from_its_lens() -> None:
    """On the page's first instrument, stamp and noise: a user sees at once what the sliders are about."""
    made = {p: craft(START, "hsc", npix=64, part=p, noise=False, seed=1) for p in ("all", "lens", "source")}
    lens, arcs, both = (made[p].image for p in ("lens", "source", "all"))
    for k in range(3):
        peak = np.unravel_index(arcs[k].argmax(), arcs[k].shape)
        assert arcs[k][peak] > lens[k][peak]
    # the bluest band has a dark gap on the way from the lens to the arc
    y, x = np.unravel_index(arcs[0].argmax(), arcs[0].shape)
    steps = np.linspace(0.0, 1.0, 50)
    way = both[0][
        np.rint(31.5 + steps * (y - 31.5)).astype(int), np.rint(31.5 + steps * (x - 31.5)).astype(int)
    ]
    assert way.min() < 0.7 * way[-1]
    noise = craft(START, "hsc", npix=64, part="all", noise=True, seed=1).image - both
    assert arcs[0].max() > 20 * noise[0, :16, :16].std()
    assert START["source_colour"] > START["lens_colour"], "arcs are bluer than their lens"


def test_sliders_start_within_their_reach() -> None:
    assert [name for name, s in SLIDERS.items() if not s.lo <= s.start <= s.hi] == []
