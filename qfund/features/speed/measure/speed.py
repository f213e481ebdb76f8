"""The measure ``speed``: every precision and backend that runs here, writing in turns beside the reference."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import torch

from qfund.checkpoints import catalog
from qfund.core.errors import InvalidInput, QfundError, UnsupportedModel
from qfund.core.estimate import spread
from qfund.core.progress import Progress
from qfund.features.speed.measure import energy
from qfund.features.speed.measure.bounds import bounds
from qfund.features.speed.measure.turns import Place, Taken, turns
from qfund.features.speed.measure.writing import ModelWriter
from qfund.features.speed.request.speed import OWN, TORCH, Point, Run, Speed, SpeedRequest, checked
from qfund.models import environment, tasks
from qfund.models import opened as models
from qfund.models.counting import stored_bytes
from qfund.models.inputs.tokenizer import position_limits
from qfund.models.loading import LoadedModel, read
from qfund.models.opened import Opened
from qfund.precisions import backends
from qfund.precisions.backends import Implementation
from qfund.precisions.precision import Precision
from qfund.precisions.table import PRECISIONS
from qfund.version import VERSION

#: For all rounds of all models; a round that has begun is finished.
SECONDS = 240.0


@dataclass(frozen=True, slots=True)
class _Made:
    """A model that is timed. ``decode`` decodes every converted weight once."""

    row: Precision
    backend: str
    model: Any
    load_seconds: float
    decode: Callable[[], object] | None = None
    call: str = ""
    note: str | None = None
    problem: str | None = None

    @property
    def key(self) -> str:
        return f"{self.row.name} by {self.backend}"


def speed(request: SpeedRequest, progress: Progress = lambda phase, share: None) -> Speed:
    """
    Raises:
        UnsupportedModel: it writes no text, or keeps no cache of transformers'.
        InvalidInput: a context longer than the model's.
        QfundError: anything else that is wrong with the request or the model.
    """
    started = time.perf_counter()
    request = checked(request)
    names = (request.reference, *request.precisions)
    opened = models.opened(request, names, request.also, progress)
    if opened.task.name != "causal language model":
        raise UnsupportedModel(
            f"{opened.found.architecture} is a {opened.task.name}: it has no head that continues a text, so there is "
            "no writing to time.",
            "Choose a causal language model, such as pydoc-llama.",
        )
    config = tasks.read_config(opened.found)
    _must_fit_context(request, config)
    opened.size(names)
    progress("measuring this machine's bounds", 0.0)
    device = environment.torch_device()
    limits = bounds([PRECISIONS[name].dtype for name in names], device)
    count, counted = energy.meter(str(device))
    timing = _Timing(request, config.get_text_config(decoder=True).vocab_size, count, progress)
    runs: dict[str, Run] = {}
    refused: dict[str, str] = {}
    groups = opened.groups(request.reference, request.precisions) or [[]]
    for number, group in enumerate(groups):
        with opened.loaded((request.reference, *group), lambda phase: progress(phase, 0.0)) as loaded:
            made = list(_made(request, opened, dict(zip((request.reference, *group), loaded, strict=True)), refused))
            runs |= {key: run for key, run in timing.runs(made, number, len(groups)).items() if key not in runs}
    return Speed(
        request=request,
        qfund=VERSION,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        environment=environment.describe(opened.found.id, opened.revision),
        architecture=opened.found.architecture,
        bounds=limits,
        runs=tuple(runs.values()),
        refused=refused,
        energy=counted,
        seconds=time.perf_counter() - started,
        notes=(*opened.notes, *_notes(config)),
    )


def _must_fit_context(request: SpeedRequest, config: Any) -> None:
    longest = min(position_limits(config), default=None)
    needed = max(request.depths) + request.new_tokens
    if longest is not None and needed > longest:
        raise InvalidInput(
            f"A prompt of {max(request.depths):,} tokens and {request.new_tokens:,} that are written are {needed:,}; "
            f"the model reads at most {longest:,}.",
            "Give smaller depths or fewer new tokens.",
        )


def _made(
    request: SpeedRequest, opened: Opened, loaded: Mapping[str, LoadedModel], refused: dict[str, str]
) -> Iterator[_Made]:
    """The reference, then every precision by every backend that is asked for and runs here."""
    for name, own in loaded.items():
        row = PRECISIONS[name]
        backend = OWN if row.quantizer else TORCH
        if name == request.reference or not request.backends or backend in request.backends:
            decode = _decoding(own) if row.quantizer and row.product is None else None
            yield _Made(row, backend, own.model, own.seconds, decode, note=own.note)
        for implementation in backends.implementations(name):
            if request.backends and implementation.backend not in request.backends:
                continue
            key = f"{name} by {implementation.backend}"
            if (why := backends.unavailable(implementation, catalog.device())) is not None:
                refused[key] = why
                continue
            made = _converted(opened, implementation, own)
            if isinstance(made, str):
                refused[key] = made
            else:
                yield made


def _decoding(own: LoadedModel) -> Callable[[], object]:
    parts = [own.model.get_submodule(name) for name in own.converted]
    return lambda: [part.weight for part in parts if isinstance(getattr(type(part), "weight", None), property)]


def _converted(opened: Opened, row: Implementation, own: LoadedModel) -> _Made | str:
    """A library's model, or why there is none."""
    try:
        converter = row.load()  # imports the library, which is no part of loading a model
        started = time.perf_counter()
        model = read(opened.found, PRECISIONS[row.precision].dtype).to(own.model.device)
        conversion = converter.apply(model, own.converted)
        seconds = time.perf_counter() - started
        ModelWriter(model, PRECISIONS[row.precision], 2).begin(1, 1)
    except QfundError as error:
        return str(error)
    except (RuntimeError, ValueError, TypeError, NotImplementedError, AssertionError, ImportError) as error:
        # Libraries raise whatever comes to hand for a shape or a dtype that their kernels do not take.
        return f"{row.backend} fails on this model: {type(error).__name__}: {' '.join(str(error).split())[:300]}"
    parts = [model.get_submodule(name) for name in conversion.converted]
    decodes = converter.decodes and PRECISIONS[row.precision].product is None
    left = f"It leaves {len(conversion.left)} modules as they are." if conversion.left else ""
    return _Made(
        row=PRECISIONS[row.precision],
        backend=row.backend,
        model=model,
        load_seconds=seconds,
        decode=(lambda: [converter.values(part) for part in parts]) if decodes else None,
        call=row.call,
        note=" ".join(filter(None, (row.note, left))) or None,
        problem=conversion.problem,
    )


