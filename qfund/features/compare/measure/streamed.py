"""A comparison in one walk over the checkpoint, the model read part by part."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import torch
from greenlet import getcurrent

from qfund.checkpoints.checkpoint import Checkpoint
from qfund.core.progress import Progress
from qfund.features.compare.measure.batches import Sizes
from qfund.features.compare.measure.files import File, Files
from qfund.features.compare.measure.gathered import REFERENCE, Gathered
from qfund.features.compare.measure.noise import Noise
from qfund.features.compare.measure.ranges import Watch
from qfund.features.compare.measure.rounds import Rounds
from qfund.features.compare.measure.runs import Outcome, Run, of_file
from qfund.features.compare.request.report import Range
from qfund.features.compare.request.spec import Spec
from qfund.models import footprint, inputs, tasks
from qfund.precisions.caches import kv_of, weights_of
from qfund.precisions.files import file_names, row_of
from qfund.stream.held.share import share
from qfund.stream.streamed import Streamed
from qfund.stream.walker import NotStreamable, UnknownTail, Walker, Way

#: Bytes of weights, of all precisions together, that are not worth reading again for each round.
HELD = 192 * 1024**2


def streamed_or_why_not(
    spec: Spec,
    found: Checkpoint,
    files: Files,
    task: tasks.Task,
    rounds: Rounds,
    noise: Sequence[Noise],
    budget: int,
    progress: Progress,
) -> Outcome | str:
    """Streamed, if need be with single layers kept in memory, or without a noise run that this model does not take;
    else why not."""
    layers = tiles = True
    while True:
        try:
            return measure_streamed(spec, found, files, task, rounds, noise, budget, progress, layers, tiles)
        except UnknownTail:
            tiles = False
        except NotStreamable as error:
            left = [row for row in noise if row.way.name != error.way]
            if len(left) == len(noise) and not layers:
                return str(error)
            layers, noise = layers and len(left) < len(noise), left


def measure_streamed(
    spec: Spec,
    found: Checkpoint,
    files: Files,
    task: tasks.Task,
    rounds: Rounds,
    noise: Sequence[Noise],
    budget: int,
    progress: Progress,
    layers: bool = True,
    tiles: bool = True,
) -> Outcome:
    """A walk over the checkpoint in each round for the reference and the candidates that still run, in the first for
    the reference's noise too.

    Raises:
        NotStreamable: the model cannot be run part by part.
        OutOfBudget: one part of it needs more than ``budget`` bytes.
        QfundError: anything that is wrong with the checkpoint.
    """
    rounds.begin()
    names = {REFERENCE: spec.reference, **{name: name for name in spec.candidates}}
    ways = [_way(way, name, files) for way, name in names.items()]
    ways += [row.way for row in noise]
    walk = Streamed(found, ways, spec.also, layers, tiles)
    walk.must_fit(budget)
    walk.hold_where_small(min(budget, HELD))
    noise = [row.of_reference_with(walk.lanes.threads) for row in noise]
    for walker, row in zip(walk.walkers[len(names) :], noise, strict=True):
        walker.way = row.way
    outcome = Outcome(rounds.gathered(task, [row.way.name for row in noise], spec.without), noise=tuple(noise))
    outcome.gathered.drift.whole = walk.held
    every, few = walk.walkers, {row.way.name for row in noise}
    walkers = {walker.way.name: walker for walker in every[: len(names)]}
    # Of all dtypes that models run in, fp16 is the one whose end they reach.
    watches = {name: _watch(walker) for name, walker in walkers.items() if walker.way.row.dtype == "float16"}
    arguments = [batch.arguments for batch in rounds.batches]
    seconds = dict.fromkeys(walkers, 0.0)
    outcome.runs = {
        name: rounds.run(name, _run(walk, walker, 0.0, None, files.get(weights_of(names[name]))))
        for name, walker in walkers.items()
    }
    sizes = Sizes(walk, found, task, rounds.batches, rounds.size, rounds.remembered)
    with ExitStack() as stack:
        for watch in watches.values():
            stack.enter_context(watch)
        for part in rounds:
            walk.walkers = [walker for walker in every if walker.way.name in {REFERENCE, *rounds.running} | few]
            listener, took, running, told = _Timed(outcome.gathered), 0.0, 0.0, 0
            chunks = sum(len(batch.chunks) for batch in rounds.batches[part])
            first = max((row.way.batches or 0 for row in noise), default=0) if few else 0
            for batches in sizes.parts(rounds.batches[part], first):
                outcome.gathered.batches, own = batches, sum(len(batch.chunks) for batch in batches)
                shown, started = rounds.progress(progress, told / chunks, own / chunks), time.perf_counter()
                walk.run([batch.arguments for batch in batches], listener, shown)
                took, told = took + time.perf_counter() - started, told + own
                for name, walker in walkers.items():
                    seconds[name] += walker.seconds if walker in walk.walkers else 0.0
                running += sum(walker.seconds for walker in walk.walkers)
                rounds.noise += sum(walker.seconds for walker in walk.walkers if walker.way.name in few)
                walk.walkers, few = [walker for walker in walk.walkers if walker.way.name not in few], set()
            rounds.size, outcome.batch = sizes.chosen, sizes.facts
            for name, walker in walkers.items():
                reached = None
                if name in watches:
                    watches[name].read()
                    reached = _range(walk, walker, watches[name])
                outcome.runs[name] = rounds.run(
                    name, _run(walk, walker, seconds[name], reached, files.get(weights_of(names[name])))
                )
            rounds.over(outcome, took, listener.seconds, running)
    if rounds.kept:
        sizes.keep()
    for name, walker in walkers.items():
        if name not in watches and outcome.gathered.of(name).nonfinite:
            reached = _watched(Streamed(found, [walker.way], spec.also, layers, tiles), arguments)
            outcome.runs[name] = replace(outcome.runs[name], range=reached)
    return outcome


def measure_noise(
    spec: Spec,
    found: Checkpoint,
    files: Files,
    task: tasks.Task,
    batches: Sequence[inputs.Batch],
    noise: Sequence[Noise],
    budget: int,
) -> Outcome | None:
    """The reference and its noise alone, on these batches; None where the model is not run part by part."""
    rounds = Rounds(batches, ())
    own = tuple(file for name, file in file_names(spec.files).items() if name == spec.reference)
    alone = replace(spec, precisions=(), files=own, kv=())
    found_or_why = streamed_or_why_not(alone, found, files, task, rounds, noise, budget, lambda phase, share: None)
    return found_or_why if isinstance(found_or_why, Outcome) else None


def _way(way: str, name: str, files: Files) -> Way:
    file = files.get(weights_of(name))
    row = file.row if file else row_of(name)
    return Way(way, row, checkpoint=file.checkpoint if file else None, kv=kv_of(name))


def _run(walk: Streamed, walker: Walker, seconds: float, reached: Range | None, file: File | None) -> Run:
    model, conversion = walker.frame.model, walker.frame.conversion
    if file is not None and file.checkpoint is not None:
        return of_file(file, int(model.get_memory_footprint()), seconds, reached, walker.cache)
    return Run(
        footprint=footprint.stored(model),
        transformers_bytes=int(model.get_memory_footprint()),
        converted=conversion.plan.converted if conversion else (),
        left=conversion.plan.left if conversion else (),
        saturated=walk.quantized.saturated.get(walker.way.row.name, {}),
        note=" ".join(conversion.notes) or None if conversion else None,
        seconds=seconds,
        range=reached,
        cache=walker.cache,
    )


def _range(walk: Streamed, walker: Walker, watch: Watch) -> Range | None:
    blamed = watch.blamed
    with walk.filled(walker.frame, blamed) if blamed is not None else nullcontext():
        return watch.result


class _Timed:
    """Gives on what it hears, and counts the seconds of the machine's time that it takes to take it in."""

    def __init__(self, listener: Gathered) -> None:
        self._listener, self._taken = listener, list[float]()

    @property
    def seconds(self) -> float:
        return sum(self._taken)

    def block(self, name: str, way: Way, batch: int, hidden: torch.Tensor) -> None:
        with self._counted():
            self._listener.block(name, way, batch, hidden)

    def output(self, batch: int, outputs: Mapping[str, Any]) -> None:
        with self._counted():
            self._listener.output(batch, outputs)

    def tile(self, batch: int, start: int, vocabulary: int, logits: Mapping[str, Any]) -> None:
        with self._counted():
            self._listener.tile(batch, start, vocabulary, logits)

    @contextmanager
    def _counted(self) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self._taken.append(share() * (time.perf_counter() - started))  # lanes may be here at once


class _Ignore:
    """A listener that takes in nothing."""

    def block(self, name: str, way: Way, batch: int, hidden: torch.Tensor) -> None: ...

    def output(self, batch: int, outputs: Mapping[str, Any]) -> None: ...

    def tile(self, batch: int, start: int, vocabulary: int, logits: Mapping[str, Any]) -> None: ...


def _watch(walker: Walker) -> Watch:
    """Of its own forwards, and of those of the reference's noise: others with another cache run the same weights."""
    kv = walker.way.kv
    return Watch(walker.frame.model, counts=lambda: getattr(getcurrent(), "way", walker.way).kv == kv)


def _watched(walk: Streamed, batches: Sequence[Mapping[str, torch.Tensor]]) -> Range | None:
    """A second walk, of a precision whose outputs were not finite: rare, so that no other model is watched at first."""
    with Watch(walk.walkers[0].frame.model) as watch:
        walk.run(batches, _Ignore())
    # Where no module of its own is to blame, the reference is.
    return _range(walk, walk.walkers[0], watch) if watch.blamed is not None else None
