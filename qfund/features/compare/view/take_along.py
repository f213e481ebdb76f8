"""*Take it with you*, beside the link: the report as a page, as pictures, for a model card, and its numbers."""

from collections.abc import Callable

import streamlit as st

from qfund.core.feature import lazily
from qfund.features.compare import link
from qfund.features.compare.document.pictures import Picture, pictures_of
from qfund.features.compare.request.decision import Margin
from qfund.features.compare.request.report import Report, to_json
from qfund.features.compare.tables.export import export_csv, tensors_csv
from qfund.ui.downloads import download
from qfund.ui.services import Answer

_WIDTH = 480  # pixels


def draw(found: Answer) -> None:
    """A button that opens them; nothing is made before somebody asks for it."""
    menu = st.popover(
        "Take it with you", icon=":material/download:", key="take_along", width="content", on_change="rerun"
    )
    if not menu.open:
        return
    with menu:
        st.caption("The page opens anywhere, offline too, and names the link. The JSON opens again on the page Saved.")
        with st.container(horizontal=True, width=_WIDTH):
            _documents(found)
        st.markdown("**Pictures**")
        _pictures(found)


def _documents(found: Answer) -> None:
    report: Report = found.result
    shown = link.shown_margin(), link.complete(report.spec)
    files: tuple[tuple[str, Callable[[], bytes], str, str, str], ...] = (
        ("Page (HTML)", lambda: _document("page:page", report, *shown), "html", "text/html", "article"),
        ("Model card (Markdown)", lambda: _document("card:card", report, *shown), "md", "text/markdown", "id_card"),
        ("Report (JSON)", lambda: to_json(report), "json", "application/json", "data_object"),
        ("Numbers (CSV)", lambda: export_csv(report), "csv", "text/csv", "table"),
        ("Tensors (CSV)", lambda: tensors_csv(report), "tensors.csv", "text/csv", "list"),
    )
    for label, make, ending, mime, icon in files:
        download(label, make, f"{_name(found)}.{ending}", mime, icon, ending)


def _pictures(found: Answer) -> None:
    for picture in pictures_of(found.result, link.shown_margin()):
        name = f"{_name(found)}-{picture.name}"
        with st.container(horizontal=True, vertical_alignment="center", width=_WIDTH):
            st.markdown(picture.title, width="stretch")
            download("SVG", picture.drawing.file, f"{name}.svg", "image/svg+xml", "draw", f"{picture.name}_svg")
            download("PNG", _png(picture), f"{name}.png", "image/png", "image", f"{picture.name}_png")


def _png(picture: Picture) -> Callable[[], bytes]:
    def make() -> bytes:
        drawn: bytes = lazily("qfund.features.compare.document.png:png")(picture.drawing)
        return drawn

    return make


def _document(make: str, report: Report, margin: Margin, address: str) -> bytes:
    found: Callable[[Report, Margin, str], bytes] = lazily(f"qfund.features.compare.document.{make}")
    return found(report, margin, address)


def _name(found: Answer) -> str:
    return f"qfund-{found.key[:8]}"
