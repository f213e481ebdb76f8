"""The table of precisions beside what each of them did to the example model, and the way from there to a comparison."""

from dataclasses import replace
from functools import cache
from typing import Any

import pandas as pd
import streamlit as st

from qfund.checkpoints import catalog
from qfund.drawing import axes, phrases
from qfund.features.compare import link
from qfund.features.compare.figures import damage as damage_figures
from qfund.features.compare.request.examples import EVERY_PRECISION, EXAMPLE
from qfund.features.compare.request.report import Report
from qfund.features.compare.tables import damage as damage_tables
from qfund.features.compare.tables.metrics import overview
from qfund.features.compare.words.report import notes, provenance
from qfund.features.precisions import tables
from qfund.precisions import backends
from qfund.precisions.precision import FAMILIES, FILE, STORED
from qfund.precisions.table import PRECISIONS, unavailable
from qfund.ui import columns, services, shell
from qfund.ui.drawn import once
from qfund.ui.states import empty, literal

_EITHER = "Either"
_BASES = ("FP32", "BF16", _EITHER)


@cache
def _table(device: str) -> pd.DataFrame:
    """Of this process: what is installed does not change while it runs."""
    return tables.precisions(device)


def draw() -> None:
    names, rows = _filtered()
    if not names:
        st.caption("No precision is of this family and on this base.")
        return
    found = services.look_up(EVERY_PRECISION, whole=False)
    if found.result is None:
        empty(
            "Not measured yet",
            "Here stands what every precision did to pydoc-llama, once `python -m training.measured` has measured it.",
            ":material/stacked_line_chart:",
        )
    else:
        once(found, f"bits against damage of {rows}", lambda result: _chart(result, names))
    _formats(names, rows)
    if found.result is not None:
        once(found, f"measured of {rows}", lambda result: _measured(result, names))


def _filtered() -> tuple[list[str], str]:
    """The precisions to show, and a name for just these. A cast has no base beside itself and belongs to each."""
    with st.container(horizontal=True):
        families = st.pills(
            "Family",
            [name for name in FAMILIES if name not in (STORED, FILE)],
            selection_mode="multi",
            format_func=str.capitalize,
            key="family",
            bind="query-params",
        )
        base = st.segmented_control(
            "What is not quantised stays in",
            _BASES,
            default=_BASES[0],
            required=True,
            key="base",
            bind="query-params",
        )
    names = [
        row.name
        for row in PRECISIONS.values()
        if row.family in (families or FAMILIES) and (row.quantizer is None or base in (_EITHER, row.base))
    ]
    return names, "_".join((*families, base or _BASES[0]))


def _chart(found: Report, names: list[str]) -> None:
    frame = damage_tables.bits_against_damage(found)
    shown = frame[frame["precision"].isin(names) & (frame["value"] > 0)]
    if shown.empty:
        return
    with st.container(key="wide"):
        st.plotly_chart(
            damage_figures.bits_against_damage(shown),
            config=axes.CONFIG,
            key="bits_against_damage",
            alt="Bits per weight of every precision against its KL divergence from FP32, on pydoc-llama",
        )
    st.caption(
        f"{found.spec.model} in every precision: further left is smaller, further down is closer to "
        f"{phrases.label(found.reference.precision)}. The line joins those that no other beats on both. "
        "Open marks have the rest of the model in BF16."
    )


def _formats(names: list[str], rows: str) -> None:
    device = catalog.device()
    table = _table(device)
    frame = table[table["name"].isin(names)].reset_index(drop=True)
    place = st.container(horizontal=True, vertical_alignment="center")
    event = st.dataframe(
        frame,
        hide_index=True,
        column_config=_COLUMNS,
        column_order=list(_COLUMNS),
        height=columns.height(len(frame)),
        placeholder="–",
        on_select="rerun",
        selection_mode="multi-row",
        # Of other rows another table: a selection counts rows.
        key=f"formats_{rows}",
        alt="Every precision: bits, scales, arithmetic, where it runs and which libraries have it",
    )
    chosen = [str(frame["name"].iloc[row]) for row in event["selection"]["rows"] if row < len(frame)]
    with place:
        _compare(chosen, device)
    if reasons := tables.reasons(frame):
        st.caption(f":material/block: {literal(' '.join(reasons))}")


def _compare(chosen: list[str], device: str) -> None:
    st.header("What each of them is", anchor=False, width="content")
    runnable = tuple(name for name in chosen if not unavailable(PRECISIONS[name], device))
    if st.button(
        f"Compare {phrases.together(runnable)} on {EXAMPLE.model}" if runnable else "Select rows to compare them",
        type="primary" if runnable else "secondary",
        disabled=not runnable,
        icon=":material/balance:",
        key="compare_these",
    ):
        st.switch_page(shell.page("compare"), query_params=link.to_open(replace(EXAMPLE, precisions=runnable)))
    if len(runnable) < len(chosen):
        left_out = phrases.together(name for name in chosen if name not in runnable)
        st.caption(f":material/block: without {literal(left_out)}, not run here")


def _measured(found: Report, names: list[str]) -> None:
    frame = overview(found)
    labels = {phrases.label(name) for name in names}
    st.header(f"What they did to {found.spec.model}", anchor=False)
    shown = frame[frame["Precision"].isin(labels)]
    st.dataframe(
        columns.told(shown, "KL"),
        hide_index=True,
        column_config=columns.OVERVIEW,
        height=columns.height(len(shown)),
        placeholder="–",
        key="measured",
        alt="Memory, bits per weight, KL divergence, top-1 agreement and perplexity of every precision",
    )
    st.caption(literal(" ".join((f"{provenance(found)}.", *notes(found)))))


def _text(title: str, explained: str | None = None, **more: Any) -> Any:
    return st.column_config.TextColumn(title, help=explained, **more)


_COLUMNS: dict[str, Any] = {
    "label": _text("Precision", pinned=True),
    "bits": st.column_config.NumberColumn("Bits", format="%.0f", help="Of one code, scales not counted."),
    "effective": st.column_config.NumberColumn(
        "Bits with scales", format="%.4g", help="For each weight of a large matrix, scales and zero-points included."
    ),
    "sqnr": st.column_config.NumberColumn(
        "SQNR floor",
        format="%.0f dB",
        help="Signal to quantisation noise, in decibels, that tests hold it to on weights that are normally "
        "distributed. A cast that is no narrower than FP32 has none.",
    ),
    "here": _text("Runs here", width=165),
    "name": _text("Name", "On the command line and in links."),
    "family": _text("Family", width=115),
    "granularity": _text("One scale"),
    "storage": _text("Codes in memory"),
    "base": _text("Rest of the model"),
    "runs_on": _text("Runs on"),
    **{
        name: _text(name, f"Whether {name} really stores and runs it here. {backend.meaning}")
        for name, backend in backends.BACKENDS.items()
    },
    "quantised": _text("Quantised"),
    "arithmetic": _text("Multiplies", width="large"),
    "emulated": _text("Emulated here", "What hardware made for it would do otherwise.", width="large"),
    "treatment": _text("Treats", "What becomes of which modules.", width="large"),
    "meaning": _text("Meaning", width="large"),
}
