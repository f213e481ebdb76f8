"""The top of a report: whether each candidate stays within what the visitor would put up with, in a sentence and drawn,
and what all of it was measured on."""

from collections import Counter
from dataclasses import replace

import streamlit as st

from qfund.core.units import bytes_text
from qfund.drawing import phrases
from qfund.features.compare import link
from qfund.features.compare.request.decision import Decision, decide
from qfund.features.compare.request.report import PrecisionResult, Report
from qfund.features.compare.tables.metrics import overview
from qfund.features.compare.view import interval_strips, margin
from qfund.features.compare.words import candidates
from qfund.features.compare.words import report as words
from qfund.ui import columns
from qfund.ui.drawn import once
from qfund.ui.services import Answer
from qfund.ui.states import literal


def headline(report: Report) -> None:
    st.subheader(literal(words.title(report)), anchor=False, width="content")


def draw(found: Answer) -> None:
    report: Report = found.result
    for alarm in candidates.reference_alarms(report):
        st.error(f"**The reference itself is not sound.** {literal(alarm)}", icon=":material/warning:")
    _judged(found)
    sentences = (f"{words.provenance(report)}.", *words.notes(report), words.whole_phrase(report))
    st.caption(literal(" ".join(filter(None, sentences))))


@st.fragment
def _judged(found: Answer) -> None:
    """A fragment: another margin draws only this anew."""
    report: Report = found.result
    if any(name in result.fidelity for name in margin.METRIC.values() for result in report.results):
        with st.container(horizontal=True, vertical_alignment="bottom", gap="medium", key="margin"):
            chosen = margin.draw(report)
        link.rewrite()
    else:
        chosen = link.shown_margin()
    st.html(interval_strips.LOOKS)
    decisions = once(found, f"decisions {chosen}", lambda whole: decide(whole, chosen))
    if len(decisions) <= phrases.FEW:
        _few(report, decisions)
    else:
        _many(found, decisions)


def _few(report: Report, decisions: tuple[Decision, ...]) -> None:
    """One after the other: what is decided, how sure that is, and what it is worth in memory."""
    on = interval_strips.axes(decisions)
    for decision, result, told in zip(decisions, report.results, candidates.verdicts(report), strict=True):
        with st.container(border=True, gap="small", key=f"judged_{result.precision}"):
            left, right = st.columns([9, 11], gap="large", vertical_alignment="center")
            with left:
                st.html(interval_strips.head(decision))
                st.markdown(literal(phrases.unbroken(decision.sentence)))
            with right:
                if decision.findings:
                    st.html(interval_strips.strips(decision, on))
            for alarm in told.alarms:
                st.error(literal(alarm), icon=":material/warning:")
            # What was decided says more of the outputs than these words could, where anything was.
            body = replace(told, outputs=()).body if decision.findings else told.body
            st.caption(literal(" ".join(filter(None, (body, candidates.arithmetic(result), result.note)))))
            for caution in told.cautions:
                st.caption(f":material/info: {literal(caution)}")
    if on:
        st.html(interval_strips.key(any(f.floor is not None for d in decisions for f in d.findings), len(decisions)))


def _many(found: Answer, decisions: tuple[Decision, ...]) -> None:
    """One row each, and whatever is wrong with any of them below."""
    report: Report = found.result
    st.markdown(literal(_counted(report, decisions)))
    whole = report.reference.footprint_bytes
    memory = {row.precision: _share(row.footprint_bytes, whole) for row in report.results}
    st.html(interval_strips.board(decisions, memory))
    st.html(interval_strips.key(any(f.floor is not None for d in decisions for f in d.findings), len(decisions)))
    verdicts = candidates.verdicts(report)
    if alarms := [alarm for each in verdicts for alarm in each.alarms]:
        st.error("\n\n".join(map(literal, alarms)), icon=":material/warning:")
    if cautions := [caution for each in verdicts for caution in each.cautions]:
        st.caption("\n\n".join(f":material/info: {literal(caution)}" for caution in cautions))
    numbers = st.expander("Their numbers as a table", icon=":material/table_rows:", key="numbers", on_change="rerun")
    if numbers.open:
        with numbers:
            st.dataframe(
                once(found, "overview", overview),
                hide_index=True,
                column_config=columns.OVERVIEW,
                height=columns.height(len(report.results)),
                placeholder="–",
                key="overview",
                alt="Every candidate with its memory, bits per weight and distance from the reference; can be sorted",
            )
    told = st.expander("Each of them in words", icon=":material/notes:", key="in_words", on_change="rerun")
    if told.open:
        with told:
            st.markdown("\n".join(map(_told, decisions, verdicts, report.results)))


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.0f} %" if whole else bytes_text(part)


def _counted(report: Report, decisions: tuple[Decision, ...]) -> str:
    """How many stand where, and the smallest that can be taken."""
    counts = Counter(decision.state for decision in decisions)
    told = [f"{counts[state]} {named[1]}" for state, named in interval_strips.STATES.items() if counts[state]]
    good = {decision.precision for decision in decisions if decision.state in ("indistinguishable", "within")}
    smallest = min(
        (row for row in report.results if row.precision in good), key=lambda row: row.footprint_bytes, default=None
    )
    said = f"Of {len(decisions)} candidates: {', '.join(told)}."
    if smallest is None:
        return f"{said} None is within your margin."
    memory = candidates.memory_phrase(smallest, report.reference)
    return f"{said} The smallest within your margin is {phrases.label(smallest.precision)}: {memory}."


def _told(decision: Decision, told: candidates.Verdict, result: PrecisionResult) -> str:
    """A verdict and what else is worth knowing, as a line of a list."""
    more = " ".join(candidates.asides(result))
    said = f"- **{literal(told.label)}** {literal(told.body)} {literal(phrases.unbroken(decision.sentence))}"
    return said + (f" :gray[{literal(more)}]" if more else "")
