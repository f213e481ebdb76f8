"""The page Guide without a browser."""

from qfund.core.metrics.table import METRICS
from qfund.precisions.precision import FAMILIES, FILE, STORED
from tests.features.compare.pages import texts
from tests.ui.pages import Open


def test_the_guide_explains_every_family_and_every_metric(opened: Open) -> None:
    at = opened(page="pages/guide.py")
    shown = texts(at) + "\n".join(str(html.value) for html in at.html)
    for family, meaning in FAMILIES.items():
        assert family in (STORED, FILE) or (family.capitalize() in shown and meaning in shown)
    for metric in METRICS.values():
        assert metric.definition in shown and metric.label in shown
