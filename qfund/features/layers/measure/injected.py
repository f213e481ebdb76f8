"""The measure ``layers``: what rounding does to each module's own output, of every module and precision in one pass.

The reference runs; each of its modules that some precision converts also runs in that precision, on the very inputs
that the reference gave it. So errors do not add up along the model: what is seen is what each module does by itself.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import torch
from torch import Tensor

from qfund.core.progress import Progress
from qfund.features.layers.measure.gradient import Scores, scores
from qfund.features.layers.measure.magnitudes import Magnitudes, loudest_group
from qfund.features.layers.measure.opening import Opening, notes, opening
from qfund.features.layers.measure.places import Place
from qfund.features.layers.request.asked import checked
from qfund.features.layers.request.modules import Group, Injected, Layers, LayersRequest, Module, Values
from qfund.models import environment, footprint
from qfund.models.cache import model_cache
from qfund.models.forward import run
from qfund.precisions.precision import Precision
from qfund.stream.borrowing import Forward, borrowed
from qfund.stream.mixed import Mixed
from qfund.stream.walker import NotStreamable, Way
from qfund.version import VERSION

REFERENCE = "reference"


def layers(request: LayersRequest, progress: Progress = lambda phase, share: None) -> Layers:
    """
    Raises:
        QfundError: anything that is wrong with the request or the model.
    """
    started = time.perf_counter()
    request = checked(request)
    opened = opening(request, progress)
    errors, seen, sizes, whole = _measured(opened, request.also, progress)
    foretold = scores(opened, progress) if request.gradient else {}
    return Layers(
        request=request,
        qfund=VERSION,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        environment=environment.describe(opened.opened.found.id, opened.opened.revision),
        architecture=opened.opened.found.architecture,
        input=opened.prepared.facts,
        modules=tuple(
            _module(place, seen[name], errors, sizes, foretold)
            for name, place in opened.places.every.items()
            if seen[name].ran
        ),
        seconds=time.perf_counter() - started,
        whole=whole,
        notes=(*notes(opened), *_silent(seen)),
    )


def noise(opened: Opening, also: Sequence[str], progress: Progress) -> Scores:
    """Of every module in every precision that converts it: Σ(y′ − y)² / Σy² of its own output, 0 of modules that this
    text does not run. It is in no unit of the model's outputs.

    Raises:
        QfundError: the model cannot be run.
    """
    errors, *_ = _measured(opened, also, progress)
    return {key: error.noise / error.signal if error.signal else 0.0 for key, error in errors.items()}


def _measured(
    opened: Opening, also: Sequence[str], progress: Progress
) -> tuple["Errors", dict[str, "_Seen"], "Sizes", str | None]:
    """The pass; last why whole models were loaded, where they were."""
    errors = {(name, row): _Error() for row, names in opened.places.of.items() for name in names}
    seen = {name: _Seen(place) for name, place in opened.places.every.items()}
    try:
        return errors, seen, _streamed(opened, also, errors, seen, progress), None
    except NotStreamable as error:
        why = str(error)
    errors = {key: _Error() for key in errors}
    seen = {name: _Seen(place) for name, place in opened.places.every.items()}
    return errors, seen, _whole(opened, errors, seen, progress), why


Errors = dict[tuple[str, str], "_Error"]
#: Precision → module → bytes of its tensors.
Sizes = dict[str, dict[str, int]]


@dataclass(slots=True)
class _Error:
    """Sums of squares over all outputs of a module: of the reference's, the other's, and of their difference."""

    signal: float = 0.0
    other: float = 0.0
    noise: float = 0.0
    nonfinite: int = 0

    def add(self, output: Tensor, square: float, other: Tensor) -> None:
        """``square`` is that of ``output``, which several precisions are held against."""
        a, b = output, other.float()
        sums = square, _square(b), _square(b - a)
        if not all(map(math.isfinite, sums)):
            good = a.isfinite() & b.isfinite()
            self.nonfinite += int((~good).sum())
            a, b = a[good], b[good]
            sums = _square(a), _square(b), _square(b - a)
        self.signal += sums[0]
        self.other += sums[1]
        self.noise += sums[2]

    def injected(self, size: int, score: float | None) -> Injected:
        signal, noise = self.signal, self.noise
        lengths = math.sqrt(signal * self.other)
        # With no difference of two large numbers: 1 − cos = (|b − a|² − (|b| − |a|)²) / 2|a||b|.
        apart = noise - (math.sqrt(self.other) - math.sqrt(signal)) ** 2
        return Injected(
            relative_l2=math.sqrt(noise / signal) if signal else float(noise > 0),
            sqnr=10 * math.log10(signal / noise) if noise and signal else None,
            cosine=1 - apart / (2 * lengths) if lengths else float(noise == 0),
            bytes=size,
            nonfinite=self.nonfinite,
            score=score,
        )


def _square(values: Tensor) -> float:
    return float(torch.linalg.vector_norm(values, dtype=torch.float64)) ** 2


class _Seen:
    """What the reference's module is given and holds."""

    def __init__(self, place: Place) -> None:
        self.place, self.ran = place, False
        self.inputs: Magnitudes | None = None
        self.weights: Values | None = None
        self.group: Group | None = None

    def weight(self, model: Any) -> None:
        """Look at the weight, which is in memory now."""
        held = Magnitudes()
        matrix = self.place.matrix(model)
        held.add(matrix)
        self.weights, self.group = held.values(), loudest_group(matrix)


