"""How fast candidates write, in the ranked table: only where this machine has timed them."""

from dataclasses import replace

import pytest

from qfund.core.processor import cpu_name
from qfund.engine import key_of
from qfund.engine.kinds import KINDS
from qfund.engine.store import Store
from qfund.features.compare.request import speeds
from qfund.features.compare.request.link import to_query
from qfund.features.compare.request.spec import Spec
from qfund.features.speed.request.speed import Speed, SpeedRequest, checked
from tests.features.compare.pages import COMPARE, board
from tests.features.compare.reports import make_report
from tests.features.speed.speeds import make_speed, point, run
from tests.ui.pages import Open

SPEC = Spec("pydoc-llama", "fp32", ("bf16", "int8"), max_tokens=1024)


def _found(request: SpeedRequest, cpu: str) -> Speed:
    slow, fast = point(50, 500), point(150, 500)
    found = make_speed(run("int8", "qfund", slow), run("int8", "torchao", fast))
    request = replace(request, depths=(10,), batches=(1,))
    return replace(found, request=request, environment=replace(found.environment, cpu=cpu))


def test_the_same_choices_are_asked_of_speed() -> None:
    spec = Spec("m", "bf16", ("bf16", "int8"), files=("a.gguf", "recipe.json"), revision="v1", also=("head",))
    asked = speeds.asked(spec)
    assert (asked.precisions, asked.reference, asked.files) == (("int8",), "bf16", ("a.gguf",))
    assert (asked.revision, asked.also) == ("v1", ("head",))


def test_of_several_backends_the_fastest_counts_and_only_on_this_machine() -> None:
    found = _found(speeds.asked(SPEC), cpu_name())
    best = speeds.fastest(found)
    assert set(best) == {"int8"} and best["int8"][0].backend == "torchao"
    assert speeds.here(found, "fp32") and not speeds.here(found, "bf16")
    assert not speeds.here(_found(speeds.asked(SPEC), "another processor"), "fp32")


@pytest.mark.parametrize("cpu", ["", "another processor"])
def test_the_page_shows_it_beside_the_verdicts(opened: Open, store: Store, cpu: str) -> None:
    report = make_report(SPEC)
    report = replace(report, model=replace(report.model, task="causal language model"))
    store.put(COMPARE, key_of(SPEC), report)
    asked = checked(speeds.asked(SPEC))
    store.put(KINDS["speed"], key_of(asked), _found(asked, cpu or cpu_name()))
    at = opened(to_query(SPEC))
    assert not at.exception
    shown = board(at)
    assert ("writing, × reference" in shown) == (not cpu)
    assert ("1.50 × (INT8 weight-only (torchao))" in shown) == (not cpu)
