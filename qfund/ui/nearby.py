"""Models that somebody may mean besides those that ship: named lately on this server, or lying in the folder named."""

from collections import OrderedDict
from pathlib import Path

import streamlit as st

from qfund.checkpoints import catalog
from qfund.core.machine import public

KEPT = 8  # names of models that are remembered
LISTED = 50  # checkpoints of a folder that are offered


@st.cache_resource(show_spinner=False)
def _lately() -> "OrderedDict[str, None]":
    return OrderedDict()


def remember(model: str) -> None:
    """A folder or a Hub id that somebody named; for others to see where no strangers share the server."""
    if model in catalog.CATALOG or public() or not _may_be_named(model):
        return
    names = _lately()
    names[model] = None
    names.move_to_end(model)
    while len(names) > KEPT:
        names.popitem(last=False)


def lately() -> list[str]:
    """The latest first."""
    return [] if public() else list(reversed(_lately()))


def within(folder: str) -> list[str]:
    """The checkpoints in a folder that is none itself, and beside one that is, by name; of anything else none."""
    if "folder" not in catalog.allowed() or not folder:
        return []
    try:
        path = Path(folder).expanduser()
        if not path.is_absolute() or not path.is_dir():
            return []
        top = path.parent if _is_checkpoint(path) else path
        found = sorted(str(each) for each in top.iterdir() if _is_checkpoint(each))
    except (OSError, ValueError, RuntimeError):  # not readable, no such user, or no path at all
        return []
    return found[:LISTED]


def _is_checkpoint(path: Path) -> bool:
    return (path / "config.json").is_file()


def _may_be_named(model: str) -> bool:
    """Whether it looks like what ``catalog.allowed`` lets a visitor name."""
    if Path(model).is_absolute():
        return bool(_is_checkpoint(Path(model)))
    return "hub" in catalog.allowed() and model.count("/") == 1
