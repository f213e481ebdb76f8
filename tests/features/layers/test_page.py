"""The page Layers without a browser: it opens full, what is chosen reaches the engine, and a link is a page."""

import shlex
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from streamlit.testing.v1 import AppTest

from qfund.commandline.parser import parse
from qfund.core.errors import OutOfBudget, QfundError, QueueFull
from qfund.features.layers import figures, tables, words
from qfund.features.layers.link import LIMITS, REFERENCES, VIEWS, Asked, from_query, to_query
from qfund.features.layers.request import examples
from qfund.features.layers.request.asked import DEFAULT_PRECISIONS
from qfund.features.layers.request.recipe import SCORES
from qfund.features.layers.request.swaps import PARTS
from qfund.features.layers.view import page
from qfund.features.memory.request.budgets import GPUS, parse_budget
from tests.ui import pages
from tests.ui.pages import FakeJobs

Open = Callable[..., AppTest]
texts = partial(pages.texts, more=("info",))


@pytest.fixture
def opened(jobs: FakeJobs, page_server: None) -> Open:
    return partial(pages.opened, "pages/layers.py", to_query=to_query)


def test_what_ships_is_what_the_page_opens_on() -> None:
    asked = Asked()
    assert (asked.swaps, asked.layers, asked.recipe) == examples.LAYERS


@pytest.mark.parametrize(
    ("view", "said"),
    [
        ("swaps", ("Half of the damage of INT3 g32 comes from", "damages add up", "Rank correlation", "of gradients")),
        ("modules", ("INT3 g32 changes a module's own output by", "Its largest weight")),
        ("recipe", ("text that the search did not see", "Predicted from single swaps", "llm-compressor", "Model card")),
    ],
)
def test_a_first_visit_is_full_and_starts_nothing(
    opened: Open, jobs: FakeJobs, view: str, said: tuple[str, ...]
) -> None:
    at = opened(Asked(view=view))
    for sentence in said:
        assert sentence in texts(at)
    assert at.get("plotly_chart") and not jobs.submitted


def test_another_precision_is_looked_at_and_stands_in_the_address(opened: Open) -> None:
    at = opened()
    next(one for one in at.segmented_control if one.label == "Look at").set_value("int8").run()
    assert "Half of the damage of INT8 weight-only" in texts(at) and pages.query(at)["look"] == ["int8"]
    at = opened(Asked(look="int5"))
    assert "Half of the damage of INT5 g32" in texts(at)


def test_gradients_have_a_map_of_their_own(opened: Open) -> None:
    at = opened(Asked(view="modules"))
    at.segmented_control(key="layers_shown").set_value("score").run()
    assert not at.exception and at.get("plotly_chart")


def test_what_is_chosen_reaches_the_engine_by_a_click_only(opened: Open, jobs: FakeJobs) -> None:
    at = opened()
    at.multiselect(key="layers_precisions").set_value(["int2", "int8"])
    at.selectbox(key="layers_part").set_value("kind")
    at.selectbox(key="layers_tokens").set_value(512).run()
    assert "Not measured yet" in texts(at) and not jobs.submitted
    at.button(key="layers_measure").click().run()
    wanted = Asked(precisions=("int8", "int2"), part="kind", tokens=512)
    assert jobs.submitted == [wanted.swaps]
    assert pages.query(at)["part"] == ["kind"] and at.get("progress") and not at.exception


def test_every_budget_of_a_recipe_reaches_the_engine(opened: Open, jobs: FakeJobs) -> None:
    at = opened(Asked(view="recipe"))
    wanted = Asked(view="recipe", limit="size", size=3 * 2**30, gpu="t4", context=2048, kl=0.003, changed=0.05)

    def measured() -> object:
        at.button(key="layers_measure").click().run()
        assert not at.exception
        return jobs.submitted[-1]

    at.selectbox(key="layers_limit").set_value("size").run()
    at.text_input(key="layers_size").set_value("much").run()
    assert "not a positive amount" in texts(at) and not jobs.submitted
    at.text_input(key="layers_size").set_value("3GiB").run()
    assert measured() == wanted.recipe
    chosen: dict[str, dict[str, Any]] = {
        "gpu": {"layers_gpu": "t4", "layers_context": 2048},
        "kl": {"layers_kl": 0.003},
        "changed": {"layers_changed": 5.0},
    }
    for limit, values in chosen.items():
        at.selectbox(key="layers_limit").set_value(limit).run()
        for key, value in values.items():
            (at.number_input if isinstance(value, float) else at.selectbox)(key=key).set_value(value)
        at.run()
        assert measured() == replace(wanted, limit=limit).recipe
        assert pages.query(at)["limit"] == [limit]
    at.selectbox(key="layers_by").set_value("gradient")
    at.multiselect(key="layers_alike").set_value([])
    at.selectbox(key="layers_limit").set_value("kl").run()
    assert measured() == replace(wanted, limit="kl", by="gradient", alike=()).recipe


def test_a_running_job_can_be_cancelled(opened: Open, jobs: FakeJobs) -> None:
    at = opened(Asked(tokens=512))
    at.button(key="layers_measure").click().run()
    next(one for one in at.button if "Cancel" in one.label).click().run()
    assert len(jobs.cancelled) == 1 and not at.exception


