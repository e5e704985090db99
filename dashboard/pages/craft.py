"""LensCrafter: a lens by sliders, drawn at once, and what each image model says of it."""

from __future__ import annotations

import base64
import html

import numpy as np
import streamlit as st

from dashboard.crafting import PARTS, SLIDERS, Crafted, craft, instruments, verdicts
from dashboard.shell import failures, table
from dashboard.stamps import SCALINGS, StampStyle, colour_bands, draw_stamp

SIDE = 420


def page() -> None:
    """The page."""
    _lens()


@st.fragment
def _lens() -> None:
    with failures():
        values, camera, npix, part, noise, seed = _sliders()
        made = craft(values, camera, npix=npix, part=part, noise=noise, seed=seed)
        _picture(made, part)


def _sliders() -> tuple[dict[str, float], str, int, str, bool, int]:
    if st.session_state.pop("craft_reset", False):
        for name, slider in SLIDERS.items():
            st.session_state[f"craft_{name}"] = slider.start
    with st.container(horizontal=True, gap="small", vertical_alignment="bottom"):
        camera = st.selectbox("Instrument", instruments(), key="craft_instrument", width=130)
        npix = st.select_slider("Side [px]", (44, 64, 96, 128), 64, key="craft_npix", width=160)
        part = st.segmented_control(
            "Shows",
            list(PARTS),
            default="all",
            format_func=lambda p: PARTS[p],
            key="craft_part",
            required=True,
        )
        noise = st.toggle("Noise", True, key="craft_noise")
        seed = int(st.number_input("Seed of the noise", 0, 2**31 - 1, 1, key="craft_seed", width=120))
        st.button("Start over", on_click=lambda: st.session_state.update(craft_reset=True))
    values: dict[str, float] = {}
    groups = list(dict.fromkeys(s.group for s in SLIDERS.values()))
    left = st.columns([1, 1, 1, 1.7], gap="medium")
    for column, group in zip(left, groups, strict=False):
        with column:
            st.markdown(f"**{group}**")
            for name, s in SLIDERS.items():
                if s.group == group:
                    values[name] = st.slider(s.label, s.lo, s.hi, s.start, s.step, key=f"craft_{name}")
    st.session_state["craft_column"] = left[-1]
    return values, str(camera), int(npix), str(part), bool(noise), seed


def _picture(made: Crafted, part: str) -> None:
    with st.session_state.pop("craft_column"):
        scaling = st.segmented_control(
            "Scaling", SCALINGS, default="asinh", key="craft_scaling", required=True
        )
        contrast = st.slider("Contrast", 0.5, 5.0, 1.0, 0.25, key="craft_contrast")
        style = StampStyle(scaling, contrast, False, SIDE)
        bands = colour_bands(made.bands) or made.bands[:1]
        pixels = made.image[[made.bands.index(b) for b in bands]].astype(np.float64)
        text = base64.b64encode(draw_stamp(pixels, style)).decode()
        width = made.image.shape[-1] * made.pixscale
        words = f"Simulated {PARTS[part]}, {'-'.join(bands)}, {width:.1f} arcsec wide"
        st.html(
            f"<img id='lm-craft' src='data:image/png;base64,{text}' width='{SIDE}' height='{SIDE}'"
            f" alt='{html.escape(words, quote=True)}'><div class='lm-sub'>{html.escape(words)}; magnification"
            f" {made.magnification:.1f}; arcs "
            + ", ".join(f"{b} {m:.2f}" for b, m in zip(made.bands, made.arc_mag, strict=True))
            + "</div>"
        )
        rows = [[name, "" if p is None else f"{p:.4f}", remark] for name, p, remark in verdicts(made)]
        st.html(
            table(["Image model", "Probability", ""], rows)
            if rows
            else "<div class='lm-sub'>No image model is registered.</div>"
        )
