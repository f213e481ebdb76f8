"""The measure ``kv``: the same text with the cache as computed, and rounded in each way where it is written."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import DynamicCache

from qfund.core.errors import UnsupportedModel
from qfund.core.intervals import Vector
from qfund.core.metrics.estimates import estimates
from qfund.core.progress import Progress
from qfund.features.kv.measure.needle import recalled
from qfund.features.kv.request import BANDS, Band, Kv, KvRequest, KvRow, checked
from qfund.models import environment, inputs
from qfund.models import opened as models
from qfund.models.comparison.positions import Candidate, Comparison
from qfund.models.decoding import cache as caches
from qfund.models.decoding.reading import in_turns, must_cache
from qfund.models.forward import arithmetic, explained
from qfund.models.inputs import Batch
from qfund.precisions.caches import keeping, must_round, parts
from qfund.precisions.precision import Precision
from qfund.precisions.table import PRECISIONS
from qfund.version import VERSION


def kv(request: KvRequest, progress: Progress = lambda phase, share: None) -> Kv:
    """
    Raises:
        UnsupportedModel: it generates no tokens, or keeps no cache of transformers' that can be rounded.
        InvalidSpec: a context longer than the model's, or none to keep more tokens back than it has.
        QfundError: anything else that is wrong with the request, the model or the text.
    """
    started = time.perf_counter()
    request = checked(request)
    opened = models.opened(request, (request.precision,), (), progress)
    must_cache(opened.found, opened.task)
    prepared = inputs.prepare(request, opened.source, opened.found, opened.task)
    opened.size((request.precision,))
    row = PRECISIONS[request.precision]
    chunks = [chunk for batch in prepared.batches for chunk in _chunks(batch)]
    longest = max(chunk.ids.shape[1] for chunk in chunks)
    must_round((keeping(name, request.first, request.window) for name in request.kv), longest)
    with opened.loaded((request.precision,), lambda phase: progress(phase, 0.0)) as (loaded,):
        run = _Run(loaded.model, row, request, longest)
        for number, chunk in enumerate(chunks):
            progress(f"reading chunk {number + 1:,} of {len(chunks):,}", number / len(chunks))
            run.chunk(chunk)
        progress("looking for needles", 1.0)
        run.needles(max(chunks, key=lambda chunk: chunk.ids.shape[1]).ids)
    return Kv(
        request=request,
        qfund=VERSION,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        environment=environment.describe(opened.found.id, opened.revision),
        architecture=opened.found.architecture,
        input=prepared.facts,
        tokens=longest,
        reference_bytes=run.reference_bytes,
        rows=tuple(run.row(name, prepared.texts_of_chunks) for name in request.kv),
        seconds=time.perf_counter() - started,
        notes=(*prepared.facts.notes, *opened.notes),
        needles=run.asked,
        recalled=run.recalled(""),
    )


class _Chunk:
    """One chunk of a batch: ids [1, tokens]; which positions are compared, their targets, and its number."""

    def __init__(self, batch: Batch, row: int) -> None:
        mask = batch.arguments.get("attention_mask")
        ids = batch.arguments["input_ids"][row]
        real = torch.ones_like(ids, dtype=torch.bool) if mask is None else mask[row].bool()
        self.ids = ids[real][None]
        scored = torch.ones_like(real) if batch.scored is None else batch.scored[row]
        self.scored = scored[real]
        self.targets = None if batch.targets is None else batch.targets[row][real]
        self.number = int(batch.chunks[row])


def _chunks(batch: Batch) -> Iterator[_Chunk]:
    return (_Chunk(batch, row) for row in range(len(batch.arguments["input_ids"])))


class _Run:
    """The comparison so far. ``depths``: of every compared position, how far into its chunk it stands."""

    def __init__(self, model: Any, row: Precision, request: KvRequest, longest: int) -> None:
        self._model, self._row, self._request, self._longest = model, row, request, longest
        self._candidates = {name: Candidate() for name in request.kv}
        self._depths: list[NDArray[np.int64]] = []
        self._bytes: dict[str, int] = {}
        self.problems: dict[str, str] = {}
        self.reference_bytes = self.asked = 0
        self._recalled: dict[str, int] = {}

    def chunk(self, chunk: _Chunk) -> None:
        plain: Any = caches.plain(self._model.config)
        reference = self._read(chunk.ids, plain)[chunk.scored]
        if chunk.ids.shape[1] == self._longest:
            self.reference_bytes = sum(
                layer.keys.nbytes + layer.values.nbytes
                for layer in plain.layers
                if isinstance(getattr(layer, "keys", None), Tensor)
            )
        others = {}
        for name in self._request.kv:
            if name not in self.problems:
                try:
                    others[name] = self._rounded(name, chunk)[chunk.scored]
                except UnsupportedModel as error:
                    self.problems[name] = str(error)
        if others:
            comparison = Comparison({name: self._candidates[name] for name in others})
            number = torch.full((len(reference),), chunk.number)
            targets = None if chunk.targets is None else chunk.targets[chunk.scored].to(reference.device)
            comparison.add_logits(reference, others, targets, chunks=number.to(reference.device))
        self._depths.append(chunk.scored.nonzero()[:, 0].numpy())

    def needles(self, ids: Tensor) -> None:
        """Passages in a text [1, tokens] asked for again, with the cache as computed (``""``) and with each other."""
        self._recalled[""], self.asked = recalled(
            ids, lambda given: self._read(given, caches.plain(self._model.config))
        )
        for name in self._request.kv:
            if name not in self.problems:

                def read(given: Tensor, name: str = name) -> Tensor:
                    return self._read(given, self._cache(name), *self._request.keeps(name))

                self._recalled[name], _ = recalled(ids, read)

    def recalled(self, name: str) -> float | None:
        return self._recalled[name] / self.asked if self.asked else None

    def _rounded(self, name: str, chunk: _Chunk) -> Tensor:
        cache = self._cache(name)
        found = self._read(chunk.ids, cache, *self._request.keeps(name))
        if chunk.ids.shape[1] == self._longest:
            self._bytes[name] = caches.sizes(cache).stored
        return found

    def _cache(self, name: str) -> DynamicCache:
        return caches.rounding(self._model.config, *parts(name), *self._request.keeps(name))

    @torch.inference_mode()
    def _read(self, ids: Tensor, cache: DynamicCache, first: int = 0, window: int = 0) -> Tensor:
        """Logits [tokens, vocabulary]."""
        found = []
        with explained(self._model, self._row), arithmetic(self._row):
            for begin, end in in_turns(ids.shape[1], first, window):
                given = ids[:, begin:end].to(self._model.device)
                found.append(self._model(input_ids=given, past_key_values=cache, use_cache=True).logits[0])
        return torch.cat(found)

    def row(self, name: str, texts: tuple[int, ...]) -> KvRow:
        if name in self.problems:
            return KvRow(name, problem=self.problems[name])
        candidate = self._candidates[name]
        metrics = estimates(candidate.positions(), texts)
        kl = candidate.vector("kl")
        depths = np.concatenate(self._depths)[np.array(candidate.finite, dtype=bool)]
        return KvRow(
            kv=name,
            bytes=self._bytes[name],
            kl=metrics.get("kl_mean"),
            top1=metrics.get("top1_agreement"),
            bands=() if kl is None else bands(kl, depths, self._longest),
            nonfinite=candidate.nonfinite,
            recalled=self.recalled(name),
        )


def bands(kl: Vector, depths: NDArray[np.int64], longest: int) -> tuple[Band, ...]:
    """Means over equal parts of the context; a part without positions is left out."""
    edges = [longest * number // BANDS for number in range(BANDS + 1)]
    found = []
    for start, end in pairwise(edges):
        inside = kl[(depths >= start) & (depths < end)]
        if len(inside):
            found.append(Band(start, end, float(inside.mean()), len(inside)))
    return tuple(found)
