"""How objects are shown: what the reviewer chose, kept in the page's address."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import streamlit as st

from dashboard.stamps import SCALINGS

SMOOTHINGS = (1, 3, 5, 9, 15)


@dataclass(frozen=True)
class View:
    """How objects are shown; kept in the page's address."""

    smooth: int = 5
    zoom: bool = False
    sky: bool = False
    oii: bool = False
    scaling: str = "asinh"
    contrast: float = 1.0
    residual: bool = False
    cuts: bool = False

    def as_text(self) -> str:
        """What differs from the defaults, as ``smooth=9,oii=1``."""
        base = asdict(View())
        return ",".join(
            f"{k}={int(v) if isinstance(v, bool) else v}" for k, v in asdict(self).items() if v != base[k]
        )

    @classmethod
    def from_text(cls, text: str) -> View:
        """From the address; what it does not understand is left at its default."""
        given = dict(part.partition("=")[::2] for part in text.split(",") if "=" in part)
        known: dict[str, Any] = {}
        for key, default in asdict(cls()).items():
            try:
                if key in given:
                    known[key] = given[key] == "1" if isinstance(default, bool) else type(default)(given[key])
            except ValueError:
                continue
        view = cls(**known)
        if view.scaling not in SCALINGS or view.smooth not in SMOOTHINGS or not 0.5 <= view.contrast <= 5:
            return cls()
        return view


def view_now() -> View:
    """How objects are shown in this session."""
    if "look" not in st.session_state:
        st.session_state["look"] = View.from_text(st.query_params.get("view", ""))
    look: View = st.session_state["look"]
    return look


def change_view(**changes: Any) -> None:
    """Show objects another way from now on."""
    look = replace(view_now(), **changes)
    st.session_state["look"] = look
    text = look.as_text()
    if text:
        st.query_params["view"] = text
    else:
        st.query_params.pop("view", None)
