"""What is known of models that were run, beside what they gave."""

from dataclasses import dataclass, field, replace

from qfund.core.tensors import LeftModule
from qfund.features.compare.measure.files import File
from qfund.features.compare.measure.gathered import Gathered
from qfund.features.compare.measure.noise import Noise
from qfund.features.compare.request.report import BatchFacts, Range
from qfund.models.decoding.cache import Sizes
from qfund.models.footprint import Footprint


@dataclass(frozen=True, slots=True)
class Run:
    """What is known of one model that was run, beside what it gave; ``cache`` as ``stream.walker.Walker`` has it."""

    footprint: Footprint
    transformers_bytes: int
    converted: tuple[str, ...]
    left: tuple[LeftModule, ...]
    saturated: dict[str, int]
    note: str | None
    seconds: float
    range: Range | None = None
    cache: Sizes | None = None


@dataclass(frozen=True, slots=True)
class Earlier:
    """What a run in a process that has ended leaves for the one that goes on."""

    seconds: float
    saturated: dict[str, int]
    range: Range | None


@dataclass(slots=True)
class Outcome:
    """``runs``: by precision, and the reference under ``REFERENCE``. ``whole`` says why models were loaded whole, and
    ``batch`` how texts went through models in memory."""

    gathered: Gathered
    runs: dict[str, Run] = field(default_factory=dict)
    noise: tuple[Noise, ...] = ()
    whole: str | None = None
    batch: BatchFacts | None = None


def earlier(run: Run) -> Earlier:
    return Earlier(run.seconds, run.saturated, run.range)


def joined(before: Earlier, now: Run) -> Run:
    """A run that went on."""
    return replace(
        now,
        seconds=before.seconds + now.seconds,
        saturated=before.saturated | now.saturated,
        range=_wider(before.range, now.range),
    )


def _wider(one: Range | None, other: Range | None) -> Range | None:
    """What both saw: the nearest to the end, and what went beyond it first."""
    if one is None or other is None:
        return one or other
    nearest = max(one, other, key=lambda seen: seen.largest / seen.limit)
    if one.first_nonfinite is None and other.first_nonfinite is None:
        return nearest
    first = one if one.first_nonfinite is not None else other
    return replace(
        first,
        limit=nearest.limit,
        largest=nearest.largest,
        largest_module=nearest.largest_module,
        nonfinite_modules=max(one.nonfinite_modules, other.nonfinite_modules),
    )


def of_file(
    file: File,
    transformers_bytes: int,
    seconds: float,
    reached: Range | None,
    cache: Sizes | None = None,
) -> Run:
    """Of weights that a quantised file holds: its bytes are the file's, whatever they were decoded to."""
    assert file.facts is not None
    inputs = file.facts.inputs
    besides = [f"What its kernels round besides is not in these figures: {inputs}."] if inputs else []
    return Run(
        footprint=file.footprint,
        transformers_bytes=transformers_bytes,
        converted=file.converted,
        left=file.left,
        saturated={},
        note=" ".join((f"The weights of {file.facts.label}, decoded and run in FP32.", *besides, *file.facts.notes)),
        seconds=seconds,
        range=reached,
        cache=cache,
    )
