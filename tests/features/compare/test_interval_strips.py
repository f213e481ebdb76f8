"""Intervals drawn as HTML: where things stand, what lies beyond, and that the state can be read without its colour."""

import re
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from qfund.core.estimate import Estimate
from qfund.drawing.palette import CACHE, LIT, precision_color
from qfund.features.compare.request import decision as decision_request
from qfund.features.compare.request.decision import Finding, Margin
from qfund.features.compare.request.ranking import ranked
from qfund.features.compare.request.spec import Spec
from qfund.features.compare.view import interval_strips
from qfund.features.compare.view.answer import ranking
from qfund.precisions.table import PRECISIONS
from tests.features.compare.reports import full_report


def finding(low: float, value: float, high: float, margin: float = 0.01, floor: float | None = None) -> Finding:
    return Finding("perplexity_ratio", Estimate(value, 0.1, 99, "share", low, high, 9), margin, floor, "within")


def placed(html: str, mark: str) -> float:
    found = re.search(rf'class="{mark}" style="left:([\d.]+)%', html)
    assert found is not None, mark
    return float(found[1])


def test_everything_stands_where_it_is() -> None:
    one = finding(-0.001, 0.002, 0.005, floor=0.001)
    axis = interval_strips.axis([one], signed=True)
    assert (axis.low, axis.high) == (-0.005, 0.02)
    html = interval_strips.strip(one, axis, "#000000")
    assert placed(html, "qf-zero") == 20.0
    assert placed(html, "qf-margin") == 60.0
    assert placed(html, "qf-dot") == pytest.approx(28.0)
    assert placed(html, "qf-interval") == pytest.approx(16.0)
    assert "width:max(2px,24.000%)" in html
    assert placed(html, "qf-floor") == pytest.approx(16.0) and "max(3px,8.000%)" in html
    assert "95 % interval −0.10 to +0.50; margin 1; noise floor 0.1" in html


def test_what_lies_beyond_is_an_arrow() -> None:
    near, far = finding(0.0, 0.001, 0.002), finding(3.0, 4.0, 5.0)
    axis = interval_strips.axis([near, far], signed=False)
    assert axis.high == 0.02, "one candidate that is far off does not press the others together"
    html = interval_strips.strip(far, axis, "#000000")
    assert "qf-beyond" in html and "qf-dot" not in html and "qf-interval" not in html
    assert placed(html, "qf-far") == 0 and "width:100.000%" in html, "the worst is the fullest"
    partly = interval_strips.strip(finding(0.015, 0.03, 0.05), axis, "#000000")
    assert "qf-beyond" in partly and "qf-interval" in partly and "qf-dot" not in partly


def test_without_a_margin_the_widest_interval_takes_the_width() -> None:
    axis = interval_strips.axis([finding(0.1, 0.2, 0.3, margin=0.0)], signed=False)
    assert axis.high == pytest.approx(0.33)
    assert interval_strips.axis([finding(0.0, 0.0, 0.0, margin=0.0)], signed=False).high > 0


def test_an_estimate_without_an_interval_is_a_dot() -> None:
    bare = Finding("kl_mean", Estimate(0.004, None, 9, "nat"), 0.01, None, "inconclusive")
    html = interval_strips.strip(bare, interval_strips.axis([bare], signed=False), "#000000")
    assert placed(html, "qf-dot") == 20.0 and "noise floor" not in html


@pytest.mark.parametrize("margin", [Margin(), Margin(0.0, 0.0, 0.0), Margin(None, None, 1e-4)])
def test_every_decision_of_a_report_is_drawn(margin: Margin) -> None:
    report = full_report(Spec("dummy", precisions=("bf16", "fp16", "int8", "int2")))
    broken = replace(report.results[0], nonfinite_positions=3, fidelity={})
    report = replace(report, results=(broken, *report.results[1:]))
    decisions = decision_request.decide(report, margin)
    table = ranking.table(report, ranked(report, decisions, {}), None)
    for html in (table.replace(" scope=col", "").replace(" scope=row", ""), interval_strips.key(True, 3)):
        ElementTree.fromstring(html)  # well formed
    for decision in decisions:
        sign, words, _ = interval_strips.STATES[decision.state]
        assert f">{sign}</b>{words}" in interval_strips.pill(decision.state) and words in table
    assert "widened for 3 candidates" in interval_strips.key(True, 3) and "widened" not in interval_strips.key(False, 1)
    assert "noise floor" in interval_strips.key(True, 3) and "noise floor" not in interval_strips.key(False, 1)


def test_every_state_has_its_own_sign_and_words_and_a_colour_that_no_precision_has() -> None:
    assert set(interval_strips.STATES) == set(decision_request.STATES)
    signs, words, colors = zip(*interval_strips.STATES.values(), strict=True)
    assert len(set(signs)) == len(set(words)) == len(interval_strips.STATES)
    assert not {*colors, LIT, CACHE} & {precision_color(name) for name in PRECISIONS}


def test_the_axis_says_what_stands_where() -> None:
    one = finding(-0.001, 0.002, 0.005)
    html = interval_strips.scale(one.metric, interval_strips.axis([one], signed=True), [one])
    assert re.findall(r'left:([\d.]+)%">([^<]+)<', html) == [("20.000", "0"), ("60.000", "1"), ("100.000", "2")]
