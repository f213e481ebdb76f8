"""The measure ``speed``: every precision and backend that runs here, writing in turns beside the reference."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import torch

from qfund.checkpoints.wild.locating import fetched
from qfund.checkpoints.wild.table import open_file
from qfund.core.errors import InvalidInput, UnsupportedModel
from qfund.core.estimate import Spread, quickest, spread
from qfund.core.progress import Progress
from qfund.core.units import seconds_text
from qfund.features.speed.measure import energy, gguf
from qfund.features.speed.measure.bounds import bounds
from qfund.features.speed.measure.made import Made, files, made
from qfund.features.speed.measure.others import Others
from qfund.features.speed.measure.turns import Place, Taken, Turned, turns
from qfund.features.speed.request.speed import Bounds, Point, Run, Speed, SpeedRequest, checked
from qfund.models import environment, tasks
from qfund.models import opened as models
from qfund.models.cache import model_cache
from qfund.models.inputs.tokenizer import position_limits
from qfund.precisions.table import PRECISIONS
from qfund.version import VERSION

#: For warming up and all rounds of all models; a round that has begun is finished.
SECONDS = 180.0
#: For decoding the weights of one model again and again.
LONG = 5.0


def speed(request: SpeedRequest, progress: Progress = lambda phase, share: None) -> Speed:
    """
    Raises:
        UnsupportedModel: it writes no text, or keeps no cache of transformers'.
        InvalidInput: a context longer than the model's.
        QfundError: anything else that is wrong with the request or the model.
    """
    started = time.perf_counter()
    request = checked(request)
    device = environment.torch_device()
    count, counted = energy.meter(str(device))
    timing = _Timing(request, count, progress)
    found = _of_files(timing, request, progress) if request.alone else _of_a_model(timing, request, progress)
    waited, stolen = timing.others.shares
    return Speed(
        request=request,
        qfund=VERSION,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        environment=environment.describe(found.id, found.revision),
        architecture=found.architecture,
        bounds=found.bounds,
        runs=tuple(found.runs.values()),
        refused=found.refused,
        energy=counted,
        seconds=time.perf_counter() - started,
        notes=(*found.notes, *timing.notes),
        waited=waited,
        stolen=stolen,
    )


@dataclass(slots=True)
class _Found:
    """``runs``: name among those timed → what was found of it, the reference first."""

    id: str
    revision: str | None
    architecture: str
    bounds: Bounds
    runs: dict[str, Run] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def _of_a_model(timing: "_Timing", request: SpeedRequest, progress: Progress) -> _Found:
    """In precisions, with files beside."""
    names = (request.reference, *request.precisions)
    opened = models.opened(request, names, request.also, progress)
    if opened.task.name != "causal language model":
        raise UnsupportedModel(
            f"{opened.found.architecture} is a {opened.task.name}: it has no head that continues a text, so there is "
            "no writing to time.",
            "Choose a causal language model, such as pydoc-llama.",
        )
    config = tasks.read_config(opened.found)
    _must_fit_context(request, min(position_limits(config), default=None))
    opened.size(names)
    progress("measuring this machine's bounds", 0.0)
    limits = bounds([PRECISIONS[name].dtype for name in names], environment.torch_device())
    found = _Found(opened.found.id, opened.revision, opened.found.architecture, limits)
    vocabulary = config.get_text_config(decoder=True).vocab_size
    groups = opened.groups(request.reference, request.precisions) or [[]]
    for number, group in enumerate(groups):
        with opened.loaded((request.reference, *group), lambda phase: progress(phase, 0.0)) as loaded:
            by_name = dict(zip((request.reference, *group), loaded, strict=True))
            ready = list(made(request, opened, vocabulary, by_name, found.refused, progress))
            ready += [] if number else files(request, found.refused, progress)
            timed = timing.runs(ready, number, len(groups), found.refused)
            found.runs |= {key: run for key, run in timed.items() if key not in found.runs}
    found.notes += [*opened.notes, *_notes(config)]
    return found


def _of_files(timing: "_Timing", request: SpeedRequest, progress: Progress) -> _Found:
    """GGUF files alone, the first of them the reference.

    Raises:
        UnsupportedModel: llama.cpp is not here, or does not open the first.
    """
    if not gguf.installed():
        raise UnsupportedModel(*gguf.MISSING)
    refused = dict[str, str]()
    ready = list(files(request, refused, progress))
    if not ready or ready[0].precision != request.reference:
        raise UnsupportedModel(next(iter(refused.values())), "Name a GGUF file of a decoder that llama.cpp runs.")
    file = open_file(fetched(request.files[0], model_cache().budget, progress))
    _must_fit_context(request, file.facts.get("max_position_embeddings"))
    progress("measuring this machine's bounds", 0.0)
    limits = bounds(["float32"], environment.torch_device())
    found = _Found(file.id, None, str(file.facts["architecture"]), limits, refused=refused, notes=list(file.notes))
    found.runs |= timing.runs(ready, 0, 1, refused)
    return found


def _must_fit_context(request: SpeedRequest, longest: int | None) -> None:
    needed = max(request.depths) + request.new_tokens
    if longest is not None and needed > longest:
        raise InvalidInput(
            f"A prompt of {max(request.depths):,} tokens and {request.new_tokens:,} that are written are {needed:,}; "
            f"the model reads at most {longest:,}.",
            "Give smaller depths or fewer new tokens.",
        )


class _Timing:
    def __init__(self, request: SpeedRequest, joules: Callable[[], float | None], progress: Progress) -> None:
        self._request, self._joules, self._progress = request, joules, progress
        self.others, self.notes = Others(), list[str]()
        self._places = [(batch, depth) for batch in request.batches for depth in request.depths]

    def runs(self, ready: list[Made], group: int, groups: int, refused: dict[str, str]) -> dict[str, Run]:
        """Of these models, the reference first; ``refused`` takes those that there is no time for."""
        writers = {one.key: one.writer for one in ready}
        with self.others:
            turned = turns(
                writers,
                self._places,
                self._request.new_tokens,
                self._request.rounds,
                SECONDS / groups,
                joules=self._joules,
                told=lambda phase, share: self._progress(phase, (group + share) / groups),
            )
        if group == 0:
            self._places = list(turned.places)  # ratios in every group are at places of the first
            self.notes += _shortened(turned, self._request)
        for key, seconds in turned.left.items():
            refused[key] = (
                f"One round of it would take about {seconds_text(seconds)}, and all share {seconds_text(SECONDS)}. "
                "Time it with fewer others, shorter prompts or smaller batches."
            )
        beside = turned.taken[ready[0].key]
        flops = {depth: ready[0].writer.flops(1, depth) for _, depth in turned.places}  # each sequence by itself
        return {
            one.key: Run(
                precision=one.precision,
                backend=one.backend,
                load_seconds=one.load_seconds,
                stored_bytes=one.writer.stored_bytes,
                read_bytes=one.writer.read_bytes,
                points=tuple(
                    _point(place, own, beside[place], one.writer.cache_bytes(*place), place[0] * flops[place[1]])
                    for place, own in turned.taken[one.key].items()
                ),
                decoding_seconds=_median_seconds(one.decode) if one.decode else None,
                call=one.call,
                note=one.note,
                problem=one.problem,
                compile_seconds=one.compile_seconds,
            )
            for one in ready
            if one.key in turned.taken
        }


def _shortened(turned: Turned, request: SpeedRequest) -> Iterator[str]:
    """What was left out to end in time."""
    if turned.new_tokens < request.new_tokens:
        yield (
            f"Only {turned.new_tokens} tokens were written a turn in place of {request.new_tokens}, so that all are "
            f"timed within {seconds_text(SECONDS)}."
        )
    if turned.without:
        listed = ", ".join(f"{batch:,} × {depth:,} tokens" for batch, depth in turned.without)
        yield (
            f"{listed} would have taken longer than {seconds_text(SECONDS)}: give fewer precisions, or that depth and "
            "batch alone."
        )


def _point(place: Place, own: Taken, reference: Taken, cache: int, flops: int) -> Point:
    batch, depth = place
    return Point(
        batch=batch,
        depth=depth,
        prefill=_rate(batch * depth, quickest(own.prefill)),
        first=quickest(own.prefill),
        decode=_rate(batch, quickest(own.step)),
        prefill_ratio=spread([other / one for one, other in zip(own.prefill, reference.prefill, strict=True)]),
        decode_ratio=spread([other / one for one, other in zip(own.step, reference.step, strict=True)]),
        rounds=len(own.step),
        cache_bytes=cache,
        flops=flops,
        joules=spread(own.joules).median / batch if own.joules else None,
    )


def _rate(tokens: int, seconds: Spread) -> Spread:
    return Spread(tokens / seconds.median, tokens / seconds.high, tokens / seconds.low)


@torch.inference_mode()
def _median_seconds(call: Callable[[], object]) -> float:
    taken, device = list[float](), environment.torch_device()
    while len(taken) < 6 and (len(taken) < 2 or sum(taken) < LONG):
        started = time.perf_counter()
        call()
        environment.wait_for(device)
        taken.append(time.perf_counter() - started)
    return spread(taken[1:]).median


def _notes(config: Any) -> Iterator[str]:
    text = config.get_text_config(decoder=True)
    if any(getattr(text, name, None) for name in ("num_local_experts", "num_experts", "n_routed_experts")):
        yield "A mixture of experts reads some of them for each token; the bound of writing counts all."
