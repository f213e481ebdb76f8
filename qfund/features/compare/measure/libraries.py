"""A candidate as libraries really store and run it, beside qfund's own: bytes, time, and how far outputs differ."""

import math
from collections.abc import Callable
from dataclasses import replace
from importlib import metadata
from typing import Any

from torch import Tensor

from qfund.checkpoints import catalog
from qfund.checkpoints.checkpoint import Checkpoint
from qfund.core.errors import QfundError
from qfund.core.estimate import Estimate
from qfund.features.compare.measure.latency import Latency, latencies
from qfund.features.compare.request.report import LibraryRun
from qfund.models.counting import stored_bytes
from qfund.models.environment import wait_for
from qfund.models.loading import LoadedModel, read
from qfund.precisions import backends
from qfund.precisions.backends import Implementation
from qfund.precisions.table import PRECISIONS

ROUNDS = 9
SECONDS = 20.0  # for one candidate and its libraries; a round that has begun is finished

#: Runs a model on the batch that is timed, and gives the outputs that are compared.
Forward = Callable[[Any], Tensor]


def implementations(precision: str) -> tuple[Implementation, ...]:
    """Those that this device can run."""
    found = backends.implementations(precision)
    return tuple(row for row in found if backends.unavailable(row, catalog.device()) is None)


def run(
    found: Checkpoint, precision: str, reference: Any, own: LoadedModel, forward: Forward
) -> tuple[Estimate, tuple[LibraryRun, ...]]:
    """Time a candidate's own model and every library's in turns with the reference.

    Returns the own model's latency as a ratio to the reference's, and a run for every library that has the precision,
    with the reason where it could not be run.
    """
    outputs = forward(own.model)
    runs: list[LibraryRun] = []
    models = {"reference": _timed(forward, reference), "own": _timed(forward, own.model)}
    for row in backends.implementations(precision):
        reason = backends.unavailable(row, catalog.device())
        if reason is None:
            made = _convert(found, row, own, forward, outputs)
        else:
            made = LibraryRun(row.backend, "", row.call, note=row.note or None, problem=reason), None
        runs.append(made[0])
        if made[1] is not None:
            models[row.backend] = _timed(forward, made[1])
    taken = latencies(models, ROUNDS, SECONDS)
    return _ratio(taken["own"]), tuple(_with_time(one, taken.get(one.library)) for one in runs)


def _convert(
    found: Checkpoint, row: Implementation, own: LoadedModel, forward: Forward, outputs: Tensor
) -> tuple[LibraryRun, Any]:
    """The library's model and what can be said of it before it is timed; no model where it cannot be run."""
    version = metadata.version(backends.BACKENDS[row.backend].package)
    note, problem = row.note or None, None
    try:
        model = read(found, PRECISIONS[row.precision].dtype).to(own.model.device)
        conversion = row.load().apply(model, own.converted)
        counted, claimed = stored_bytes(model), int(model.get_memory_footprint())
        given = forward(model)
    except QfundError as error:
        return LibraryRun(row.backend, version, row.call, note=note, problem=str(error)), None
    except (RuntimeError, ValueError, TypeError, NotImplementedError, AssertionError, ImportError) as error:
        # Libraries raise whatever comes to hand for a shape or a dtype that their kernels do not take.
        what = " ".join(str(error).split())[:300]
        problem = f"{row.backend} fails on this model: {type(error).__name__}: {what}"
        return LibraryRun(row.backend, version, row.call, note=note, problem=problem), None
    difference = (given.double() - outputs.double()).abs().max().item()
    problem = conversion.problem
    if conversion.left:
        more = f"It leaves {len(conversion.left)} of the modules that qfund quantises, so outputs are not compared."
        note = f"{note} {more}" if note else more
    if not math.isfinite(difference):
        problem = problem or f"{row.backend}'s outputs are not finite."
    made = LibraryRun(
        library=row.backend,
        version=version,
        implementation=row.call,
        footprint_bytes=counted,
        transformers_bytes=claimed,
        converted=len(conversion.converted),
        left=len(conversion.left),
        left_modules=conversion.left,
        max_abs_diff=difference if math.isfinite(difference) and not conversion.left else None,
        note=note,
        problem=problem,
    )
    return made, model


def _timed(forward: Forward, model: Any) -> Callable[[], object]:
    def call() -> None:
        forward(model)
        wait_for(model.device)

    return call


def _ratio(taken: Latency) -> Estimate:
    spread = taken.ratio
    return Estimate(spread.median, (spread.high - spread.low) / (2 * 1.96), taken.rounds, "×")


def _with_time(one: LibraryRun, taken: Latency | None) -> LibraryRun:
    return one if taken is None else replace(one, latency=_ratio(taken), seconds=taken.seconds.median)
