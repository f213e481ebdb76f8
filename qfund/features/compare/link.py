"""The address bar holds the complete link of the comparison that is shown; a link that is opened says what to show."""

import hashlib
from dataclasses import dataclass, replace
from urllib.parse import urlencode

import streamlit as st

from qfund.checkpoints import catalog
from qfund.core import parameters
from qfund.core.errors import QfundError
from qfund.core.parameters import Query
from qfund.features.compare.request import hardware, usual
from qfund.features.compare.request.decision import Margin
from qfund.features.compare.request.examples import EXAMPLE
from qfund.features.compare.request.hardware import Hardware
from qfund.features.compare.request.invariants import consistent
from qfund.features.compare.request.link import (
    MARGIN_NAMES,
    from_query,
    margin_from_query,
    margin_to_query,
    to_query,
)
from qfund.features.compare.request.report import Report
from qfund.features.compare.request.report import opened as opened_report
from qfund.features.compare.request.spec import Spec, checked
from qfund.features.memory.request.plan import PlanRequest
from qfund.precisions.table import PRECISIONS
from qfund.ui import carried, services
from qfund.ui.address import base, current_query, names_a_folder

MAX_TEXT = 4000  # characters of an own text that this page takes; the command line takes longer ones

LONGEST = 8000  # characters of an encoded link: browsers, servers and messengers cut longer ones
_SHOWN = "shown"  # Spec
_QUERY = "query"  # the query parameters that ``_SHOWN`` was read from or written to
_PROBLEMS = "link_problems"

_MARGIN = "margin"  # Margin
_HARDWARE = "hardware"  # Hardware
_GIVEN = "given_report"  # Given
_SECTION = "section_shown"  # name of the section that is open

#: Names of a report's sections as they stand in an address, and their titles; the first needs no naming.
SECTIONS = {
    "fidelity": "Fidelity",
    "tokens": "Token by token",
    "statistics": "Statistics",
    "memory": "Memory",
    "libraries": "Libraries",
    "files": "Files",
    "data": "Data",
}


@dataclass(frozen=True, slots=True)
class Given:
    """A report from a file: the file's name, and the ``key`` of its content in place of its request's."""

    name: str
    key: str
    report: Report


def opened() -> tuple[Spec, list[str]]:
    """The comparison to show, and what had to be ignored in the link that asked for it.

    Whatever the link leaves out is filled in, and the address bar then holds all of it.
    """
    state = st.session_state
    query = current_query()
    if _SHOWN in state and query in ({}, state[_QUERY]):
        # Nothing new; a visitor who comes back from another page (which has no parameters) finds what was there, with
        # what they have chosen since.
        if not query:
            state[_SHOWN] = _adopted(state[_SHOWN])
        _write(state[_SHOWN])
        return state[_SHOWN], state[_PROBLEMS]
    # The margin by which candidates are judged and where the model shall run stand in the link too, and are no part of
    # the comparison.
    asked = {name: values for name, values in query.items() if name not in MARGIN_NAMES | hardware.NAMES | {"section"}}
    spec, problems = from_query(asked, _default(asked)) if asked else (EXAMPLE, [])
    chosen, ignored = margin_from_query(query)
    show_margin(chosen)
    place, elsewhere = hardware.from_query(query)
    show_hardware(place)
    problems += ignored + elsewhere
    section = parameters.last(query.get("section", [])) or next(iter(SECTIONS))
    if section not in SECTIONS:
        problems.append(f"Ignored section={section[:40]!r} in the link. Available: {', '.join(SECTIONS)}.")
    show_section(section)
    if "section" in query:
        st.session_state.pop("section", None)  # the tabs open at what the link says
    if spec.text is not None and len(spec.text) > MAX_TEXT:
        problems.append(
            f"Ignored text in the link: it has {len(spec.text):,} characters; this page takes {MAX_TEXT:,}."
        )
        spec = replace(spec, text=None)
    spec = spec if query else _adopted(spec)
    show(spec, problems)
    return spec, problems


def _adopted(spec: Spec) -> Spec:
    """With the model and the precisions that were chosen on another page, where that can be compared."""
    try:
        found = carried.adopted(spec)
        return checked(replace(found, precisions=tuple(p for p in found.precisions if p != found.reference)))
    except QfundError:
        return spec


def _default(query: Query) -> Spec:
    """What a link is about that leaves precisions out: those that its model is usually compared in."""
    named = {name: parameters.last(query.get(name, [])) for name in ("model", "rev", "ref")}
    if not named["model"] or ("p" in query and named["ref"]):
        return EXAMPLE
    reference = named["ref"] if named["ref"] in PRECISIONS else usual_reference(named["model"], named["rev"] or None)
    return replace(EXAMPLE, reference=reference, precisions=usual.candidates(reference))


