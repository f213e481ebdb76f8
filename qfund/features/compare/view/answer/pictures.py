"""The three pictures that the app exists for, side by side: footprint, dtypes, and how far the logits move.

They are drawings, the same that can be taken along: the first view waits for no code that draws charts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
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
_THREE = pictures.memory, pictures.dtypes, pictures.differences


def draw(found: Answer, rows: Sequence[Ranked]) -> None:
    """Of many candidates the first of the ranking."""
    shown = pictures.first(found.result, rows)
    names = " ".join(result.precision for result in shown.results)
    drawn = once(found, f"pictures {names}", lambda _: [Drawn.of(make(shown, _WIDE)) for make in _THREE])
    with st.container(key="pictures"):
        for column, picture in zip(st.columns(3, gap="medium"), drawn, strict=True):
            with column:
                if picture is None:
                    st.markdown(f"**Distribution of {compared_quantity(shown)}s**")
                    st.caption("Every output is exactly equal to the reference's.")
                    continue
                st.markdown(f"**{picture.title}**")
                if picture.name == "differences":
                    once(found, f"means {names}", lambda _: st.html(_means(shown)))
                draw_one(picture)
    if len(shown.results) < len(rows):
        st.caption(f"Pictures of the first {len(shown.results)} of {len(rows)} candidates of the table.")


@dataclass(frozen=True, slots=True)
class Drawn:
    """A picture as a page takes it."""

    name: str
    title: str
    svg: str

    @classmethod
    def of(cls, picture: Picture | None) -> "Drawn | None":
        return None if picture is None else cls(picture.name, picture.title, picture.drawing.inline())


def draw_one(picture: Drawn) -> None:
    component(_ASSETS, "picture")(data=picture.svg, key=f"picture_{picture.name}")


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
