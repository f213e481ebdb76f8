"""Results of captioning made by hand: three drawn pictures in three precisions."""

import hashlib
from dataclasses import replace

from qfund.core.environment import Environment
from qfund.core.estimate import Estimate
from qfund.features.captions.request import (
    Caption,
    CaptionRequest,
    Captions,
    PictureCaptions,
    Summary,
    mcnemar,
    paired_change,
    share,
    without_bytes,
    worst_first,
)
from qfund.inputs import shapes


def make_caption(text: str, truth: str | None, reference: str | None = None, kl: float = 0.0) -> Caption:
    pieces = (*text.split(), "[SEP]")
    others = None if reference is None else (*reference.split(), "[SEP]")
    first = None
    if others is not None and pieces != others:
        first = next((i for i, (a, b) in enumerate(zip(pieces, others, strict=False)) if a != b), len(pieces))
    return Caption(
        text=text,
        pieces=pieces,
        probabilities=tuple(0.9 - 0.01 * place for place in range(len(pieces))),
        ended=True,
        exact=None if truth is None else text == truth,
        first_difference=first,
        kl=None if reference is None else kl,
        max_logit_diff=None if reference is None else 10 * kl,
    )


def make_captions(request: CaptionRequest) -> Captions:
    """For any request: in the last candidate every caption lacks its last word, in the others nothing changes."""
    n = request.samples or len(request.pictures)
    drawn = shapes.held_out(range(request.samples))
    pictures = []
    for number in range(n):
        truth = drawn[number].caption if request.samples else None
        text = truth or "a photo of something"
        candidates = {name: make_caption(text, truth, text, 1e-4) for name in request.precisions}
        for name in request.precisions[-1:]:
            candidates[name] = make_caption(text.rpartition(" ")[0], truth, text, 0.5 + number)
        pictures.append(
            PictureCaptions(
                number=number,
                name=f"picture {number}" if request.samples else request.pictures[number].name,
                truth=truth,
                sha256=hashlib.sha256(drawn[number].image.tobytes()).hexdigest() if request.samples else "",
                png=b"" if request.samples else request.pictures[number].png,
                reference=make_caption(text, truth),
                candidates=candidates,
            )
        )
    known = share(n, n) if request.samples else None
    fine = Summary(request.reference, 4096, known)
    rows = []
    for name in request.precisions:
        worst = name == request.precisions[-1]
        rows.append(
            replace(
                fine,
                precision=name,
                footprint_bytes=1024,
                exact=share(0, n) if worst and known else known,
                changed=share(n if worst else 0, n),
                broken=n if worst and known else 0,
                exact_change=paired_change(n if worst else 0, 0, n) if known else None,
                chance=mcnemar(n if worst else 0, 0) if known else None,
                kl_mean=Estimate(0.5 if worst else 1e-4, 0.01 if worst else None, 9 * n, "nat"),
                kl_p99=Estimate(0.9, None, 9 * n, "nat"),
                max_abs_logit_diff=Estimate(5.0, None, 9 * n, ""),
            )
        )
    return Captions(
        qfund="1.0",
        created="2026-11-25T12:00:00+00:00",
        request=without_bytes(request),
        environment=Environment({"torch": "2.13.0", "transformers": "5.23.0"}, "3.11", "Linux", "cpu", "a CPU", 2, "x"),
        architecture="BlipForConditionalGeneration",
        parameters=1_000_000,
        total=n,
        reference=fine,
        candidates=tuple(rows),
        pictures=worst_first(pictures),
        notes=(f"{n} pictures, made ready by hand.",),
    )
