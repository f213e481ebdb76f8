"""The page while a comparison is at work, and after it was ended: what is there so far, and the way on."""

from dataclasses import replace

import pytest
import streamlit as st

from qfund.core.errors import Cancelled
from qfund.engine import key_of, unfinished
from qfund.engine.kinds import KINDS
from qfund.engine.store import Store
from qfund.features.compare.request.decision import Margin
from qfund.features.compare.request.link import to_query
from qfund.features.compare.request.spec import Spec
from qfund.features.compare.view import amount
from tests.features.compare.pages import FakeJobs
from tests.features.compare.reports import make_report
from tests.ui.pages import Open, texts

ASKED = Spec("dummy", precisions=("bf16", "int8"), max_tokens=4096)


def _part(tokens: int) -> object:
    report = make_report(ASKED)
    return replace(report, partial=True, planned=4096, input=replace(report.input, tokens=tokens))


def test_what_is_known_is_shown_while_it_works(opened: Open, jobs: FakeJobs) -> None:
    jobs.set(ASKED, state="running", share=0.3, so_far=_part(1024))
    at = opened(to_query(ASKED))
    assert "1,024 of 4,096 tokens" in texts(at) and "dummy: FP32 against BF16 and INT8 weight-only" in texts(at)
    assert at.button(key=f"cancel_{key_of(ASKED)}").label == "Stop"
    assert not [button for button in at.button if button.key == "go_on"]


@pytest.mark.parametrize("remembered", [True, False])
def test_what_a_stop_left_is_shown_and_goes_on(opened: Open, jobs: FakeJobs, store: Store, remembered: bool) -> None:
    unfinished.keep(store, KINDS["compare"], key_of(ASKED), _part(2048))
    if remembered:
        jobs.set(ASKED, state="cancelled", error=Cancelled("The job was cancelled.", "Start it again."))
    at = opened(to_query(ASKED))
    assert "ended after 2,048 of 4,096 tokens" in texts(at)
    at.button(key="go_on").click().run()
    assert jobs.submitted == [ASKED]


def test_another_model_is_read_until_it_is_decided_and_a_link_says_so(opened: Open, jobs: FakeJobs) -> None:
    at = opened()
    assert at.selectbox(key="choice_tokens").value == 16_384
    at.selectbox(key="choice_model").set_value("dummy").run()
    assert at.selectbox(key="choice_tokens").value == amount.UNTIL
    at.button(key="compare").click().run()
    (spec,) = jobs.submitted
    assert spec.until == Margin() and spec.max_tokens == 16_384
    assert at.query_params["until"] == "0.01,0.02,,0.01"
    again = opened(to_query(spec))
    assert again.selectbox(key="choice_tokens").value == amount.UNTIL
    assert "These choices are not the comparison" not in texts(again)


def test_an_amount_with_a_time_that_has_changed_since_is_that_amount(monkeypatch: pytest.MonkeyPatch) -> None:
    """A browser sends a label as it was drawn."""
    state: dict[str, object] = {"choice_most": 512, "choice_until": Margin()}
    monkeypatch.setattr(st, "session_state", state)
    state["choice_tokens"] = "Until decided · first verdict in 7 seconds"
    assert amount.chosen(ASKED) == replace(ASKED, max_tokens=512, until=Margin())
    state["choice_tokens"] = "2,048 tokens · 7 seconds"
    assert amount.chosen(ASKED) == replace(ASKED, max_tokens=2048, until=None)
    assert "choice_tokens_wrong" not in state
