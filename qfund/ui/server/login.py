"""Signing in by OpenID Connect: Streamlit does it, where ``secrets.toml`` has a section ``[auth]`` and Authlib is
installed."""

import hashlib
import hmac
import time
from collections.abc import Mapping

import streamlit as st
from streamlit.auth_util import get_secrets_auth_section, is_authlib_installed
from streamlit.runtime.scriptrunner import get_script_run_ctx

from qfund.ui.server.private import ANYBODY
from qfund.ui.states import literal

#: Days for which a key for programs opens.
KEY_DAYS = 30


def configured() -> bool:
    """Whether visitors may sign in."""
    return bool(get_secrets_auth_section())


def providers() -> list[str | None]:
    """Names of the sections ``[auth.NAME]``; None for one that stands in ``[auth]`` itself."""
    found = get_secrets_auth_section()
    named = [name for name, value in found.items() if isinstance(value, Mapping) and "client_id" in value]
    return [*([None] if "client_id" in found else []), *named]


def user() -> str:
    """Who is signed in where a page is drawn: a hash of the provider's and the person's identifiers, ``ANYBODY`` for
    nobody. Neither name nor address is kept."""
    if get_script_run_ctx(suppress_warning=True) is None or not configured():
        return ANYBODY
    told = st.user.to_dict()
    subject = told.get("sub")
    if not told.get("is_logged_in") or not subject:
        return ANYBODY
    return hashlib.sha256(f"{told.get('iss') or told.get('provider')} {subject}".encode()).hexdigest()[:32]


def key_for_programs(person: str, now: float | None = None) -> str:
    """What a program shows to be answered as ``person``, for some days. Nothing of it is kept: it holds who, until
    when, and a seal of the servers' ``cookie_secret``, with which all keys end.

    Args:
        person: as ``user``.
        now: seconds since the epoch.
    """
    until = int((time.time() if now is None else now) + KEY_DAYS * 86_400)
    return f"qfund_{person}_{until}_{_seal(person, until)}"


def person_of(key: str, now: float | None = None) -> str | None:
    """Whose key it is; None for one that is none, or is over."""
    prefix, person, until, seal = key.split("_") if key.count("_") == 3 else ("", "", "", "")
    if prefix != "qfund" or not (until.isascii() and until.isdigit() and len(until) < 12) or not _secret():
        return None
    if not hmac.compare_digest(seal.encode(), _seal(person, int(until)).encode()):
        return None
    return person if int(until) > (time.time() if now is None else now) else None


def _secret() -> bytes:
    return str(get_secrets_auth_section().get("cookie_secret") or "").encode()


def _seal(person: str, until: int) -> str:
    return hmac.new(_secret(), f"key for programs {person} {until}".encode(), hashlib.sha256).hexdigest()


def draw() -> None:
    """A way in, or who is signed in and the way out."""
    if not is_authlib_installed():
        st.caption('Signing in needs Authlib: pip install "qfund[login]".', width="content")
    elif user() == ANYBODY:
        for provider in providers():
            said = f"Sign in with {provider.capitalize()}" if provider else "Sign in"
            if st.button(said, key=f"sign_in_{provider or 'default'}", icon=":material/login:"):
                st.login(provider)
    else:
        told = st.user.to_dict()
        name = str(told.get("name") or told.get("email") or told.get("preferred_username") or "Signed in")[:40]
        with st.popover(literal(name), icon=":material/person:", width="content"):
            st.caption("Results of texts and pictures of your own are listed and read by you alone.")
            if st.button("Key for programs", key="program_key", icon=":material/key:"):
                st.code(key_for_programs(user()), language=None, wrap_lines=True)
                st.caption(f"For {KEY_DAYS} days. Whoever has it reads these results, and asks in your name.")
            if st.button("Sign out", key="sign_out", icon=":material/logout:"):
                st.logout()
