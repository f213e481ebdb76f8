"""Measure what ships with the models, and keep it beside them:  python -m training.measured [NAME …]

A name is a model (``dummy``) or one of its results (``dummy/lesson``: models/dummy/measured/lesson.json); without any,
everything is measured. Run it again whenever weights, requests, kinds of jobs or schemas change: a test fails while
something is out of date. Times and peaks of memory come last, so that the machine can be left to them.
"""

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from qfund.checkpoints.catalog import CATALOG, EXAMPLE
from qfund.core.errors import QfundError
from qfund.core.names import look_up
from qfund.core.request import Request
from qfund.engine import compute, shipped
from qfund.features.captions import request as captions_request
from qfund.features.captions.request import CaptionRequest, Captions
from qfund.features.compare.request.examples import EVERY_PRECISION
from qfund.features.compare.request.report import PrecisionResult, Report
from qfund.features.compare.request.spec import Spec
from qfund.features.kv.request import KvRequest
from qfund.features.layers.request.examples import LAYERS
from qfund.features.lesson.request.questions import FEW, MANY, Asked
from qfund.features.memory.request.load_peak import LoadPeakRequest
from qfund.features.outputs.request import classes, embeddings, generation
from qfund.features.speed.request.speed import SpeedRequest
from qfund.precisions import backends

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as the worker runs

#: Of a comparison that times.
RUNS = 3
#: Pictures with their captions, the worst first.
PICTURES = 200


@dataclass(frozen=True, slots=True)
class Shipped:
    """One result. ``name`` tells several of one kind apart; ``keep`` makes of what was measured what ships, which is
    not ``whole`` where some pages could not draw it."""

    request: Request
    name: str = ""
    keep: Callable[[Any], Any] = lambda found: found
    whole: bool = True

    @property
    def label(self) -> str:
        return f"{self.request.model}/{shipped.place(self.request, self.name).stem}"

    @property
    def timed(self) -> bool:
        """Whether another process's work would show in it."""
        return isinstance(self.request, LoadPeakRequest | SpeedRequest) or (
            isinstance(self.request, Spec) and self.request.libraries
        )

    def measure(self) -> Any:
        found = calmest(self.request) if isinstance(self.request, Spec) and self.timed else measure(self.request)
        return self.keep(found)

    def write(self) -> None:
        path = shipped.write(self.request, self.measure(), self.name, whole=self.whole)
        print(f"{self.label}: {path.stat().st_size:,} bytes", flush=True)


def everything() -> Iterator[Shipped]:
    """What the pages open on, and the evidence of the nine questions for each model."""
    yield Shipped(EVERY_PRECISION, "every", numbers, whole=False)
    yield Shipped(generation.EXAMPLE)
    yield Shipped(KvRequest(EXAMPLE))
    yield Shipped(SpeedRequest(EXAMPLE))
    yield Shipped(classes.EXAMPLE)
    yield Shipped(embeddings.EXAMPLE)
    yield Shipped(captions_request.checked(CaptionRequest(captions_request.MODEL)), keep=worst)
    for request in LAYERS:
        yield Shipped(request)
    for model in CATALOG:
        asked = Asked(model)
        yield Shipped(asked.comparison)
        yield Shipped(asked.plan)
        yield Shipped(asked.lesson)
        yield Shipped(asked.load_peaks)
        yield Shipped(asked.timing(MANY), "many", numbers, whole=False)
        yield Shipped(asked.timing(FEW), "few", numbers, whole=False)


def chosen(names: list[str]) -> list[Shipped]:
    """Of ``everything`` what ``names`` name, the timed last.

    Raises:
        UnknownName: there is no such model or result.
    """
    table = {each.label: [each] for each in everything()}
    every = [each for row in table.values() for each in row]
    table |= {model: [each for each in every if each.request.model == model] for model in CATALOG}
    found = [each for name in names for each in look_up(table, name, "result")] if names else every
    return sorted(dict.fromkeys(found), key=lambda each: each.timed)


def numbers(found: Report) -> Report:
    """A comparison without what weighs the most: what is said of tokens, tensors, modules, chunks, buckets, layers."""
    results = tuple(map(_numbers, found.results))
    return replace(found, tokens=None, reference=_numbers(found.reference), results=results)


def _numbers(result: PrecisionResult) -> PrecisionResult:
    return replace(result, tensors=(), converted_modules=(), left_modules=(), chunks=None, buckets=(), drift=())


def worst(found: Captions) -> Captions:
    return replace(found, pictures=found.pictures[:PICTURES])


def measure(request: Request) -> Any:
    return compute(request, progress=_Printed())


def calmest(spec: Spec) -> Report:
    """Of some runs the one whose times scatter least: in the others the machine was busy with something else."""
    runs: list[Report] = [measure(spec) for _ in range(RUNS)]
    return min(runs, key=scatter)


def scatter(found: Report) -> float:
    """The sum of all times' relative errors."""
    own = [result.latency for result in found.results]
    others = [run.latency for result in found.results for run in result.libraries]
    return sum((one.se or 0.0) / one.value for one in (*own, *others) if one)


class _Printed:
    """Every phase once."""

    def __init__(self) -> None:
        self._said: str | None = None

    def __call__(self, phase: str, share: float) -> None:
        if phase != self._said:
            print(f"  {share:4.0%} {phase}", flush=True)
        self._said = phase


def main() -> None:
    backends.quiet()
    try:
        asked = chosen(sys.argv[1:])
    except QfundError as error:
        sys.exit(str(error))
    for each in asked:
        print(each.label, flush=True)
        each.write()


if __name__ == "__main__":
    main()
