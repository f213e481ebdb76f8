"""The page Sweep without a browser."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from streamlit.testing.v1 import AppTest

from qfund.core.errors import EngineError, QueueFull
from qfund.engine import key_of
from qfund.engine.kinds import KINDS
from qfund.engine.store import Store
from qfund.features.compare.request.margin import Margin
from qfund.features.compare.request.spec import Spec
from qfund.features.sweep.link import LIST, SIZES, STORED, Asked, from_query, to_query
from qfund.precisions.table import PRECISIONS
from qfund.ui import services
from tests.features.compare.reports import full_report
from tests.ui import pages
from tests.ui.pages import FakeJobs, Open, query, texts

COMPARE = KINDS["compare"]
SWEEP = "pages/sweep.py"
KINDS_INT8, DUMMY_INT8 = (Spec(name, precisions=("int8",), max_tokens=1024) for name in ("docstring-kinds", "dummy"))
LISTED = {"of": ["list"], "list": ["docstring-kinds\ndummy\nnobody"], "p": ["int8"], "tokens": ["1024"]}


def linked(query: dict[str, list[str]]) -> AppTest:
    return pages.opened(SWEEP, query)


asked = st.builds(
    Asked,
    source=st.sampled_from((STORED, LIST)),
    listed=st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=99),
    candidates=st.sets(st.sampled_from(list(PRECISIONS))).map(lambda some: tuple(n for n in PRECISIONS if n in some)),
    tokens=st.integers(1, 1_000_000),
    margin=st.builds(Margin, perplexity=st.sampled_from((None, 0.0, 0.01, 0.5)), kl=st.sampled_from((None, 0.25))),
    architectures=st.sampled_from(((), ("LlamaForCausalLM",), ("A", "B"))),
    least=st.sampled_from(list(SIZES)),
)


@given(asked)
def test_an_address_holds_every_choice(shown: Asked) -> None:
    assert from_query(to_query(shown)) == (shown, [])


def test_all_that_is_there_is_ranked_also_what_ships(
    opened: Open, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(services, "shipped_lines", lambda kind: ())
    assert "Nothing to rank" in texts(opened(page=SWEEP))
    store.put(COMPARE, key_of(DUMMY_INT8), full_report(DUMMY_INT8))
    store.put(COMPARE, "other", full_report(Spec("docstring-kinds", precisions=("int4", "bf16"))))
    at = opened(page=SWEEP)
    every = at.dataframe[1].value
    assert set(every["Model"]) == {"dummy", "docstring-kinds"} and len(every) == 3
    at.number_input(key="sweep_margin_ppl").set_value(90.0).run()
    at.number_input(key="sweep_margin_changed").set_value(90.0).run()
    assert set(at.dataframe[1].value["Margin"]) <= {"within", "no difference"}
    assert query(at)["ppl"] == ["90"]
    at.multiselect(key="sweep_shown").set_value(["int8"]).run()
    assert list(at.dataframe[1].value["Model"]) == ["dummy"] and query(at)["show"] == ["int8"]


def test_an_older_line_is_ranked_from_its_report(opened: Open, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    from qfund.features.compare.request import listing

    monkeypatch.setattr(services, "shipped_lines", lambda kind: ())
    monkeypatch.setattr(listing, "condensed", lambda report: None)
    store.put(COMPARE, key_of(DUMMY_INT8), full_report(DUMMY_INT8))
    assert list(opened(page=SWEEP).dataframe[1].value["Model"]) == ["dummy"]


def test_strangers_texts_are_ranked_for_nobody_in_public(
    opened: Open, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(services, "shipped_lines", lambda kind: ())
    own = Spec("dummy", precisions=("int8",), text="mine")
    store.put(COMPARE, key_of(own), full_report(own))
    assert len(opened(page=SWEEP).dataframe) == 2
    monkeypatch.setenv("QFUND_PUBLIC", "1")
    assert "Nothing to rank" in texts(opened(page=SWEEP))


@pytest.mark.usefixtures("opened")
def test_a_list_is_planned_then_measured_and_ranked(store: Store, jobs: FakeJobs) -> None:
    store.put(COMPARE, key_of(DUMMY_INT8), full_report(DUMMY_INT8))
    at = linked(LISTED)
    assert "3 comparisons: 1 stored, 1 to measure" in texts(at) and not jobs.submitted
    assert "Unknown model 'nobody'" in at.dataframe[0].value["Why not"].iloc[2]
    at.button(key="sweep_measure").click().run()
    assert jobs.submitted == [KINDS_INT8] and "docstring-kinds: loading BF16 · 25%" in texts(at)
    store.put(COMPARE, key_of(KINDS_INT8), full_report(KINDS_INT8))
    jobs.set(KINDS_INT8, state="done")
    at.run()
    assert "3 comparisons: 2 stored, 1 cannot be done" in texts(at)
    assert set(at.dataframe[2].value["Model"]) == {"docstring-kinds", "dummy"}


@pytest.mark.usefixtures("opened")
def test_one_that_fails_is_told_and_one_without_a_place_waits(jobs: FakeJobs) -> None:
    at = linked(LISTED)
    jobs.refuse = QueueFull("Too many wait.", "Wait.")
    at.button(key="sweep_measure").click().run()
    assert not jobs.submitted and not at.error and at.button(key="sweep_stop")
    jobs.refuse = None
    at.run()
    assert jobs.submitted == [KINDS_INT8, DUMMY_INT8]
    jobs.set(DUMMY_INT8, state="failed", error=EngineError("The worker died.", "Again."))
    at.run()
    assert "The worker died" in texts(at)
    at.button(key="sweep_stop").click().run()
    assert jobs.cancelled == [key_of(KINDS_INT8)] and at.button(key="sweep_measure")


@pytest.mark.usefixtures("opened")
def test_a_list_names_no_files_of_this_machine_and_a_long_one_is_for_the_command_line() -> None:
    at = linked({"of": ["list"], "list": ["- {model: dummy, text_file: /etc/passwd}"]})
    assert "names no files of texts" in texts(at)
    at = linked({"of": ["list"], "list": ["\n".join(["dummy"] * 300)]})
    assert "The list has 300 models" in texts(at)


@pytest.mark.usefixtures("opened")
def test_a_model_on_the_hub_is_looked_at_only_after_plan_is_pressed(jobs: FakeJobs) -> None:
    at = linked({"of": ["list"], "list": ["owner/name"]})
    assert "Press Plan" in at.dataframe[0].value["Why not"].iloc[0] and not jobs.submitted
    at.button(key="sweep_plan").click().run()
    assert [type(request).__name__ for request in jobs.submitted] == ["HeadersRequest"]
    assert "headers are being read" in at.dataframe[0].value["Why not"].iloc[0]