class _Timing:
    def __init__(
        self, request: SpeedRequest, vocabulary: int, joules: Callable[[], float | None], progress: Progress
    ) -> None:
        self._request, self._vocabulary, self._joules, self._progress = request, vocabulary, joules, progress
        self._places = [(batch, depth) for batch in request.batches for depth in request.depths]

    def runs(self, made: list[_Made], group: int, groups: int) -> dict[str, Run]:
        """Of these models, the reference first."""
        writers = {one.key: ModelWriter(one.model, one.row, self._vocabulary) for one in made}
        first = writers[made[0].key]
        flops = {place: first.flops(*place) for place in self._places}
        taken = turns(
            writers,
            self._places,
            self._request.new_tokens,
            self._request.rounds,
            SECONDS / groups,
            joules=self._joules,
            told=lambda share: self._progress("writing in turns", (group + share) / groups),
        )
        beside = taken[made[0].key]
        return {
            one.key: Run(
                precision=one.row.name,
                backend=one.backend,
                load_seconds=one.load_seconds,
                stored_bytes=stored_bytes(one.model),
                read_bytes=read_bytes(one.model),
                points=tuple(
                    _point(place, own, beside[place], writers[one.key].cache_bytes(*place), flops[place])
                    for place, own in taken[one.key].items()
                ),
                decoding_seconds=_median_seconds(one.decode) if one.decode else None,
                call=one.call,
                note=one.note,
                problem=one.problem,
            )
            for one in made
        }


def _point(place: Place, own: Taken, reference: Taken, cache: int, flops: int) -> Point:
    batch, depth = place
    return Point(
        batch=batch,
        depth=depth,
        prefill=spread([batch * depth / seconds for seconds in own.prefill]),
        first=spread(own.prefill),
        decode=spread([batch / seconds for seconds in own.step]),
        prefill_ratio=spread([other / one for one, other in zip(own.prefill, reference.prefill, strict=True)]),
        decode_ratio=spread([other / one for one, other in zip(own.step, reference.step, strict=True)]),
        rounds=len(own.step),
        cache_bytes=cache,
        flops=flops,
        joules=spread(own.joules).median / batch if own.joules else None,
    )


@torch.inference_mode()
def _median_seconds(call: Callable[[], object]) -> float:
    taken = []
    for _ in range(6):
        started = time.perf_counter()
        call()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - started)
    return spread(taken[1:]).median


def read_bytes(model: Any) -> int:
    """Stored bytes that writing one token reads: all but the embeddings, of which a row is taken, unless the output
    head multiplies by the same weight."""
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    weight = embedding._parameters.get("weight")
    if weight is None or (head is not None and head._parameters.get("weight") is weight):
        return stored_bytes(model)
    return stored_bytes(model) - stored_bytes(embedding)


def _notes(config: Any) -> Iterator[str]:
    text = config.get_text_config(decoder=True)
    if any(getattr(text, name, None) for name in ("num_local_experts", "num_experts", "n_routed_experts")):
        yield "A mixture of experts reads some of them for each token; the bound of writing counts all."
