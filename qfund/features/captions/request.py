"""Captions side by side: what is asked (``CaptionRequest``) and what was found (``Captions``). No torch.

Captions are too sure of themselves to tell most precisions apart, so the divergence and the largest logit difference
*along the reference's caption* stand beside them: every precision is given the same words and asked for the next one.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import msgspec

from qfund.core.environment import Environment
from qfund.core.errors import InvalidInput, InvalidSpec
from qfund.core.estimate import Estimate
from qfund.core.request import model_name
from qfund.inputs import apart, picture_files
from qfund.precisions.precision import STORED
from qfund.precisions.table import PRECISIONS, precision

MODEL = "shapes-blip"
DEFAULT_PRECISIONS = ("bf16", "int8", "int4", "int3", "int2")
DEFAULT_SAMPLES = 500
MAX_SAMPLES = 2000
MAX_PICTURES = 16
DEFAULT_TOKENS = 30
MAX_TOKENS = 256
_Z = 1.959964  # of 95 %


@dataclass(frozen=True, slots=True)
class GivenPicture:
    """A picture that somebody gave; ``qfund.inputs.picture_files`` makes its bytes small and safe."""

    name: str
    png: bytes


@dataclass(frozen=True, slots=True)
class CaptionRequest:
    """What to caption.

    Attributes:
        model, revision, reference, precisions: as in a comparison's ``Spec``; the reference is no candidate.
        samples: this many held-out pictures that qfund draws (``shapes.held_out``); 0 for the given ones.
        pictures: given in place of drawn ones.
        max_new_tokens: the longest caption; a model with fewer positions stops there.
    """

    model: str
    precisions: tuple[str, ...] = DEFAULT_PRECISIONS
    reference: str = "fp32"
    samples: int = DEFAULT_SAMPLES
    pictures: tuple[GivenPicture, ...] = ()
    max_new_tokens: int = DEFAULT_TOKENS
    revision: str | None = None


def checked(request: CaptionRequest) -> CaptionRequest:
    """The same request in its one canonical form: names known, candidates in table order, pictures small and safe.

    Raises:
        UnknownName: a precision that is not in the table.
        InvalidSpec: a value out of range; both drawn and given pictures, or neither.
        InvalidInput: a given picture that cannot be read.
    """
    model = model_name(request.model)
    if not request.precisions:
        raise InvalidSpec("No precision is named.", f"Choose among: {', '.join(PRECISIONS)}.")
    for name in (request.reference, *request.precisions):
        if precision(name).family == STORED:
            raise InvalidSpec(f"{name} is for checkpoints that are quantised already.", "Choose another precision.")
    if request.samples and request.pictures:
        raise InvalidSpec("Both drawn and given pictures are asked for.", "Give pictures, or a number of samples.")
    if not request.samples and not request.pictures:
        raise InvalidSpec("No picture is asked for.", "Give pictures, or a number of samples.")
    if not 0 <= request.samples <= MAX_SAMPLES:
        raise InvalidSpec(f"samples is {request.samples}.", f"Give a number from 1 to {MAX_SAMPLES:,}.")
    if len(request.pictures) > MAX_PICTURES:
        raise InvalidInput(f"{len(request.pictures)} pictures are too many.", f"Give at most {MAX_PICTURES} at once.")
    if not 1 <= request.max_new_tokens <= MAX_TOKENS:
        raise InvalidSpec(f"max_new_tokens is {request.max_new_tokens}.", f"Give a number from 1 to {MAX_TOKENS}.")
    return replace(
        request,
        model=model,
        precisions=tuple(name for name in PRECISIONS if name in request.precisions and name != request.reference),
        pictures=tuple(map(_ready, request.pictures)),
        revision=request.revision or None,
    )


def _ready(picture: GivenPicture) -> GivenPicture:
    name = picture_files.clean_name(picture.name)
    png = picture.png if picture_files.is_ready(picture.png) else apart.decode(picture.png, name).png
    return GivenPicture(name, png)


@dataclass(frozen=True, slots=True)
class Share:
    """``count`` of ``of``, with Wilson's 95 % interval of the share behind it (E. B. Wilson, 1927)."""

    count: int
    of: int
    low: float
    high: float

    @property
    def value(self) -> float:
        return self.count / self.of


def share(count: int, of: int) -> Share:
    """``of`` is at least 1."""
    p, z2 = count / of, _Z**2
    middle = (p + z2 / (2 * of)) / (1 + z2 / of)
    half = _Z / (1 + z2 / of) * math.sqrt(p * (1 - p) / of + z2 / (4 * of**2))
    return Share(count, of, min(p, max(0.0, middle - half)), max(p, min(1.0, middle + half)))


