"""What goes with a person from page to page: the model and the precisions that they have chosen, and their own text.

Only what somebody has chosen goes along, by a widget or a link; what a page has as it comes stays each page's own. It
becomes part of the next page's address, so each link is complete in itself.
"""

from dataclasses import fields, replace
from typing import Any, TypeVar

import streamlit as st

from qfund.checkpoints import weights
from qfund.precisions.precision import STORED
from qfund.precisions.table import PRECISIONS

Asked = TypeVar("Asked")

_KEY = "carried"
_FIELDS = ("model", "revision", "also", "reference", "precisions", "text")


def remember(asked: object, usual: object) -> None:
    """Take along what differs from what a page has as it comes, and whatever was taken along before."""
    held: dict[str, Any] = st.session_state.setdefault(_KEY, {})
    chosen, as_it_comes = _carriable(asked), _carriable(usual)
    for name, value in chosen.items():
        if name in held or value != as_it_comes.get(name):
            held[name] = value
    if "model" in held and "model" in chosen:
        held["revision"] = chosen.get("revision")


def adopted(asked: Asked) -> Asked:
    """A page's choices with those that were made elsewhere, as far as the page has them."""
    held: dict[str, Any] = st.session_state.get(_KEY, {})
    has = {field.name for field in fields(asked)}  # type: ignore[arg-type]
    changes = {name: held[name] for name in _FIELDS if name in held and name in has}
    if "precisions" in changes and "reference" not in has:  # the reference is one of them
        reference = held.get("reference", "fp32")
        changes["precisions"] = tuple(
            name
            for name, row in PRECISIONS.items()
            if row.family != STORED and name in (reference, *held["precisions"])
        )
    if held.get("text") and "prompts" in has:
        changes["prompts"] = (held["text"],)
    part = getattr(asked, "part", None)
    if isinstance(part, weights.Part) and held.get("model", part.model) != part.model:
        changes["part"] = weights.Part(held["model"], held.get("revision"))
    return replace(asked, **{name: value for name, value in changes.items() if value != ()})  # type: ignore[type-var]


def _carriable(asked: object) -> dict[str, Any]:
    found = {name: getattr(asked, name) for name in _FIELDS if hasattr(asked, name)}
    part = getattr(asked, "part", None)
    if isinstance(part, weights.Part):
        found |= {"model": part.model, "revision": part.revision}
    if "precisions" in found and "reference" not in found:
        reference = st.session_state.get(_KEY, {}).get("reference", "fp32")
        found["precisions"] = tuple(name for name in found["precisions"] if name != reference)
    return found
