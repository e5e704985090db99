"""The pictures of an object, and the controls that change them."""

from __future__ import annotations

import html
from dataclasses import asdict
from typing import Any

import streamlit as st

from dashboard import pictures
from dashboard.objects import ReviewObject
from dashboard.pages.look import SMOOTHINGS, View, change_view
from dashboard.settings import current
from dashboard.shell import aside, plain
from dashboard.spectra import SpectrumStyle, describe
from dashboard.stamps import SCALINGS, StampStyle, colour_bands


def spectrum_address(one: ReviewObject, look: View) -> str:
    """Address of the picture of its spectrum."""
    style = SpectrumStyle(smooth=look.smooth, zoom=150.0 if look.zoom else 0.0, sky=look.sky, oii=look.oii)
    return pictures.address(current(), {**spectrum_recipe(one, "spectrum"), "style": asdict(style)})


def spectrum_recipe(one: ReviewObject, kind: str) -> dict[str, Any]:
    """What a picture of its spectrum is made of, by the kind of picture."""
    row = one.row
    return {
        "kind": kind,
        "shard": row["shard"],
        "row": int(row["shard_row"]),
        "first": int(row["pix_first"]),
        "last": int(row["pix_last"]),
        "hash": row["content_hash"],
        "about": one.about(),
    }


def stamp_recipes(one: ReviewObject, look: View, size: int = 256) -> list[tuple[dict[str, Any], str]]:
    """Recipe and caption of each stamp: colour first, then band by band, cutout by cutout."""
    style = asdict(StampStyle(look.scaling, look.contrast, look.residual, size))
    out = []
    for cutout in one.cutouts:
        bands = tuple(cutout["bands"].split(","))
        base = {
            "kind": "stamp",
            "shard": cutout["shard"],
            "row": int(cutout["shard_row"]),
            "hash": cutout["content_hash"],
        }
        side = (cutout["nx"] or 0) * (cutout["pixscale_arcsec"] or 0)
        where = f"{cutout['instrument']}, {side:.1f} arcsec" if side else str(cutout["instrument"])
        colour = colour_bands(bands)
        if colour:
            out.append(({**base, "bands": list(colour), "style": style}, f"{''.join(colour)} ({where})"))
        out += [({**base, "bands": [b], "style": style}, f"{b} ({where})") for b in bands]
    return out


def addresses(one: ReviewObject, look: View) -> list[str]:
    """Every picture of an object, so that the browser can ask for the next ones ahead of time."""
    found = [pictures.address(current(), recipe) for recipe, _ in stamp_recipes(one, look)]
    return [spectrum_address(one, look), *found] if one.has_spectrum else found


def show_pictures(one: ReviewObject, look: View) -> None:
    """Spectrum and stamps; what is of class ``lm-of`` tells the keys which object is drawn."""
    if one.has_spectrum:
        gone = pictures.missing_shard(current(), one.row["shard"])
        if gone:
            st.error(plain(f"The spectrum cannot be shown: {gone}"))
        else:
            words = html.escape(describe(one.about()), quote=True)
            st.html(
                f"<img class='lm-pic lm-of' id='lm-spectrum' data-target='{one.target_id}'"
                f" src='{spectrum_address(one, look)}' alt='{words}'>"
            )
    else:
        aside("This object has no spectrum in the database.")
    _spectrum_controls(look, one.has_spectrum)
    _stamps(one, look)


def _spectrum_controls(look: View, has_spectrum: bool) -> None:
    with st.container(horizontal=True, gap="small", vertical_alignment="bottom"):
        if has_spectrum:
            smooth = st.select_slider("Mean of pixels", SMOOTHINGS, look.smooth, key="smooth", width=170)
            if smooth != look.smooth:
                change_view(smooth=smooth)
                st.rerun(scope="fragment")
            _switch("Zoom to hit", "zoom", look.zoom, "Z")
            _switch("Sky", "sky", look.sky, "S")
            _switch("If [OII]", "oii", look.oii, "O")
        _switch("Cut table", "cuts", look.cuts, "E")


def _switch(label: str, name: str, on: bool, key: str) -> None:
    st.button(
        label, key=f"switch_{name}", shortcut=key, type="primary" if on else "secondary",
        on_click=change_view, kwargs={name: not on},
    )  # fmt: skip


def _stamps(one: ReviewObject, look: View) -> None:
    if not one.cutouts:
        st.html(
            f"<div class='lm-sub lm-of' data-target='{one.target_id}'>"
            "No cutouts of this object are in the database.</div>"
        )
        return
    figures, missing = [], {}  # one word a shard, not one a band
    for recipe, caption in stamp_recipes(one, look):
        gone = pictures.missing_shard(current(), recipe["shard"])
        if gone:
            missing[recipe["shard"]] = plain(f"The cutout {caption} cannot be shown: {gone}")
            continue
        kind = "residual, " if look.residual else ""
        words = html.escape(f"Cutout {kind}{caption}", quote=True)
        figures.append(
            f"<figure><img class='lm-stamp' src='{pictures.address(current(), recipe)}' alt='{words}'>"
            f"<figcaption>{html.escape(kind + caption)}</figcaption></figure>"
        )
    for words in missing.values():
        st.error(words)
    if figures:
        size = "" if one.has_spectrum else " lm-large"
        st.html(f"<div class='lm-stamps lm-of{size}' data-target='{one.target_id}'>{''.join(figures)}</div>")
    with st.container(horizontal=True, gap="small", vertical_alignment="bottom"):
        scaling = st.segmented_control(
            "Scaling", SCALINGS, default=look.scaling, key="scaling", required=True
        )
        contrast = st.slider("Contrast", 0.5, 5.0, float(look.contrast), 0.25, key="contrast", width=220)
        _switch("Residual without lens light", "residual", look.residual, "D")
    if (scaling, contrast) != (look.scaling, look.contrast):
        change_view(scaling=scaling, contrast=contrast)
        st.rerun(scope="fragment")
