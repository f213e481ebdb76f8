"""The top of a report: each candidate in three numbers and in words, and what all of it was measured on."""

import streamlit as st

from qfund import words
from qfund.report import PrecisionResult, Report
from qfund.ui import cards
from qfund.ui.states import literal
from qfund.units import bytes_text


def headline(report: Report) -> None:
    st.subheader(literal(words.title(report)), anchor=False, width="content")


def draw(report: Report) -> None:
    for alarm in words.reference_alarms(report):
        st.error(f"**The reference itself is not sound.** {alarm}", icon=":material/warning:")
    columns = 2 if len(report.results) in (1, 2, 4) else 3
    with st.grid(columns, min_column_width=300):
        for found in words.verdicts(report):
            with st.container(border=True, gap="small", height="stretch"):
                _card(report, found)
    st.caption(literal(" ".join((f"{words.provenance(report)}.", *words.notes(report)))))


def _card(report: Report, found: words.Verdict) -> None:
    result = next(row for row in report.results if row.precision == found.precision)
    cards.title(found.precision)
    with st.grid(3, min_column_width=88, gap="small"):
        for name, value, help_text in _numbers(report, result):
            st.metric(name, value, help=help_text)
    for alarm in found.alarms:
        st.error(alarm, icon=":material/warning:")
    st.markdown(literal(found.body))
    st.caption(literal(words.arithmetic(result)))


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
