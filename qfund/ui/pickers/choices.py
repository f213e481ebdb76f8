"""Widgets that several pages have: which model, in which precisions, of which revision, and what is quantised too."""

from collections.abc import Callable, Collection, Mapping
from typing import Literal

import streamlit as st

from qfund.checkpoints import catalog
from qfund.drawing.phrases import label
from qfund.precisions import caches as kv_caches
from qfund.precisions.precision import GGUF, MEANING, STORED
from qfund.precisions.request import ALSO
from qfund.precisions.table import PRECISIONS, unavailable
from qfund.ui import nearby


def _place(name: str) -> tuple[bool, ...]:
    row = PRECISIONS[name]
    return row.family == STORED, row.family == GGUF, row.family == MEANING, row.variant_of is not None


#: Names in the order in which they are offered: variants on another base after all others, then what else is called
#: BF16 or FP16, then GGUF files, and last what only a checkpoint that is quantised already can be compared in.
WITH_STORED = tuple(sorted(PRECISIONS, key=_place))

FIELD = 66  # pixels of a select box with its label, so that buttons stand beside it


def option_label(precision: str) -> str:
    """The label, with what an option needs that cannot be chosen for every model or on every device."""
    row = PRECISIONS[precision]
    if row.family == STORED:
        return f"{row.label} (for quantised checkpoints)"
    return f"{row.label} (needs a CUDA GPU)" if unavailable(row, catalog.device()) else row.label


#: Precisions that a model of any checkpoint can be taken to: variants on another base after all others.
OFFERED = tuple(
    sorted(
        (name for name, row in PRECISIONS.items() if row.family != STORED),
        key=lambda name: (PRECISIONS[name].family == GGUF, PRECISIONS[name].variant_of is not None),
    )
)
HUB_ID = "a Hub id (owner/name)"


def begin(page: str, values: Mapping[str, object], new: bool) -> None:
    """Let the widgets of a page begin at ``values``: when a link is opened, and when somebody comes back from another
    page."""
    for name, value in values.items():
        if new or f"{page}_{name}" not in st.session_state:
            st.session_state[f"{page}_{name}"] = value


def model(
    key: str,
    usual: str,
    *,
    width: int = 350,
    shipped: Collection[str] | None = None,
    hub_id: str = HUB_ID,
    typed: str = "",
    more: str = "",
) -> str:
    """A model that ships, or what this server lets a visitor name; ``usual`` where the field is empty.

    Args:
        shipped: those on offer; all that ship, unless it is given.
        typed: what the help says of a name that is typed, after *Or type a local folder or a Hub id*.
        more: what the help says of every model.
    """
    allowed = catalog.allowed()
    kinds = [name for kind, name in (("folder", "a local folder"), ("hub", hub_id)) if kind in allowed]
    hint = f" Or type {' or '.join(kinds)}{typed}." if kinds else ""
    named = str(st.session_state[key] or usual)
    inside = nearby.within(named)
    found = st.selectbox(
        f"Model{', a folder' * ('folder' in allowed)}{' or a Hub id' * ('hub' in allowed)}",
        # The model of a link is always an option, also where the server will then refuse it with a clear message.
        list(dict.fromkeys([*(shipped or catalog.CATALOG), *inside, *nearby.lately(), named])),
        format_func=title,
        key=key,
        width=width,
        accept_new_options=bool(kinds),
        help=f"A model that ships with qfund.{hint}{more}",
        persist_state="session",
    )
    found = str(found or usual).strip()
    nearby.remember(found)
    if inside and found not in inside:
        st.caption(
            f":material/folder_open: {len(inside)} checkpoint{'s' * (len(inside) > 1)} in this folder: "
            "choose one in the list."
        )
    return found


def bound(heading: str, key: str, most: float, step: float, explained: str) -> float | None:
    """One part of a margin, at most ``most``; None where the box is empty."""
    return st.number_input(
        heading,
        min_value=0.0,
        max_value=most,
        value=None,
        step=step,
        format="%.4g",
        key=key,
        help=explained,
        placeholder="any",
        width=168,
        persist_state="session",
    )


def title(model: str) -> str:
    return catalog.CATALOG[model].title if model in catalog.CATALOG else model


def reference(
    key: str,
    offered: Collection[str] = OFFERED,
    said: Callable[[str], str] = label,
    explained: str | None = None,
    title: str = "Reference",
) -> str:
    """The precision that others are compared with."""
    return str(
        st.selectbox(
            title,
            list(offered),
            format_func=said,
            key=key,
            width=150,
            help=explained,
            persist_state="session",
        )
    )


def precisions(
    title: str,
    key: str,
    offered: Collection[str] = OFFERED,
    said: Callable[[str], str] = label,
    width: int | Literal["stretch"] = 560,
    explained: str | None = None,
) -> tuple[str, ...]:
    """Several, in the table's order."""
    found = st.multiselect(
        title,
        list(offered),
        format_func=said,
        key=key,
        placeholder="Choose precisions",
        select_all=False,
        wrap=True,
        width=width,
        help=explained,
        persist_state="session",
    )
    return tuple(name for name in PRECISIONS if name in found)


def caches(
    key: str, explained: str = "", heading: str = "KV cache", width: int | Literal["stretch"] = "stretch"
) -> tuple[str, ...]:
    """How keys and values are cached, as they were typed: several of ``KV_CHOICES``, or two with a slash between."""
    found = st.multiselect(
        heading,
        list(dict.fromkeys([*kv_caches.KV_CHOICES, *map(str, st.session_state[key])])),
        format_func=kv_caches.title,
        key=key,
        placeholder="As computed",
        accept_new_options=True,
        select_all=False,
        wrap=True,
        width=width,
        help=f"{explained} Keys and values apart: type q8_0/q4_0. First and recent tokens kept as "
        "computed: type q8_0:first4:window64.".strip(),
        persist_state="session",
    )
    return tuple(map(str, found))


def revision(key: str, explained: str | None = None) -> str | None:
    """Of a Hub id; None where the field is empty."""
    found = st.text_input(
        "Revision of a Hub id",
        key=key,
        max_chars=200,
        placeholder="main",
        help=explained,
        persist_state="session",
    )
    return (found or "").strip() or None


def also(
    key: str, said: Callable[[str], str] = lambda name: ALSO[name].capitalize(), explained: str | None = None
) -> tuple[str, ...]:
    """What quantisers convert besides what they usually do: names of ``ALSO``, in its order."""
    found = st.pills(
        "Quantise too",
        list(ALSO),
        selection_mode="multi",
        format_func=said,
        key=key,
        help=explained,
        persist_state="session",
    )
    return tuple(name for name in ALSO if name in (found or ()))


def quantized_files(key: str, what: str) -> None:
    """A field for names of quantised files, one a line; ``what`` says what becomes of them."""
    st.text_area(
        "Add quantised files",
        key=key,
        height=100,
        max_chars=8000,
        placeholder="./my-model-Q4_K_M.gguf\nowner/name@main:file.gguf",
        help=f"One a line: a path on this machine, or a file of the Hub. {what}",
        persist_state="session",
    )


def named_files(key: str) -> tuple[str, ...]:
    """The files that the field names, each once."""
    text = str(st.session_state[key] or "")
    return tuple(dict.fromkeys(line.strip() for line in text.splitlines() if line.strip()))
