"""The measure ``caption``: the same pictures, captioned greedily in every precision."""

import hashlib
import math
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from io import BytesIO
from typing import Any

from PIL import Image

from qfund.checkpoints import checkpoint
from qfund.core.metrics.estimates import estimates
from qfund.core.progress import Progress
from qfund.features.captions.measure.captioner import Captioner, Made
from qfund.features.captions.request import (
    Caption,
    CaptionRequest,
    Captions,
    PictureCaptions,
    Summary,
    checked,
    mcnemar,
    paired_change,
    share,
    without_bytes,
    worst_first,
)
from qfund.inputs import picture_files, shapes
from qfund.models import environment
from qfund.models import opened as models_opened
from qfund.models.cache import model_cache
from qfund.models.comparison.positions import Candidate, Comparison
from qfund.models.loading import LoadedModel
from qfund.precisions.table import PRECISIONS
from qfund.version import VERSION

_THUMBNAIL = 256  # longest side in pixels of what a result keeps of a given picture


def caption(request: CaptionRequest, progress: Progress = lambda phase, share: None) -> Captions:
    """Measure ``request`` in this process.

    Raises:
        QfundError: anything that is wrong with the request, a picture or the model.
    """
    started = time.perf_counter()
    request = checked(request)
    names = (request.reference, *request.precisions)
    opened = models_opened.opened(request, names, (), progress)
    found = opened.found
    captioner = Captioner(found, request.max_new_tokens)
    opened.size(names)
    pictures = _pictures(request)
    size, how = captioner.batching(pictures[0].image)
    run = _Run(found, captioner, request, pictures, size, opened.sizes, progress)
    for group in opened.groups(request.reference, request.precisions) or [[]]:
        run.run(group)
    reference = run.summary(request.reference)
    notes = [f"{len(pictures):,} picture{'s' * (len(pictures) > 1)}, {how}."]
    if captioner.longest < request.max_new_tokens and reference.unfinished:
        notes.append(f"The model has positions for captions of {captioner.longest} tokens at most.")
    if reference.exact is not None and not reference.exact.count:
        notes.append("This model words its captions otherwise, so that none is exactly right says nothing about it.")
    return Captions(
        qfund=VERSION,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        request=without_bytes(request),
        environment=environment.describe(found.id, opened.revision),
        architecture=found.architecture,
        parameters=run.parameters,
        total=len(pictures),
        reference=reference,
        candidates=tuple(run.summary(name) for name in request.precisions),
        pictures=worst_first(run.result()),
        notes=tuple(notes),
        seconds=time.perf_counter() - started,
    )


@dataclass(frozen=True, slots=True)
class _Shown:
    image: Image.Image
    name: str
    truth: str | None
    png: bytes = b""


def _pictures(request: CaptionRequest) -> list[_Shown]:
    if request.samples:
        drawn = shapes.held_out(range(request.samples))
        return [_Shown(picture.image, f"picture {n}", picture.caption) for n, picture in enumerate(drawn)]
    return [_given(picture.png, picture.name) for picture in request.pictures]


def _given(png: bytes, name: str) -> _Shown:
    # Whoever sent the request may have sent anything with a good header.
    image = Image.open(BytesIO(picture_files.decode(png, name).png)).convert("RGB")
    small = image.copy()
    small.thumbnail((_THUMBNAIL, _THUMBNAIL), Image.Resampling.LANCZOS)
    return _Shown(image, name, None, picture_files.to_png(small))


