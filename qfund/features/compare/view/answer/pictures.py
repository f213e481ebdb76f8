"""The three pictures that the app exists for, side by side: footprint, dtypes, and how far the logits move.

They are drawings, the same that can be taken along: the first view waits for no code that draws charts.
"""

from collections.abc import Sequence
from pathlib import Path

import streamlit as st

from qfund.drawing.numbers import value_text
from qfund.features.compare.document import pictures
from qfund.features.compare.document.pictures import Picture
from qfund.features.compare.request.ranking import Ranked
from qfund.features.compare.request.report import Report
from qfund.features.compare.tables.damage import compared_quantity
from qfund.features.compare.view.interval_strips import name
from qfund.ui.components import component
from qfund.ui.drawn import once
from qfund.ui.services import Answer

_ASSETS = Path(__file__).parent.parent / "assets"
_WIDE = 372  # pixels: three stand beside each other


def draw(found: Answer, rows: Sequence[Ranked]) -> None:
    """Of many candidates the first of the ranking."""
    shown = pictures.first(found.result, rows)
    names = " ".join(result.precision for result in shown.results)
    once(found, f"pictures {names}", lambda report: _draw(shown, len(report.results)))


def _draw(shown: Report, candidates: int) -> None:
    drawn = pictures.memory(shown, _WIDE), pictures.dtypes(shown, _WIDE), pictures.differences(shown, _WIDE)
    with st.container(key="pictures"):
        for column, picture in zip(st.columns(3, gap="medium"), drawn, strict=True):
            with column:
                if picture is None:
                    st.markdown(f"**Distribution of {compared_quantity(shown)}s**")
                    st.caption("Every output is exactly equal to the reference's.")
                    continue
                st.markdown(f"**{picture.title}**")
                if picture.name == "differences":
                    st.html(_means(shown))
                draw_one(picture)
    if len(shown.results) < candidates:
        st.caption(f"Pictures of the first {len(shown.results)} of {candidates} candidates of the table.")


def draw_one(picture: Picture) -> None:
    component(_ASSETS, "picture")(data=picture.drawing.inline(), key=f"picture_{picture.name}")


def _means(shown: Report) -> str:
    """The lesson's two numbers of each candidate: the mean and the largest difference."""
    hidden = any("mean_abs_hidden_diff" in result.fidelity for result in shown.results)
    metrics = [f"{which}_abs_{'hidden' if hidden else 'logit'}_diff" for which in ("mean", "max")]
    rows = "".join(
        f"<tr><th scope=row>{name(result.precision)}</th>"
        + "".join(
            f"<td>{value_text(result.fidelity[metric].value, '') if metric in result.fidelity else '–'}</td>"
            for metric in metrics
        )
        + "</tr>"
        for result in shown.results
    )
    return (
        '<table class="qf-means"><thead><tr><td></td><th scope=col>mean</th><th scope=col>largest</th></tr></thead>'
        f"<tbody>{rows}</tbody></table>"
    )
