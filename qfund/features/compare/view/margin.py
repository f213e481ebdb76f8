"""What a visitor would put up with: a margin for each metric, chosen in widgets and kept in the address.

It is no part of the comparison: changing it measures nothing anew.
"""

from collections.abc import Mapping
from dataclasses import replace

import streamlit as st

from qfund.features.compare.request.report import Report
from qfund.features.compare.request.verdict import Margin
from qfund.ui.parameters import number

_MARGIN = "margin"  # Margin

_BEGAN_AT = "margin_began_at"  # the margin that the widgets began at

#: Link parameter → field of ``Margin``, how often it stands there for 1, the largest and the widget's step.
_FIELDS = {
    "ppl": ("perplexity", 100.0, 100.0, 0.1),
    "changed": ("tokens", 100.0, 100.0, 0.5),
    "kl": ("kl", 1.0, 100.0, 0.001),
}

NAMES = frozenset(_FIELDS)

#: The metric that each is a margin of.
METRIC = {"ppl": "perplexity_ratio", "changed": "top1_agreement", "kl": "kl_mean"}


def current() -> Margin:
    found: Margin = st.session_state.get(_MARGIN, Margin())
    return found


def show(margin: Margin) -> None:
    st.session_state[_MARGIN] = margin


def to_query(margin: Margin, complete: bool = False) -> dict[str, list[str]]:
    """Link parameters: of what is not the default, or of everything. An empty one asks for nothing."""
    usual, query = Margin(), {}
    for name, (field, times, _, _) in _FIELDS.items():
        value = getattr(margin, field)
        if complete or value != getattr(usual, field):
            query[name] = ["" if value is None else f"{times * value:.6g}"]
    return query


def from_query(query: Mapping[str, list[str]]) -> tuple[Margin, list[str]]:
    """The margin that a link names, and a sentence for each part of it that had to be ignored."""
    margin, problems = Margin(), []
    for name, (field, times, most, _) in _FIELDS.items():
        if name not in query:
            continue
        value = (query[name] or [""])[-1]
        found = number(value[:40], 0, most)
        if value and found is None:
            problems.append(f"Ignored {name}={value[:40]!r} in the link: no number from 0 to {most:.0f}.")
        else:
            margin = replace(margin, **{field: None if found is None else found / times})
    return margin, problems


def draw(report: Report) -> Margin:
    """The widgets for what this report has measured; the margin that is chosen."""
    state, margin = st.session_state, current()
    if state.get(_BEGAN_AT) != margin:
        for name, (field, times, _, _) in _FIELDS.items():
            value = getattr(margin, field)
            state[f"margin_{name}"] = None if value is None else round(times * value, 6)
        state[_BEGAN_AT] = margin
    labels = report.tokens is None and not any("perplexity_ratio" in row.fidelity for row in report.results)
    titles = {
        "ppl": ("Perplexity, at most … % worse", "%.4g", "Of a candidate, beside the reference's. Empty: any."),
        "changed": (
            f"Top {'class' if labels else 'token'} changed, at most …%",
            "%.4g",
            "How often its most likely output is another one than the reference's. Empty: any.",
        ),
        "kl": (
            "KL divergence, at most … nat",
            "%.4g",
            "Of the whole distribution, in the mean. Empty: any.",
        ),
    }
    asked = [name for name in _FIELDS if any(METRIC[name] in result.fidelity for result in report.results)]
    for name in asked:
        field, times, most, step = _FIELDS[name]
        title, form, help_text = titles[name]
        value = st.number_input(
            title,
            min_value=0.0,
            max_value=most,
            value=None,
            step=step,
            format=form,
            key=f"margin_{name}",
            help=help_text,
            placeholder="any",
            width=232,
            persist_state="session",
        )
        margin = replace(margin, **{field: None if value is None else value / times})
    state[_BEGAN_AT] = margin
    show(margin)
    return margin