class _Run:
    """The captions so far, one group of candidates beside the reference after another."""

    def __init__(
        self,
        found: checkpoint.Checkpoint,
        captioner: Captioner,
        request: CaptionRequest,
        pictures: Sequence[_Shown],
        batch: int,
        sizes: dict[str, int],
        progress: Progress,
    ) -> None:
        self.checkpoint, self.captioner, self.request, self.pictures = found, captioner, request, pictures
        self.batch, self.sizes, self.progress = batch, sizes, progress
        self.parameters = 0
        self.footprints: dict[str, int] = {}
        self.captions: dict[str, list[Caption]] = {}
        self.measured: dict[str, Candidate] = {}
        batches = math.ceil(len(pictures) / batch)
        self._steps, self._done = (1 + len(request.precisions)) * (1 + batches), 0

    def _step(self, phase: str) -> None:
        self.progress(phase, min(1.0, self._done / self._steps))
        self._done += 1

    def run(self, candidates: Sequence[str]) -> None:
        names = [self.request.reference, *candidates]
        first = self.request.reference not in self.captions
        comparison = Comparison({name: Candidate() for name in candidates})
        self.captions |= {name: [] for name in candidates}
        reference: list[Caption] = []
        with ExitStack() as stack:
            models: dict[str, LoadedModel] = {}
            for name in names:
                self._step(f"loading {PRECISIONS[name].label}")
                lease = model_cache().lease(self.checkpoint, PRECISIONS[name], self.sizes[name])
                models[name] = stack.enter_context(lease)
                self.footprints[name] = models[name].footprint.bytes
            self.parameters = models[self.request.reference].footprint.parameters
            for start in range(0, len(self.pictures), self.batch):
                some = self.pictures[start : start + self.batch]
                reference += self._captioned(some, models, comparison)
        if first:
            self.captions[self.request.reference] = reference
            self.measured[self.request.reference] = comparison.reference
        self.measured |= comparison.candidates

    def _captioned(
        self, pictures: Sequence[_Shown], models: dict[str, LoadedModel], comparison: Comparison
    ) -> list[Caption]:
        """Caption some pictures in every model (the reference's first); gives the reference's captions."""
        values = self.captioner.pixel_values([picture.image for picture in pictures])
        made: dict[str, list[Made]] = {}
        logits: dict[str, Any] = {}
        for name, loaded in models.items():
            self._step(f"captioning in {PRECISIONS[name].label}")
            made[name] = self.captioner.generate(loaded.model, PRECISIONS[name], values)
            along = made[self.request.reference]
            logits[name] = self.captioner.logits_along(loaded.model, PRECISIONS[name], values, along)
        seen = {name: len(candidate.vectors.get("kl", ())) for name, candidate in comparison.candidates.items()}
        comparison.add_logits(logits[self.request.reference], {name: logits[name] for name in comparison.candidates})
        lengths = [len(caption.ids) for caption in along]
        for name, candidate in comparison.candidates.items():
            apart = _apart(candidate, seen[name], lengths)
            rows = zip(pictures, made[name], along, apart, strict=True)
            self.captions[name] += [self._caption(*row) for row in rows]
        return [self._caption(picture, one) for picture, one in zip(pictures, along, strict=True)]

    def _caption(
        self, picture: _Shown, made: Made, reference: Made | None = None, apart: "_Apart | None" = None
    ) -> Caption:
        tokenizer = self.captioner.tokenizer
        text = tokenizer.decode(made.ids, skip_special_tokens=True).strip()
        found = Caption(
            text=text,
            pieces=tuple(tokenizer.decode([token]) for token in made.ids),
            probabilities=tuple(_rounded(chance) if math.isfinite(chance) else None for chance in made.probabilities),
            ended=made.ended,
            exact=None if picture.truth is None else text == picture.truth,
        )
        if reference is None or apart is None:
            return found
        return replace(
            found,
            first_difference=first_difference(made.ids, reference.ids),
            kl=apart.kl,
            max_logit_diff=apart.max_abs,
            nonfinite=apart.nonfinite,
        )

    def result(self) -> list[PictureCaptions]:
        """All pictures in their order."""
        return [
            PictureCaptions(
                number=number,
                name=picture.name,
                truth=picture.truth,
                sha256=hashlib.sha256(picture.image.tobytes()).hexdigest(),
                png=picture.png,
                reference=self.captions[self.request.reference][number],
                candidates={name: self.captions[name][number] for name in self.request.precisions},
            )
            for number, picture in enumerate(self.pictures)
        ]

    def summary(self, name: str) -> Summary:
        captions, n = self.captions[name], len(self.pictures)
        known = captions[0].exact is not None
        found = Summary(
            precision=name,
            footprint_bytes=self.footprints[name],
            exact=share(sum(bool(caption.exact) for caption in captions), n) if known else None,
            unfinished=sum(not caption.ended for caption in captions),
            nonfinite_positions=self.measured[name].nonfinite,
        )
        if name == self.request.reference:
            return found
        pairs = [
            (bool(a.exact), bool(b.exact)) for a, b in zip(self.captions[self.request.reference], captions, strict=True)
        ]
        broken, mended = pairs.count((True, False)), pairs.count((False, True))
        metrics = estimates(self.measured[name].positions())
        return replace(
            found,
            changed=share(sum(caption.first_difference is not None for caption in captions), n),
            broken=broken,
            mended=mended,
            exact_change=paired_change(broken, mended, n) if known else None,
            chance=mcnemar(broken, mended) if known else None,
            kl_mean=metrics.get("kl_mean"),
            kl_p99=metrics.get("kl_p99"),
            max_abs_logit_diff=metrics.get("max_abs_logit_diff"),
        )


@dataclass(frozen=True, slots=True)
class _Apart:
    """How far a candidate's logits are from the reference's along one caption."""

    kl: float | None
    max_abs: float | None
    nonfinite: int


def _apart(candidate: Candidate, seen: int, lengths: Sequence[int]) -> list[_Apart]:
    """Of the captions of these lengths that were compared last; ``seen`` finite positions were compared before."""
    finite = candidate.finite[-sum(lengths) :]
    found, place = [], 0
    for length in lengths:
        good = sum(finite[place : place + length])
        kl, largest = (candidate.vectors[name].values[seen : seen + good].tolist() for name in ("kl", "max_abs"))
        mean, most = (_rounded(sum(kl) / good), _rounded(max(largest))) if good else (None, None)
        found.append(_Apart(mean, most, length - good))
        place, seen = place + length, seen + good
    return found


def _rounded(value: float) -> float:
    """To six significant digits: half the bytes of a result."""
    return float(f"{value:.6g}")


def first_difference(ids: Sequence[int], reference: Sequence[int]) -> int | None:
    """The first place where two captions have another token, or where one has ended; None where they are equal."""
    for place, pair in enumerate(zip(ids, reference)):  # noqa: B905 - one may be longer
        if pair[0] != pair[1]:
            return place
    return None if len(ids) == len(reference) else min(len(ids), len(reference))
