"""The text as a heat map of tokens: a component that draws once and answers every click in the browser."""

from functools import cache
from pathlib import Path

import msgspec
import streamlit as st
from streamlit.components.v2.types import ComponentRenderer

from qfund.figures import precision_colour
from qfund.report import Alternatives, Report
from qfund.tables import label

_FOLDER = Path(__file__).parent


def payload(report: Report, key: str) -> bytes:
    """What the browser needs to draw ``report.tokens``, as JSON."""
    tokens = report.tokens
    assert tokens is not None
    reference = report.reference.precision
    return msgspec.json.encode(
        {
            "id": key,
            "pieces": tokens.pieces,
            "starts": tokens.chunk_starts,
            "next": tokens.predicts_next,
            "total": tokens.total,
            "vocabulary": tokens.vocabulary,
            "broken": report.reference.nonfinite_positions > 0,
            "reference": {**_named(reference), **_alternatives(tokens.reference)},
            "candidates": [
                {
                    **_named(name),
                    **_alternatives(candidate.alternatives),
                    "kl": candidate.kl,
                    "diff": candidate.mean_abs,
                    "same": candidate.same_top1,
                }
                for name, candidate in tokens.candidates.items()
            ],
        }
    )


def _named(precision: str) -> dict[str, object]:
    return {"label": label(precision), "colour": precision_colour(precision)}


def _alternatives(found: Alternatives) -> dict[str, object]:
    return {"t": found.tokens, "p": found.probabilities}


@cache
def _component() -> ComponentRenderer:
    html, css, js = ((_FOLDER / f"token_map.{kind}").read_text("utf-8") for kind in ("html", "css", "js"))
    return st.components.v2.component("qfund_token_map", html=html, css=css, js=js)


def token_map(data: bytes, key: str) -> None:
    """Draw what ``payload`` made."""
    _component()(data=data, key=key)