@contextmanager
def _observed(
    model: Any,
    module_in: Callable[[str, str], Forward],
    errors: Errors,
    seen: Mapping[str, _Seen],
) -> Iterator[None]:
    """While the block runs, every module of ``seen`` also runs in its precisions, and what it is given is looked at."""
    last: list[Any] = [None, None]  # several modules in a row are given the same tensor
    rows: dict[str, list[str]] = {}
    for name, row in errors:
        rows.setdefault(name, []).append(row)

    def look(name: str, given: Tensor) -> None:
        held = seen[name].inputs = seen[name].inputs or Magnitudes()
        if last[0] is not given:
            fresh = Magnitudes()
            fresh.add(given)
            last[:] = given, fresh
        held.join(last[1])

    def hook(name: str) -> Callable[..., None]:
        def ran(module: Any, args: tuple[Any, ...], named: dict[str, Any], output: Any) -> None:
            record = seen[name]
            if record.weights is None:
                record.weight(model)
            if args and isinstance(args[0], Tensor) and args[0].is_floating_point():
                look(name, args[0])
            own = _first(output).float()
            square = _square(own)
            for row in rows.get(name, ()):
                errors[name, row].add(own, square, _first(module_in(name, row)(*args, **named)))
            record.ran = True

        return ran

    with ExitStack() as stack:
        for name in seen:
            handle = model.get_submodule(name).register_forward_hook(hook(name), with_kwargs=True)
            stack.callback(handle.remove)
        yield


def _first(output: Any) -> Tensor:
    found: Tensor = output[0] if isinstance(output, tuple | list) else output
    return found


def _streamed(
    opened: Opening, also: Sequence[str], errors: Errors, seen: Mapping[str, _Seen], progress: Progress
) -> Sizes:
    """
    Raises:
        NotStreamable: the model cannot be run part by part.
    """
    walk = Mixed(opened.opened.as_read, Way(REFERENCE, opened.reference), opened.rows, also=also)
    walk.must_fit(model_cache().budget)
    with _observed(walk.reference.model, walk.module_in, errors, seen):
        walk.run([batch.arguments for batch in opened.prepared.batches], _Deaf(), progress)
    return {
        name: opened.places.sizes(footprint.stored(frame.model))
        for name, frame in {opened.reference.name: walk.reference, **walk.frames}.items()
    }


class _Deaf:
    """A listener to whom the model's outputs are nothing."""

    def block(self, name: str, way: Way, batch: int, hidden: Tensor) -> None: ...

    def output(self, batch: int, outputs: Mapping[str, Any]) -> None: ...

    def tile(self, batch: int, start: int, vocabulary: int, logits: Mapping[str, Any]) -> None: ...


def _whole(opened: Opening, errors: Errors, seen: Mapping[str, _Seen], progress: Progress) -> Sizes:
    """Two whole models at a time: the reference, and a precision."""
    sizes: Sizes = {}
    for number, row in enumerate(opened.rows):
        asked = {key: error for key, error in errors.items() if key[1] == row.name}

        def step(phase: str, share: float = number / len(opened.rows)) -> None:
            progress(phase, share)

        with opened.opened.loaded((opened.reference.name, row.name), step) as (reference, other):
            step(f"running {row.label}")

            def module_in(name: str, _: str, model: Any = other.model, row: Precision = row) -> Forward:
                return borrowed(model.get_submodule(name), row, opened.reference)

            # What the reference is given is looked at once.
            looked = {name: _Seen(record.place) for name, record in seen.items()} if number else seen
            with _observed(reference.model, module_in, asked, looked):
                for batch in opened.prepared.batches:
                    run(reference.model, batch, opened.reference)
            for name, record in looked.items():
                seen[name].ran |= record.ran
            sizes[opened.reference.name] = opened.places.sizes(reference.footprint)
            sizes[row.name] = opened.places.sizes(other.footprint)
    return sizes


def _module(place: Place, seen: _Seen, errors: Errors, sizes: Sizes, foretold: Scores) -> Module:
    assert seen.weights is not None and seen.group is not None
    reference, *_ = sizes
    return Module(
        name=place.name,
        kind=place.kind,
        block=place.block,
        shape=place.shape,
        bytes=sizes[reference][place.name],
        injected={
            row: error.injected(sizes[row][name], foretold.get((name, row)))
            for (name, row), error in errors.items()
            if name == place.name
        },
        weights=seen.weights,
        group=seen.group,
        inputs=seen.inputs.values() if seen.inputs else None,
        channels=seen.inputs.loudest() if seen.inputs else (),
    )


def _silent(seen: Mapping[str, _Seen]) -> tuple[str, ...]:
    """Modules that a text does not run: of towers for pictures, experts that are chosen elsewhere."""
    never = [name for name, record in seen.items() if not record.ran]
    few = ", ".join(never[:3]) + " …" * (len(never) > 3)
    return (f"{len(never):,} modules never ran on this text and are not listed: {few}.",) if never else ()
