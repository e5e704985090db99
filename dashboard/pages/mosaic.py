"""Mosaic."""

from __future__ import annotations
import streamlit as st
from dashboard.session import ReviewSession


def show(session: ReviewSession) -> None:
    st.write("soon")
