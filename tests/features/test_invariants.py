"""A result that contradicts itself is neither shown nor stored; each invariant is broken once."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from qfund import engine
from qfund.core.errors import EngineError
from qfund.core.estimate import Estimate
from qfund.core.tensors import DtypeShare
from qfund.engine.store import Store
from qfund.features.compare.request.invariants import consistent
from qfund.features.compare.request.report import PrecisionResult, Report
from qfund.features.compare.request.spec import Spec
from qfund.features.memory.measure.plan import plan
from qfund.features.memory.request.fits import Amount, FitsRequest, Workload
from qfund.features.memory.request.invariants import consistent_fits, consistent_plan
from qfund.features.memory.request.plan import PlanRequest
from tests.features.compare.reports import make_report
from tests.features.memory.plans import make_fits


def changed(result: PrecisionResult, metric: str, by: float) -> PrecisionResult:
    held: Estimate = result.fidelity[metric]
    return replace(result, fidelity=result.fidelity | {metric: replace(held, value=held.value * (1 + by))})


COMPARE: dict[str, Callable[[PrecisionResult], PrecisionResult]] = {
    "predicted were": lambda row: replace(row, predicted_bytes=row.footprint_bytes + 4),
    "parts sum to": lambda row: replace(row, parts=row.parts | {"buffers": 0}),
    "dtypes sum to": lambda row: replace(row, dtypes=row.dtypes | {"float64": DtypeShare(0, 8)}),
    "tensors sum to": lambda row: replace(row, tensors=row.tensors[:-1]),
    "named are": lambda row: replace(row, converted=row.converted + 1),
    "by its logarithm it is": lambda row: changed(row, "ln_perplexity_ratio", 1e-3),
    "by the difference it is": lambda row: changed(row, "perplexity_diff", 1e-2),
    "ratio times the reference's is": lambda row: changed(changed(row, "perplexity", 1e-3), "perplexity_diff", 1e-3),
}


@pytest.mark.parametrize("said", COMPARE)
def test_a_report_that_contradicts_itself_is_refused(said: str) -> None:
    report = make_report()
    consistent(report)
    *others, last = report.results
    assert last.precision == "int8"
    with pytest.raises(EngineError, match=said) as refused:
        consistent(replace(report, results=(*others, COMPARE[said](last))))
    assert "int8" in str(refused.value)


def test_the_parameters_of_a_report_are_those_of_its_reference() -> None:
    report = make_report()
    with pytest.raises(EngineError, match="parameters by dtype sum to"):
        consistent(replace(report, model=replace(report.model, parameters=report.model.parameters + 1)))


def test_what_is_not_finite_contradicts_nothing() -> None:
    report = make_report()
    *others, last = report.results
    consistent(replace(report, results=(*others, changed(last, "perplexity_diff", float("nan")))))


def test_nothing_that_contradicts_itself_is_stored(tmp_path: Path) -> None:
    spec = Spec("dummy", precisions=("bf16",))
    report = make_report(spec)
    broken = replace(report, results=(COMPARE["parts sum to"](report.results[0]),))
    store = Store(f"sqlite:///{tmp_path}/qfund.db")

    def measured(found: Report) -> Report:
        return engine.compute(  # type: ignore[no-any-return]
            spec, store=store, measure=lambda request, progress: found, identify=lambda request: "content"
        )

    with pytest.raises(EngineError, match="contradicts itself, so it is neither shown nor stored: bytes of bf16"):
        measured(broken)
    assert measured(report) == report  # the broken one was not there


ENTRY: dict[str, Callable[[Any], Any]] = {
    "parts sum to": lambda entry: replace(entry, parts=entry.parts | {"head": entry.parts["head"] + 1}),
    "dtypes sum to": lambda entry: replace(entry, dtypes=entry.dtypes | {"int2": DtypeShare(0, 1)}),
    "modules sum to": lambda entry: replace(entry, module_bytes=(*entry.module_bytes[:-1], 10**9)),
    "ratio times those of fp32": lambda entry: replace(entry, ratio=entry.ratio * 1.001),
}


@pytest.mark.parametrize("said", ENTRY)
def test_a_plan_that_contradicts_itself_is_refused(said: str) -> None:
    found = plan(PlanRequest("dummy", ("fp32", "bf16")), lambda phase, share: None)
    consistent_plan(found)
    with pytest.raises(EngineError, match=said):
        consistent_plan(replace(found, entries=(*found.entries[:-1], ENTRY[said](found.entries[-1]))))


def test_an_answer_that_contradicts_itself_is_refused() -> None:
    found = make_fits(FitsRequest("dummy", Workload(2**30)))
    consistent_fits(found)
    *others, row = found.rows
    with pytest.raises(EngineError, match="parts sum to"):
        consistent_fits(replace(found, rows=(*others, replace(row, runtime=Amount(row.runtime.bytes + 1, "estimate")))))
    with pytest.raises(EngineError, match="budget less all is"):
        consistent_fits(replace(found, rows=(*others, replace(row, headroom=row.headroom - 1))))
    weights = (*found.weights[:-1], replace(found.weights[-1], parts={"weights": 1}))
    with pytest.raises(EngineError, match="weights of"):
        consistent_fits(replace(found, weights=weights))
