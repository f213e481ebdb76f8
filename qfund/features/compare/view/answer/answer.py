"""The top of a report: what to run, in a sentence; the pictures; all candidates in the order in which to try them."""

from collections.abc import Mapping, Sequence

import streamlit as st

from qfund.core.errors import QfundError
from qfund.drawing import phrases
from qfund.features.compare import link
from qfund.features.compare.request import duration
from qfund.features.compare.request.decision import Decision, Margin, decide
from qfund.features.compare.request.hardware import Hardware
from qfund.features.compare.request.ranking import Ranked, chosen, hopeful, ranked
from qfund.features.compare.request.report import PrecisionResult, Report
from qfund.features.compare.request.spec import Spec
from qfund.features.compare.view import amount, interval_strips, margin
from qfund.features.compare.view.answer import hardware, pictures, ranking, speeds, together, use_it
from qfund.features.compare.view.answer.hardware import Room
from qfund.features.compare.view.damage import memory_against_damage
from qfund.features.compare.words import answer as words
from qfund.features.compare.words import candidates, rounds
from qfund.features.compare.words import report as about
from qfund.features.memory import link as memory
from qfund.ui import services, shell
from qfund.ui.drawn import once
from qfund.ui.services import Answer
from qfund.ui.states import failed, literal


def draw(found: Answer) -> None:
    report: Report = found.result
    for alarm in candidates.reference_alarms(report):
        st.error(f"**The reference itself is not sound.** {literal(alarm)}", icon=":material/warning:")
    _judged(found)
    sentences = (f"{about.provenance(report)}.", *about.notes(report), about.whole_phrase(report))
    st.caption(literal(" ".join(filter(None, sentences))))


@st.fragment
def _judged(found: Answer) -> None:
    """A fragment: another margin, or another place to run, draws only this anew."""
    report: Report = found.result
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small", key="conditions"):
        place = hardware.draw()
        chosen_margin = margin.draw(report) if _judgeable(report) else link.shown_margin()
    link.rewrite()
    room = hardware.room(report, place)
    decisions = once(found, f"decisions {chosen_margin}", lambda whole: decide(whole, chosen_margin))
    known = f"{chosen_margin} {place} {room.workload} {room.note}"  # all that the order and the words depend on
    rows = once(found, f"ranked {known}", lambda whole: ranked(whole, decisions, room.rows))
    best = chosen(rows, report.reference)
    st.html(interval_strips.LOOKS)
    once(found, f"sentence {known}", lambda whole: _sentence(whole, rows, place, room))
    _beside(report, best or hopeful(rows), room)
    _decide(found, decisions, chosen_margin)
    pictures.draw(found, rows)
    _candidates(found, rows, decisions, room, known)
    speeds.draw(report)
    together.draw(report, room)
    left, right = st.columns(2, gap="medium")
    with left:
        memory_against_damage(found, best.result.precision if best else None)
    with right:
        use_it.draw(report, rows)


def _sentence(report: Report, rows: Sequence[Ranked], place: Hardware, room: Room) -> None:
    best, reference = chosen(rows, report.reference), room.rows.get(report.reference.precision)
    said = literal(phrases.unbroken(words.sentence(report, rows, place, reference)))
    if best is not None:
        st.success(f"**{said}**", icon=":material/check_circle:")
    elif any(row.decision.state == "inconclusive" for row in rows):
        st.warning(f"**{said}**", icon=":material/hourglass_empty:")
    else:
        st.info(f"**{said}**", icon=":material/info:")


def _judgeable(report: Report) -> bool:
    return any(name in result.fidelity for name in margin.METRIC.values() for result in report.results)


def _beside(report: Report, named: Ranked | None, room: Room) -> None:
    """What the sentence has no room for, of the candidate that it names."""
    if room.problem is not None:
        failed(room.problem, "Whether it fits is not known.")
    said = candidates.body(report, named.result) if named else ""
    left, right = st.columns([5, 1], gap="small", vertical_alignment="center")
    left.caption(literal(said or room.note))
    with right:
        st.page_link(
            shell.page("memory"),
            label="Part by part",
            icon=":material/memory:",
            query_params=memory.to_query(room.asked),
        )
    if room.waiting is not None:
        hardware.follow(room.waiting)


def _decide(found: Answer, decisions: Sequence[Decision], chosen_margin: Margin) -> None:
    """A button that reads as much more as would decide what is not decided."""
    report: Report = found.result
    if report.spec.max_tokens > report.input.tokens and report.planned is None:  # all of the text was read
        return
    more = duration.more(report, decisions, chosen_margin, amount.costs())
    if more is None:
        return
    if st.button(rounds.more(more), icon=":material/add_chart:", key="decide"):
        try:
            _start(more.spec)
        except QfundError as error:
            failed(error)


def _start(spec: Spec) -> None:
    if services.look_up(spec).result is None:
        services.jobs().submit(spec)
    link.show(spec)
    st.rerun()


def _candidates(found: Answer, rows: Sequence[Ranked], decisions: Sequence[Decision], room: Room, known: str) -> None:
    timed = speeds.known(found.result)
    verdicts = once(
        found, f"candidates {known} {timed}", lambda report: _in_a_table(report, rows, decisions, room, timed)
    )
    told = st.expander("Each of them in words", icon=":material/notes:", key="in_words", on_change="rerun")
    if told.open:
        with told:
            st.markdown("\n".join(_told(row.decision, verdicts[row.result.precision], row.result) for row in rows))


def _in_a_table(
    report: Report, rows: Sequence[Ranked], decisions: Sequence[Decision], room: Room, timed: Mapping[str, str]
) -> dict[str, candidates.Verdict]:
    """All of them, and what is said of each."""
    st.html(ranking.table(report, rows, room.rows.get(report.reference.precision), timed))
    st.html(interval_strips.key(any(f.floor is not None for d in decisions for f in d.findings), len(decisions)))
    if room.rows:
        st.caption(literal(room.note))
    verdicts = {told.precision: told for told in candidates.verdicts(report)}
    if alarms := [alarm for each in verdicts.values() for alarm in each.alarms]:
        st.error("\n\n".join(map(literal, alarms)), icon=":material/warning:")
    if cautions := [caution for each in verdicts.values() for caution in each.cautions]:
        st.caption("\n\n".join(f":material/info: {literal(caution)}" for caution in cautions))
    return verdicts


def _told(decision: Decision, told: candidates.Verdict, result: PrecisionResult) -> str:
    """A verdict and what else is worth knowing, as a line of a list."""
    more = " ".join((candidates.arithmetic(result), *candidates.asides(result)))
    said = f"- **{literal(told.label)}** {literal(told.body)} {literal(phrases.unbroken(decision.sentence))}"
    return said + (f" :gray[{literal(more)}]" if more.strip() else "")