@dataclass(frozen=True, slots=True)
class Caption:
    """One picture's greedy caption in one precision; numbers have six significant digits.

    Attributes:
        pieces: the text of each token that was made, the end token too.
        probabilities: of each of them when it was made; None where logits were not finite.
        ended: whether the end token came before the longest length.
        exact: whether the text is exactly the picture's caption; None where nobody knows it.
        first_difference: place of the first token that is not the reference's; None where all are equal.
        kl: mean KL(reference ‖ this) in nat along the reference's caption; None where nothing was finite.
        max_logit_diff: largest |difference of logits| there.
        nonfinite: positions there whose logits are not finite in either.
    """

    text: str
    pieces: tuple[str, ...]
    probabilities: tuple[float | None, ...]
    ended: bool
    exact: bool | None = None
    first_difference: int | None = None
    kl: float | None = None
    max_logit_diff: float | None = None
    nonfinite: int = 0


@dataclass(frozen=True, slots=True)
class PictureCaptions:
    """One picture with its captions.

    Attributes:
        number: its place among those that were asked for, from 0. Of a drawn one ``shapes.held_out([number])``.
        truth: the caption that it was drawn from; None for a given one.
        sha256: of the RGB values that were shown to the models' image processors.
        png: of a given picture, small, to look at; empty for a drawn one, which can be drawn again.
        candidates: precision → caption.
    """

    number: int
    name: str
    truth: str | None
    sha256: str
    png: bytes
    reference: Caption
    candidates: dict[str, Caption]

    @property
    def changed(self) -> int:
        """In how many candidates the caption is not the reference's."""
        return sum(caption.first_difference is not None for caption in self.candidates.values())


@dataclass(frozen=True, slots=True)
class Summary:
    """One precision over all pictures.

    Attributes:
        footprint_bytes: stored weights, scales and buffers, counted.
        exact: captions that are exactly right; None where nobody knows.
        changed: captions that are not the reference's; None for the reference.
        broken, mended: captions that are right in the reference only, and in this precision only.
        exact_change: the share of exact captions minus the reference's, paired picture by picture:
            (mended − broken) / n with the standard error √(mended + broken − (mended − broken)² / n) / n.
        chance: of so uneven a split of broken and mended where both are equally likely: McNemar's exact test,
            two-sided.
        kl_mean, kl_p99, max_abs_logit_diff: along the reference's captions, as in ``qfund.core.metrics.table``.
        unfinished: captions that reached the longest length without an end.
    """

    precision: str
    footprint_bytes: int
    exact: Share | None
    unfinished: int = 0
    changed: Share | None = None
    broken: int = 0
    mended: int = 0
    exact_change: Estimate | None = None
    chance: float | None = None
    kl_mean: Estimate | None = None
    kl_p99: Estimate | None = None
    max_abs_logit_diff: Estimate | None = None
    nonfinite_positions: int = 0


@dataclass(frozen=True, slots=True)
class Captions:
    """What was found. ``pictures`` are the worst first; a stored result may hold only the first of ``total``.

    ``request`` names given pictures without their bytes.
    """

    qfund: str
    created: str
    request: CaptionRequest
    environment: Environment
    architecture: str
    parameters: int
    total: int
    reference: Summary
    candidates: tuple[Summary, ...]
    pictures: tuple[PictureCaptions, ...]
    notes: tuple[str, ...] = ()
    seconds: float = 0.0


def paired_change(broken: int, mended: int, n: int) -> Estimate:
    """``Summary.exact_change``; n is at least 1."""
    difference = mended - broken
    return Estimate(difference / n, math.sqrt(mended + broken - difference**2 / n) / n, n, "share")


def mcnemar(broken: int, mended: int) -> float:
    """``Summary.chance``: twice the smaller tail of the binomial distribution with p = 1/2, at most 1."""
    n = broken + mended
    tail = sum(math.comb(n, k) for k in range(min(broken, mended) + 1))
    return min(1.0, 2 * tail * 0.5**n)


def worst_first(pictures: Sequence[PictureCaptions]) -> tuple[PictureCaptions, ...]:
    """Those whose caption changed in most candidates, and of these the ones with the largest divergence, come first."""

    def goodness(picture: PictureCaptions) -> tuple[int, float, int]:
        divergences = [math.inf if caption.kl is None else caption.kl for caption in picture.candidates.values()]
        return -picture.changed, -max(divergences, default=0.0), picture.number

    return tuple(sorted(pictures, key=goodness))


def without_bytes(request: CaptionRequest) -> CaptionRequest:
    """The request as a result keeps it."""
    return replace(request, pictures=tuple(replace(picture, png=b"") for picture in request.pictures))


def to_json(found: Captions) -> bytes:
    """What ``qfund caption --json`` prints."""
    return msgspec.json.encode(found)
