"""Widgets that choose weights: a model, one of its matrices, a tile of it or all of it."""

from dataclasses import replace

import streamlit as st

from qfund.checkpoints import weights
from qfund.checkpoints.weights import TILE, Part, Weights
from qfund.core.errors import QfundError
from qfund.core.units import bytes_text
from qfund.ui import pickers
from qfund.ui.states import failed

_TILE, _WHOLE = f"A tile of {TILE} × {TILE}", "All of it"


def follow(page: str, part: Part, new: bool) -> None:
    """Let the widgets begin at ``part``."""
    values = {
        "model": part.model,
        "revision": part.revision or "",
        "tensor": part.tensor,
        "extent": _WHOLE if part.whole else _TILE,
        "row": part.row,
        "column": part.column,
    }
    pickers.begin(page, values, new)


def draw(page: str, part: Part) -> Part:
    """Which weights; what cannot be opened is said, and the choice stays."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        model = pickers.model(
            f"{page}_model",
            part.model,
            width=330,
            hub_id="a Hub id",
            typed=" that is on this machine",
            more=" Its weights are read from the file; no model is loaded.",
        )
        if model != part.model:
            part = replace(part, model=model, tensor="", row=0, column=0, revision=None)
        try:
            shapes = weights.shapes_of(part.model, part.revision)
        except QfundError:
            shapes = {}  # said where the weights are read
        first = weights.first(shapes)
        if st.session_state[f"{page}_tensor"] not in shapes:
            # A link may name what is not there: said below, and it stays on offer. Of another model, its first matrix.
            st.session_state[f"{page}_tensor"] = part.tensor or first
        options = list(dict.fromkeys([*shapes, st.session_state[f"{page}_tensor"]]))
        tensor = st.selectbox(
            "Matrix",
            options,
            format_func=lambda name: f"{name} · {shapes[name][0]:,} × {shapes[name][1]:,}" if name in shapes else name,
            key=f"{page}_tensor",
            width=460,
            persist_state="session",
        )
        if tensor and tensor != part.tensor and part.tensor:
            part = replace(part, row=0, column=0)
            st.session_state[f"{page}_row"] = st.session_state[f"{page}_column"] = 0
        part = replace(part, tensor=tensor or "")
        extent = st.segmented_control(
            "How much", (_TILE, _WHOLE), key=f"{page}_extent", required=True, persist_state="session"
        )
        rows, columns = shapes.get(part.tensor, (0, 0))
        part = replace(part, whole=extent == _WHOLE)
        if not part.whole and (rows > TILE or columns > TILE):
            part = replace(
                part,
                row=_begins(f"{page}_row", "First row", rows, part.row),
                column=_begins(f"{page}_column", "First column", columns, part.column),
            )
    return part


def _begins(key: str, label: str, most: int, value: int) -> int:
    st.session_state[key] = min(value if key not in st.session_state else st.session_state[key] or 0, most - 1)
    return int(
        st.number_input(
            label,
            min_value=0,
            max_value=most - 1,
            step=min(TILE, max(1, most - TILE)),
            key=key,
            width=140,
            disabled=most <= TILE,
            help=f"From 0 to {most - 1:,}.",
            persist_state="session",
        )
        or 0
    )


# As a resource: nobody writes into the arrays, and a copy for every rerun would take longer than reading them.
@st.cache_resource(max_entries=4, show_spinner=False)
def _read(key: str, _part: Part) -> Weights:
    found = weights.read(_part)
    found.values.flags.writeable = False
    return found


def key(part: Part) -> str:
    """What identifies the weights that ``part`` names, as they are now.

    Raises:
        QfundError: the model is not there.
    """
    folder = weights.folder_of(part.model, part.revision)
    files = [
        (path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in sorted(folder.glob("*.safetensors*"))
    ]
    return repr((str(folder), files, part))


def read(part: Part) -> Weights | None:
    """The weights, or None after it has been said why not."""
    try:
        return _read(key(part), part)
    except QfundError as error:
        failed(error)
        return None


def said(found: Weights) -> str:
    """What is looked at, in a line."""
    rows, columns = found.values.shape
    whole = (rows, columns) == found.shape
    of = "all of it" if whole else f"a tile of {rows} × {columns} from row {found.row:,}, column {found.column:,}"
    size = f"{found.shape[0]:,} × {found.shape[1]:,}, stored in {found.dtype}"
    return f"{found.tensor}, {size}: {of}, {bytes_text(found.stored_bytes)}"