def usual_reference(model: str, revision: str | None) -> str:
    """As ``usual.reference``; of a model on the Hub, whose headers a worker reads, after a while at most."""
    try:
        if catalog.locate(model, revision).folder is None:
            return usual.of_headers(services.waited(PlanRequest(model, revision=revision)))
    except QfundError:
        return EXAMPLE.reference
    return usual.reference(model, revision)


def show(spec: Spec, problems: list[str] | None = None) -> None:
    """Make this the comparison that the address bar names."""
    st.session_state[_SHOWN] = spec
    st.session_state[_PROBLEMS] = problems or []
    carried.remember(spec, EXAMPLE)
    _write(spec)


def to_open(spec: Spec) -> dict[str, list[str]]:
    """Query parameters for the Compare page; also remembers a comparison that no link can hold."""
    if fits(spec):
        return to_query(spec) | _beside()
    st.session_state[_SHOWN], st.session_state[_QUERY], st.session_state[_PROBLEMS] = spec, {}, []
    return {}


def give(name: str, document: bytes) -> Spec:
    """Make a report from a file what this session sees of its comparison, until it is put away. It is not kept.

    Raises:
        QfundError: it is no report, not of this version, or contradicts itself.
    """
    report = opened_report(document)
    consistent(report)
    spec = checked(report.spec)
    st.session_state[_GIVEN] = Given(name, hashlib.sha256(document).hexdigest()[:32], replace(report, spec=spec))
    return spec


def given(spec: Spec) -> Given | None:
    """The report of this comparison that somebody has opened from a file."""
    found: Given | None = st.session_state.get(_GIVEN)
    return found if found is not None and found.report.spec == spec else None


def put_away() -> None:
    st.session_state.pop(_GIVEN, None)


def draw(spec: Spec) -> None:
    """The complete link, with a button that copies it, or why there is none to send."""
    if not fits(spec):
        st.caption("The text is too long for a link: send the page or the JSON of Take it with you instead.")
        return
    if names_a_folder(spec.model):
        st.caption(
            "This link names a folder on this machine and opens only here. To send the comparison, send the page or "
            "the JSON of Take it with you instead."
        )
    else:
        st.caption("Opens exactly this comparison, with every choice written out.")
    st.code(address(spec), language=None, wrap_lines=True)


def address(spec: Spec) -> str:
    """The complete link of a comparison, to be sent to somebody."""
    return f"{base()}/?{_encoded(spec)}&{urlencode(_beside(complete=True), doseq=True)}"


def complete(spec: Spec) -> str:
    """The same where there is one that opens elsewhere too; otherwise nothing."""
    return address(spec) if fits(spec) and not names_a_folder(spec.model) else ""


def fits(spec: Spec) -> bool:
    """Whether a link can hold it: not with texts that are too long for this page, or for what carries links."""
    if spec.text is None and not spec.texts:
        return True
    size = len(spec.text or "") + sum(len(named.name) + len(named.text) for named in spec.texts)
    return size <= MAX_TEXT and len(_encoded(spec)) <= LONGEST


def shown_margin() -> Margin:
    found: Margin = st.session_state.get(_MARGIN, Margin())
    return found


def show_margin(margin: Margin) -> None:
    st.session_state[_MARGIN] = margin


def shown_hardware() -> Hardware:
    found: Hardware = st.session_state.get(_HARDWARE, Hardware())
    return found


def show_hardware(place: Hardware) -> None:
    st.session_state[_HARDWARE] = place


def shown_section() -> str:
    found: str = st.session_state.get(_SECTION, next(iter(SECTIONS)))
    return found


def show_section(name: str) -> None:
    st.session_state[_SECTION] = name if name in SECTIONS else next(iter(SECTIONS))


def _beside(complete: bool = False) -> dict[str, list[str]]:
    """What a link holds beside the comparison."""
    section = {"section": [shown_section()]} if shown_section() != next(iter(SECTIONS)) else {}
    return margin_to_query(shown_margin(), complete) | hardware.to_query(shown_hardware(), complete) | section


def rewrite() -> None:
    """The margin, the hardware or the section has changed: the address bar shall say so."""
    if _SHOWN in st.session_state:
        _write(st.session_state[_SHOWN])


def _write(spec: Spec) -> None:
    query = (to_query(spec) if fits(spec) else {}) | _beside()
    if current_query() != query:
        st.query_params.from_dict(query)
    # As they read back: an empty list of values does not come back.
    st.session_state[_QUERY] = current_query()


def _encoded(spec: Spec) -> str:
    return urlencode(to_query(spec), doseq=True)
