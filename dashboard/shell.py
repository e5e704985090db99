"""What stands around every page: state of the database, sign-in, navigation, failures in words."""

from __future__ import annotations

import contextlib
import html
import importlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import streamlit as st

from dashboard import store
from dashboard.routes import COOKIE_PURPOSE, ENTER, LEAVE, TICKET_PURPOSE, name_of, pass_for
from dashboard.settings import Settings, current
from dashboard.store import Reviewer
from schema.engine import connect_engine
from schema.errors import LensmineError, TransientError, UserError

PAGES = {
    "review": ("Review", "review"),
    "calibration": ("Calibration", "calibration"),
    "plots": ("Plots", "plots"),
    "runs": ("Runs", "runs"),
    "lenscrafter": ("LensCrafter", "craft"),
    "sql": ("SQL", "sql"),
}
"""Title and module of each page, by its address."""
CHECK_EVERY_S = 30.0
_checked: dict[str | None, float] = {}
STYLE = """
<style>
.block-container {padding-top: 4.2rem; padding-bottom: 2rem; max-width: 1700px;}
[data-testid="stVerticalBlock"] {gap: 0.55rem;}
.lm-pic {width: 100%; display: block; border: 1px solid #d5d7de; border-radius: 4px; background: #fff;}
#lm-craft {max-width: 100%; height: auto; image-rendering: pixelated;}
.lm-stamps {display: flex; flex-wrap: wrap; gap: 8px;}
.lm-stamps figure {margin: 0;}
.lm-stamps img {width: 200px; height: 200px; display: block; border-radius: 4px; object-fit: contain;
background: #1b1d26;}
.lm-large img {width: 300px; height: 300px;}
.lm-stamps figcaption {font-size: 0.78rem; color: #4a4d5a;}
.lm-table {border-collapse: collapse; font-size: 0.84rem; width: 100%;}
.lm-table th {text-align: left; color: #4a4d5a; font-weight: 600; padding: 1px 8px 1px 0; border-bottom: 1px
solid #c9ccd6;}
.lm-table td {padding: 1px 8px 1px 0; vertical-align: top;}
.lm-ok {color: #17642b;} .lm-bad {color: #a11d15; font-weight: 600;}
.lm-head {font-size: 1.15rem; font-weight: 600;}
.lm-sub {color: #4a4d5a; font-size: 0.86rem;}
kbd {border: 1px solid #9a9ca5; border-radius: 3px; padding: 0 5px; font-size: 0.8rem; background: #f3f4f8;
color: #31333f;}
</style>
"""


def run() -> None:
    """Draw the whole page."""
    st.set_page_config(page_title="lensmine", layout="wide", initial_sidebar_state="auto")
    st.html(STYLE)
    settings = current()
    with failures():
        check_database(settings)
        who = signed_in(settings)
        if who is None:
            sign_in_form(settings)
            return
        st.session_state["reviewer"] = who
        _navigation(settings, who)


def _navigation(settings: Settings, who: Reviewer) -> None:
    pages = {
        name: st.Page(guarded(module), title=title, url_path=name, default=name == "review")
        for name, (title, module) in PAGES.items()
    }
    st.session_state["pages"] = pages
    chosen = st.navigation(list(pages.values()), position="top")
    with st.sidebar:
        st.html(f"<div class='lm-sub'>Reviewer</div><div class='lm-head'>{html.escape(who.name)}</div>")
        sign_out(settings)
    chosen.run()


def guarded(name: str) -> Callable[[], None]:
    """The page of a module, imported when first opened, with its failures said in plain words."""

    def run_guarded() -> None:
        with failures():
            importlib.import_module(f"dashboard.pages.{name}").page()

    run_guarded.__name__ = name
    return run_guarded


@contextlib.contextmanager
def failures() -> Iterator[None]:
    """Around what reads or writes: says what is wrong and what to do, instead of a traceback."""
    try:
        yield
    except TransientError as exc:
        st.warning(plain(f"Busy: {exc}"))
        st.button("Try again", key=f"again{time.monotonic_ns()}")
    except LensmineError as exc:
        st.error(plain(str(exc)))


def aside(text: str) -> None:
    """A remark in small type; Streamlit's own caption is too faint to read for some (WCAG 1.4.3)."""
    st.html(f"<div class='lm-sub'>{html.escape(text)}</div>")


