"""Comparisons that leave out drift, the token map or the noise: what is left is the same, bit for bit, everywhere."""

import json
from dataclasses import replace

import pytest

import qfund
from qfund.cli import main
from qfund.core.errors import UnknownName
from qfund.engine import key_of
from qfund.engine.store import Store
from qfund.features.compare.command.printing import text
from qfund.features.compare.document.page import page
from qfund.features.compare.link import SECTIONS
from qfund.features.compare.measure.compare import compare
from qfund.features.compare.request.decision import Margin, decide
from qfund.features.compare.request.duration import Size, estimate
from qfund.features.compare.request.invariants import consistent
from qfund.features.compare.request.link import from_query, to_query
from qfund.features.compare.request.noise_floor import noise_floor
from qfund.features.compare.request.report import Report, from_json, predicts_tokens, to_json
from qfund.features.compare.request.spec import PARTS, Spec, checked
from qfund.features.compare.tables import statistics, tokens
from qfund.features.compare.tables.export import export_csv
from qfund.features.compare.words import calls
from tests.features.compare.pages import COMPARE, FakeJobs, section, texts
from tests.tiny.checkpoints import folder
from tests.ui.pages import Open

TEXT = "one two three four five six seven eight nine ten eleven twelve " * 4
SPEC = Spec(str(folder("llama")), precisions=("bf16", "int8"), text=TEXT, context=16, max_tokens=64)


@pytest.fixture(scope="module")
def full() -> Report:
    return compare(SPEC)


@pytest.fixture(scope="module")
def bare() -> Report:
    """With nothing but what every comparison has."""
    return compare(replace(SPEC, without=tuple(PARTS)))


def test_each_part_alone_is_left_out_and_all_else_is_as_it_was(full: Report, bare: Report) -> None:
    for part in PARTS:
        found = compare(replace(SPEC, without=(part,)))
        assert (found.noise == ()) == (part == "noise") and (found.tokens is None) == (part == "map")
        assert all((row.drift == ()) == (part == "drift") for row in found.results)
        assert found.noise == () or [run.fidelity for run in found.noise] == [run.fidelity for run in full.noise]
        assert part == "map" or found.tokens == full.tokens
    for before, after in zip(full.results, bare.results, strict=True):
        assert before.drift and not after.drift
        kept = replace(after, drift=before.drift, forward_seconds=before.forward_seconds)
        assert kept == before
    assert bare.reference.fidelity == full.reference.fidelity and bare.noise == () and bare.tokens is None


def test_it_is_a_part_of_the_request() -> None:
    spec = checked(replace(SPEC, without=("noise", "drift", "noise")))
    assert spec.without == ("drift", "noise")
    assert from_query(to_query(spec), Spec("dummy")) == (spec, [])
    assert from_query(to_query(SPEC), spec)[0].without == () and "without" not in to_query(SPEC)
    assert "--without drift noise" in calls.shell(spec) and "without=['drift', 'noise']" in calls.python(spec)
    assert key_of(spec) != key_of(SPEC) == key_of(replace(SPEC, without=()))
    with pytest.raises(UnknownName, match="Unknown part to leave out 'draft'"):
        checked(replace(SPEC, without=("draft",)))
    kept, problems = from_query(to_query(spec) | {"without": ["x" * 60, "map"]}, Spec("dummy"))
    assert kept.without == ("map",) and len(problems) == 1 and "without" in problems[0]


def test_every_document_and_table_is_drawn(bare: Report) -> None:
    consistent(bare)
    assert from_json(to_json(bare)) == bare
    said = text(bare, Margin(), every=True)
    assert "Left out, as asked: the error of the hidden states along the blocks, the text token by token and" in said
    assert b"Left out, as asked" in page(bare, Margin()) and export_csv(bare)
    assert noise_floor(bare) == {} and statistics.noise(bare).empty
    assert all(statistics.drift(bare, which).empty for which in statistics.DRIFTS)
    assert tokens.disagreements(bare, "int8").empty and predicts_tokens(bare)
    assert "measurable difference" not in " ".join(row.sentence for row in decide(bare, Margin()))


@pytest.mark.parametrize("name", SECTIONS.values())
def test_every_section_is_drawn(opened: Open, store: Store, bare: Report, name: str) -> None:
    store.put(COMPARE, key_of(bare.spec), bare)
    at = opened(to_query(bare.spec), **section(name))
    assert not at.exception and "Left out, as asked" in texts(at)
    assert "Choose so under Options" in texts(at) if name == "Token by token" else True


def test_the_page_asks_for_it(opened: Open, jobs: FakeJobs) -> None:
    at = opened(to_query(replace(SPEC, without=("map",))))
    at.pills(key="choice_without").set_value(["noise", "drift"]).run()
    at.button(key="compare").click().run()
    (spec,) = jobs.submitted
    assert spec.without == ("drift", "noise") and not at.exception
    assert "noise" in str(at.query_params["without"])


def test_the_command_and_python_take_it(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["compare", "dummy", "--precision", "bf16", "--no-store", "--quiet", "--without"]
    for parts, code in ((["noise,map"], 0), (["nonsense"], 2)):
        with pytest.raises(SystemExit) as ended:
            main([*command, *parts, "--json"])
        said = capsys.readouterr()
        assert ended.value.code == code and "Traceback" not in said.err
        if not code:
            assert json.loads(said.out)["tokens"] is None and json.loads(said.out)["noise"] == []
        else:
            assert "Available: drift, map, noise" in said.err
    assert not any(row.drift for row in qfund.compare("dummy", "bf16", without="drift").results)


def test_what_is_left_out_takes_no_time() -> None:
    size = Size(1_000_000, 100, 64)
    assert estimate(replace(SPEC, without=("noise",)), size, []).seconds < estimate(SPEC, size, []).seconds