@pytest.mark.parametrize("error", [QueueFull("The queue is full.", "Wait."), OutOfBudget("It is too large.", "Less.")])
def test_what_refuses_is_told(opened: Open, jobs: FakeJobs, error: QfundError) -> None:
    at = opened(Asked(tokens=512))
    jobs.refuse = error
    at.button(key="layers_measure").click().run()
    assert error.message in texts(at)


def test_a_job_that_failed_says_why_and_the_page_stays(opened: Open, jobs: FakeJobs) -> None:
    asked = Asked(view="recipe", bits=1.0)
    jobs.set(asked.recipe, state="failed", error=OutOfBudget("The smallest takes 4.00 bits.", "Give a larger budget."))
    assert "The smallest takes 4.00 bits." in texts(opened(asked))


def test_no_precisions_fall_back_and_a_bad_link_is_told(opened: Open) -> None:
    found, problems = from_query({"p": ["int99"], "view": ["x"], "bits": ["-1"], "tokens": ["0"], "grad": ["0"]})
    assert found == Asked(gradient=False) and len(problems) == 4
    assert "no number of bits" in texts(pages.opened("pages/layers.py", {"bits": ["nan"]}))


def test_a_link_names_the_bound_that_bounds() -> None:
    assert not to_query(Asked()).keys() & {"bits", "size", "gpu", "ctx", "kl", "changed"}, "swaps have none"
    on_a_gpu = to_query(Asked(view="recipe", limit="gpu"))
    assert (on_a_gpu["gpu"], on_a_gpu["ctx"]) == (["rtx-4090"], ["8192"])
    assert not on_a_gpu.keys() & {"bits", "size", "kl", "changed"}
    assert to_query(Asked(view="recipe", kl=0.5))["kl"] == ["0.5"], "what somebody chose goes along"


@given(
    st.builds(
        Asked,
        model=st.sampled_from(["pydoc-llama", "owner/name"]),
        revision=st.sampled_from([None, "v1"]),
        reference=st.sampled_from(REFERENCES),
        precisions=st.sampled_from([DEFAULT_PRECISIONS, ("int8",), ("int4", "int2")]),
        also=st.sampled_from([(), ("head",)]),
        tokens=st.integers(2, 65_536),
        part=st.sampled_from(list(PARTS)),
        view=st.sampled_from(list(VIEWS)),
        limit=st.sampled_from(list(LIMITS)),
        bits=st.sampled_from([0.5, 4.25, 5.0, 64.0]),
        size=st.integers(2**20, 2**50),
        gpu=st.sampled_from(list(GPUS)),
        context=st.integers(1, 2**32),
        kl=st.floats(1e-6, 10),
        changed=st.floats(1e-4, 0.9),
        by=st.sampled_from(list(SCORES)),
        alike=st.sampled_from([(), ("qkv", "gate-up"), ("block",)]),
        look=st.sampled_from([None, "int8"]),
        gradient=st.booleans(),
    )
)
def test_links_and_commands_go_there_and_back(asked: Asked) -> None:
    assert from_query(to_query(asked)) == (asked, [])
    options = parse(shlex.split(page.shell(asked))[1:])
    assert (options.model, tuple(options.precision), options.reference) == (
        asked.model,
        asked.precisions,
        asked.reference,
    )
    assert options.max_tokens == asked.tokens and options.revision == asked.revision
    if asked.view == "recipe":
        given = {
            "bits": options.bits,
            "size": options.budget and parse_budget(options.budget),
            "gpu": options.gpu,
            "kl": options.kl,
            "changed": options.changed,
        }
        assert {name: value for name, value in given.items() if value} == {asked.limit: getattr(asked, asked.limit)}
        assert options.by == asked.by and tuple(options.alike) == (asked.alike or ("none",))
        assert asked.limit != "gpu" or options.gpu_context == asked.context
    else:
        assert options.swaps == (asked.part if asked.view == "swaps" else None)


def test_names_are_as_short_as_they_stay_apart() -> None:
    names = ["model.layers.0.self_attn.q_proj", "model.layers.1.mlp.up_proj"]
    assert words.shortened(names) == ["layers.0.self_attn.q_proj", "layers.1.mlp.up_proj"]
    assert words.axis_names(names) == ["0 · q_proj", "1 · up_proj"]
    assert words.axis_names(["a.0.x.q", "a.0.y.q"]) == ["a.0.x.q", "a.0.y.q"]
    assert words.shortened(["q_proj", "k_proj"]) == ["q_proj", "k_proj"] and words.shortened([]) == []
    assert words.shortened(["lm_head"]) == ["lm_head"]


def test_a_heat_map_has_one_notation_and_holds_every_cell() -> None:
    from qfund.engine import key_of, shipped

    asked = replace(Asked())
    found = shipped.find(asked.swaps, key_of(asked.swaps))
    assert found is not None
    frame = tables.swapped(found)
    drawn = figures.heat_map(frame, "kl", "KL (nat)")
    cells = [text for row in drawn.data[0].text for text in row]
    assert len(cells) == len(frame) and all("e-" in text and "e-0" not in text for text in cells)
    assert drawn.to_json() == figures.heat_map(frame, "kl", "KL (nat)").to_json()