def table(head: list[str], rows: list[list[Any]]) -> str:
    """HTML of a small table, every cell shown as text."""
    top = "".join(f"<th scope='col'>{html.escape(str(h))}</th>" for h in head)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(str(v))}</td>" for v in row) + "</tr>" for row in rows)
    return f"<table class='lm-table'><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"


def plain(text: str) -> str:
    """Text for Streamlit's markdown that is shown as typed."""
    return "".join(f"\\{c}" if c in r"\`*_{}[]()<>#+-.!|~:$&" else c for c in text)


def check_database(settings: Settings) -> None:
    """Refuse a database that is missing or at another migration, looked at every half minute.

    Raises
    ------
    UserError, TransientError
        With what to type about it.
    """
    if time.monotonic() - _checked.get(settings.db, -1e9) < CHECK_EVERY_S:
        return
    connect_engine(settings.db, read_only=True).dispose()
    _checked[settings.db] = time.monotonic()


# ---------------------------------------------------------------- who


def oidc_configured() -> bool:
    """Whether secrets.toml holds a sign-in for Streamlit's OIDC."""
    try:
        return "auth" in st.secrets
    except Exception:  # no secrets file at all
        return False


def signed_in(settings: Settings) -> Reviewer | None:
    """Who sits at this browser; None when nobody has signed in.

    A page never takes this from anything that the browser can write: it is the command's --as, the identity
    that
    the OIDC provider vouched for, or a cookie that this server signed.
    """
    if settings.reviewer is not None:
        return _kept(
            ("as", settings.reviewer), lambda: store.ensure_reviewer(settings.db, settings.reviewer or "")
        )
    if oidc_configured():
        if not st.user.is_logged_in:
            return None
        return _kept(
            ("oidc", st.user.get("iss"), st.user.get("sub")),
            lambda: oidc_reviewer(settings, st.user.to_dict()),
        )
    text = st.context.cookies.get(settings.cookie)
    if not text:
        return None
    try:
        name = name_of(settings, COOKIE_PURPOSE, text)
    except UserError:
        return None
    return _kept(("local", name), lambda: _local(settings, name))


def _kept(key: tuple[Any, ...], find: Callable[[], Reviewer | None]) -> Reviewer | None:
    """The reviewer of this browser session, looked up once."""
    held = st.session_state.get("who")
    if held is None or held[0] != key:
        held = (key, find())
        if held[1] is not None:
            st.session_state["who"] = held
    return held[1]


def _local(settings: Settings, name: str) -> Reviewer | None:
    found = store.reading(settings.db, lambda conn: store.find_reviewer(conn, name))
    return found[0] if found else None


def oidc_reviewer(settings: Settings, claims: dict[str, Any]) -> Reviewer:
    """The reviewer whom an OIDC provider vouches for, known by issuer and subject, not by name."""
    subject = f"{claims.get('iss', '')} {claims['sub']}"
    name = claims.get("name") or claims.get("email") or claims["sub"]
    return store.ensure_reviewer(
        settings.db, str(name), subject=subject, email=claims.get("email"), key=subject
    )


def sign_in_form(settings: Settings) -> None:
    """Ask who it is."""
    st.title("lensmine")
    if oidc_configured():
        st.write("Sign in to review candidates.")
        st.button("Sign in", on_click=st.login, type="primary")
        return
    st.write("Sign in under your name. The first sign-in of a name sets its passphrase.")
    with st.form("sign-in"):
        name = st.text_input("Name", max_chars=store.NAME_LENGTH)
        passphrase = st.text_input("Passphrase", type="password")
        sent = st.form_submit_button("Sign in", type="primary")
    if sent:
        who = store.sign_in_locally(settings.db, name, passphrase)
        ticket = pass_for(settings, TICKET_PURPOSE, who.name)
        base = f"/{settings.base}" if settings.base else ""
        go_to(f"{base}/{ENTER}?ticket={ticket}")


def sign_out(settings: Settings) -> None:
    """A way out, where there is one."""
    if settings.reviewer is not None:
        return
    if oidc_configured():
        st.button("Sign out", on_click=st.logout)
        return
    base = f"/{settings.base}" if settings.base else ""
    st.html(f"<a href='{base}/{LEAVE}' target='_self'>Sign out</a>")


def go_to(address: str) -> None:
    """Send the browser to an address of this server."""
    st.html(f"<script>window.location.assign({address!r})</script>", unsafe_allow_javascript=True)
