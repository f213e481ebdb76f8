"""The top of a report: each candidate in three numbers and in words, and what all of it was measured on."""

import streamlit as st

from qfund import tables, words
from qfund.report import PrecisionResult, Report
from qfund.ui import cards, columns
from qfund.ui.drawn import once
from qfund.ui.services import Found
from qfund.ui.states import literal
from qfund.units import bytes_text


def headline(report: Report) -> None:
    st.subheader(literal(words.title(report)), anchor=False, width="content")


def draw(found: Found) -> None:
    report = found.report
    assert report is not None
    for alarm in words.reference_alarms(report):
        st.error(f"**The reference itself is not sound.** {literal(alarm)}", icon=":material/warning:")
    if len(report.results) <= words.FEW:
        with st.grid(2 if len(report.results) in (1, 2, 4) else 3, min_column_width=300):
            for verdict in words.verdicts(report):
                with st.container(border=True, gap="small", height="stretch"):
                    _card(report, verdict)
    else:
        _table(found)
    st.caption(literal(" ".join((f"{words.provenance(report)}.", *words.notes(report)))))


def _table(found: Found) -> None:
    """Many candidates: one row each, to be sorted, and whatever is wrong with any of them below."""
    report = found.report
    assert report is not None
    st.dataframe(
        once(found, "overview", tables.overview),
        hide_index=True,
        column_config=columns.OVERVIEW,
        height=columns.height(len(report.results)),
        placeholder="–",
        key="overview",
        alt="Every candidate with its memory, bits per weight and distance from the reference; can be sorted",
    )
    verdicts = words.verdicts(report)
    if alarms := [alarm for verdict in verdicts for alarm in verdict.alarms]:
        st.error("\n\n".join(map(literal, alarms)), icon=":material/warning:")
    if cautions := [caution for verdict in verdicts for caution in verdict.cautions]:
        st.caption("\n\n".join(f":material/info: {literal(caution)}" for caution in cautions))
    told = st.expander("Each of them in words", icon=":material/notes:", key="in_words", on_change="rerun")
    if told.open:
        with told:
            st.markdown("\n".join(map(_told, verdicts, report.results)))


def _told(verdict: words.Verdict, result: PrecisionResult) -> str:
    """A verdict and what else is worth knowing, as a line of a list."""
    more = " ".join(words.asides(result))
    return f"- **{literal(verdict.label)}** {literal(verdict.body)}" + (f" :gray[{literal(more)}]" if more else "")


def _card(report: Report, found: words.Verdict) -> None:
    result = next(row for row in report.results if row.precision == found.precision)
    cards.title(found.precision)
    with st.grid(3, min_column_width=88, gap="small"):
        for name, value, help_text in _numbers(report, result):
            st.metric(name, value, help=help_text)
    for alarm in found.alarms:
        st.error(literal(alarm), icon=":material/warning:")
    st.markdown(literal(found.body))
    for caution in found.cautions:
        st.caption(f":material/info: {literal(caution)}")
    st.caption(literal(" ".join(filter(None, (words.arithmetic(result), result.note)))))


def _numbers(report: Report, result: PrecisionResult) -> list[tuple[str, str, str]]:
    """Label, value and help of the numbers behind the words."""
    return [
        (
            "Memory",
            bytes_text(result.footprint_bytes),
            f"Stored weights, scales and buffers, counted; {words.memory_phrase(result, report.reference)}.",
        ),
        *words.headlines(result),
    ]
