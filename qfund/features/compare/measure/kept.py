"""What a comparison has gathered, kept on disk after each round: whatever ends it, it goes on from there.

Floats are kept as they are, so that a comparison that was stopped and went on gives what it would have given.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import msgspec
import torch
from torch import Tensor

from qfund.checkpoints.checkpoint import Checkpoint
from qfund.features.compare.measure.drift import Sums
from qfund.features.compare.measure.files import Files
from qfund.features.compare.measure.gathered import REFERENCE, Gathered
from qfund.features.compare.measure.runs import Earlier, Run, earlier
from qfund.features.compare.request.margin import Margin
from qfund.features.compare.request.report import NoiseRun
from qfund.features.compare.request.spec import DEFAULT_TOKENS, Spec
from qfund.models.comparison.column import Column
from qfund.models.comparison.positions import Candidate, Kept
from qfund.models.inputs import Batch
from qfund.stream.begun import digest, disk, place


@dataclass(frozen=True, slots=True)
class _Candidate:
    zeros: int
    nonfinite: int
    kept: dict[int, Kept]
    drift: dict[str, Sums]


@dataclass(frozen=True, slots=True)
class _Notes:
    """``batches``: digests of those that were taken, of ``total``. ``left``: after how many of them a candidate did,
    for the margin ``until``; ``open`` those that the rest of ``total`` would hardly have decided."""

    batches: tuple[str, ...]
    until: Margin | None
    left: dict[str, int]
    looks: dict[str, int]
    seen: int
    vocabulary: int
    largest: list[list[float]]
    looked_at: int
    candidates: dict[str, _Candidate]
    runs: dict[str, Earlier]
    planned: int = 0
    open: tuple[str, ...] = ()
    total: int = 0
    size: float | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """How far a comparison is: after ``done`` batches; ``left`` says after how many a candidate was decided, or left
    ``open``. ``looks`` of ``planned`` are over. ``size`` of batches is a
    multiple of theirs, once it is chosen."""

    done: int
    left: dict[str, int]
    looks: dict[str, int]
    planned: int
    open: tuple[str, ...]
    size: float | None = None


@dataclass(frozen=True, slots=True)
class Begun:
    """Where a comparison begins that somebody stopped."""

    at: Place
    runs: dict[str, Earlier]
    _notes: _Notes
    _tensors: dict[str, Tensor] = field(repr=False)

    def into(self, gathered: Gathered) -> None:
        """Fill one that is new."""
        notes = self._notes
        gathered.vocabulary, gathered.comparison.seen = notes.vocabulary, notes.seen
        gathered.worst.largest, gathered.worst.seen = [list(row) for row in notes.largest], notes.looked_at
        for name, held in notes.candidates.items():
            candidate = gathered.of(name)
            candidate.zeros, candidate.nonfinite, candidate.kept = held.zeros, held.nonfinite, dict(held.kept)
            if held.drift:
                gathered.drift.sums[name] = {block: replace(sums) for block, sums in held.drift.items()}
        for key, tensor in self._tensors.items():
            name, _, what = key.rpartition("/")
            candidate = gathered.of(name)
            if what == "counts":
                candidate.counts = tensor.clone()
            elif what == "finite":
                candidate.finite = tensor.tolist()
            else:
                candidate.vectors[what] = Column(tensor.numpy())


class Rest:
    """What is kept of comparisons of one request, whatever number of tokens it asks for."""

    def __init__(self, spec: Spec, found: Checkpoint, files: Files, batches: Sequence[Batch]) -> None:
        asked = replace(spec, max_tokens=DEFAULT_TOKENS, until=None, libraries=False)
        self._until = spec.until
        self._disk = disk()
        held = (file.id for file in files.values())
        self._key = ("rounds", *place(found), *held, msgspec.json.encode(asked).decode())
        self._digests = tuple(map(digest, batches)) if self._disk.limit else ()

    def begun(self) -> Begun | None:
        """Where to go on; None at the start, or where other batches were taken, or another margin decided who left, or
        some left open of whom more is to be read now."""
        found = self._disk.read(self._key) if self._disk.limit else None
        if found is None:
            return None
        try:
            notes = msgspec.json.decode(found[1].get("state", ""), type=_Notes)
        except msgspec.DecodeError:
            return None
        done = len(notes.batches)
        if notes.batches != self._digests[:done] or (notes.left and notes.until != self._until):
            return None
        if done == len(self._digests):  # who asks for all of it once more means it
            return None
        if notes.open and len(self._digests) > notes.total:
            return None
        at = Place(done, notes.left, notes.looks, notes.planned, notes.open, notes.size)
        return Begun(at, notes.runs, notes, found[0])

    def keep(
        self,
        gathered: Gathered,
        names: Iterable[str],
        runs: Mapping[str, Run],
        at: Place,
    ) -> None:
        """What was gathered until there."""
        if not self._disk.limit:
            return
        tensors: dict[str, Tensor] = {}
        candidates = {}
        for name in (REFERENCE, *names):
            candidate = gathered.of(name)
            tensors |= _tensors(name, candidate)
            drift = gathered.drift.sums.get(name, {})
            candidates[name] = _Candidate(candidate.zeros, candidate.nonfinite, candidate.kept, drift)
        notes = _Notes(
            batches=self._digests[: at.done],
            until=self._until if at.left else None,
            left=dict(at.left),
            looks=dict(at.looks),
            seen=gathered.comparison.seen,
            vocabulary=gathered.vocabulary,
            largest=gathered.worst.largest,
            looked_at=gathered.worst.seen,
            candidates=candidates,
            runs={name: earlier(run) for name, run in runs.items()},
            planned=at.planned,
            open=at.open,
            total=len(self._digests),
            size=at.size,
        )
        self._disk.write(self._key, tensors, {"state": msgspec.json.encode(notes).decode()})


class Floor:
    """The noise of a model in one precision, measured once here: of inputs of one form, whatever they say."""

    def __init__(self, spec: Spec, found: Checkpoint, batches: Sequence[Batch], ways: Iterable[str]) -> None:
        forms = [[len(batch.chunks), *(tuple(part.shape) for part in batch.arguments.values())] for batch in batches]
        self._disk = disk()
        self._key = ("noise", *place(found), spec.reference, repr((spec.also, spec.scoring)), *ways, repr(forms))

    def get(self) -> tuple[NoiseRun, ...] | None:
        found = self._disk.read(self._key) if self._disk.limit else None
        try:
            return None if found is None else msgspec.json.decode(found[1].get("noise", ""), type=tuple[NoiseRun, ...])
        except msgspec.DecodeError:
            return None

    def put(self, noise: Sequence[NoiseRun]) -> None:
        if self._disk.limit:
            self._disk.write(self._key, {"": torch.zeros(1)}, {"noise": msgspec.json.encode(noise).decode()})


def _tensors(name: str, candidate: Candidate) -> dict[str, Tensor]:
    found = {f"{name}/{what}": torch.tensor(column.values) for what, column in candidate.vectors.items()}
    finite = torch.tensor(candidate.finite, dtype=torch.bool)
    return found | {f"{name}/counts": candidate.counts, f"{name}/finite": finite}
