"""The page Precisions without a browser."""

import pytest

from qfund.engine import shipped as engine_shipped
from qfund.features.compare.request import examples
from qfund.precisions.table import PRECISIONS
from tests.features.compare.pages import texts
from tests.features.compare.reports import make_report
from tests.ui.pages import Open

PRECISIONS_PAGE = "pages/precisions.py"


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch, shipped: None) -> None:
    """After ``shipped``, which ``opened`` needs and which would undo it."""
    monkeypatch.setattr(engine_shipped, "find", lambda spec, key, whole=True: None if whole else make_report(spec))


@pytest.mark.usefixtures("measured")
def test_the_page_of_precisions_has_every_row(opened: Open) -> None:
    at = opened(page=PRECISIONS_PAGE)
    at.segmented_control(key="base").set_value("Either").run()
    formats, measured = (frame.value for frame in at.dataframe)
    assert list(formats["name"]) == list(PRECISIONS)
    assert formats.set_index("name").loc["tf32", "here"] == "no: needs a CUDA GPU"
    assert "TF32 needs an NVIDIA GPU" in texts(at), "the whole reason"
    assert formats.set_index("name").loc["int4", "sqnr"] == PRECISIONS["int4"].sqnr_floor
    assert list(measured["Stored (B)"]) == [
        row.footprint_bytes for row in make_report(examples.EVERY_PRECISION).results
    ]
    assert list(measured.columns)[:3] == ["Precision", "KL", "Perplexity ×"], "what a narrow screen shows"
    assert len(measured) == len(examples.EVERY_PRECISION.precisions)
    assert len(at.get("plotly_chart")) == 1
    assert "23 November 2026" in texts(at), "what was measured says when and on what"
    assert at.button(key="compare_these").disabled


@pytest.mark.usefixtures("measured")
def test_precisions_are_filtered_by_family_and_base(opened: Open) -> None:
    at = opened(page=PRECISIONS_PAGE)
    assert {"tf32", "bf16", "int4", "stored"} <= set(at.dataframe[0].value["name"])
    assert not [name for name in at.dataframe[0].value["name"] if name.endswith("_bf16")]
    at.pills(key="family").set_value(["codebook"])
    at.segmented_control(key="base").set_value("BF16").run()
    assert list(at.dataframe[0].value["name"]) == ["nf4_bf16", "fp4_bf16"]
    assert list(at.dataframe[1].value["Precision"]) == ["NF4 (rest BF16)", "FP4 (rest BF16)"]
    assert not at.exception


def test_precisions_that_were_not_measured_invite(opened: Open) -> None:
    at = opened(page=PRECISIONS_PAGE)
    assert "Not measured yet" in texts(at)
    assert len(at.dataframe) == 1 and not at.get("plotly_chart")
