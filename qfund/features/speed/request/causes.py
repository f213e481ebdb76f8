"""Why a run is slower than the reference: causes that its own measurements show, each with the figures that show it.

A cause is named only where what would follow from it was measured too. ``benchmarks/speed.py`` changes each cause and
looks at the effect.
"""

from dataclasses import dataclass

from qfund.core.units import bytes_text, number_text, seconds_text
from qfund.features.speed.request.bounds import decode_share
from qfund.features.speed.request.speed import Point, Run, Speed
from qfund.precisions.files import row_of

#: Decoding explains a gap of which it is such a share: a kernel that has a smaller gap does not decode all weights.
EXPLAINS = (0.5, 1.5)
#: A dtype without arithmetic of its own multiplies at less than this share of fp32's peak.
NATIVE = 0.6
#: Steps that use less of the bandwidth wait for something else.
BUSY = 0.3
#: A step is bound by fixed costs where they are at least this share of it.
FIXED = 0.5

DECODE, PREFILL = "decode", "prefill"
DECODING, ARITHMETIC, SMALL_BATCH, LAUNCHES, NOISE, UNKNOWN = (
    "dequantised at every use",
    "no native arithmetic",
    "batch too small",
    "bound by launches",
    "no clear difference",
    "not explained",
)


@dataclass(frozen=True, slots=True)
class Cause:
    """``name`` of one of those above; ``said`` is the sentence with its evidence."""

    name: str
    said: str


def causes(found: Speed, run: Run, point: Point, phase: str = DECODE) -> tuple[Cause, ...]:
    """Why writing (or reading) is slower than in the reference at a point; none where it is not."""
    ratio = point.decode_ratio if phase == DECODE else point.prefill_ratio
    if run is found.reference or ratio.median >= 1:
        return ()
    if ratio.high >= 1:
        text = f"The interval of the ratio, {ratio.low:.2f} to {ratio.high:.2f}, holds 1."
        return (Cause(NOISE, text),)
    named = [_arithmetic(found, run), _decoding(found, run, point, phase)]
    known = tuple(cause for cause in named if cause is not None)
    if not known and phase == DECODE:
        other = _small_batch(run, point) or _launches(found, run, point)
        known = () if other is None else (other,)
    return known or (Cause(UNKNOWN, "None of the causes that qfund looks for shows in its measurements."),)


def _arithmetic(found: Speed, run: Run) -> Cause | None:
    dtype = row_of(run.precision).dtype
    peaks = found.bounds.peaks
    own, full = peaks.get(dtype), peaks.get(row_of(found.reference.precision).dtype)
    if not own or not full or own >= NATIVE * full:
        return None
    return Cause(
        ARITHMETIC,
        f"A matrix product in {dtype} runs at {number_text(own / 1e9)} GFLOP/s here, in the reference's dtype at "
        f"{number_text(full / 1e9)}.",
    )


def _decoding(found: Speed, run: Run, point: Point, phase: str) -> Cause | None:
    if run.decoding_seconds is None:
        return None
    plain = _plain(found, run).at(point.batch, point.depth)
    if phase == DECODE:
        what, gap = "a step", point.batch / point.decode.median - plain.batch / plain.decode.median
    else:
        what, gap = "a prompt", point.first.median - plain.first.median
    if gap <= 0 or not EXPLAINS[0] <= run.decoding_seconds / gap <= EXPLAINS[1]:
        return None
    return Cause(
        DECODING,
        f"Decoding all weights once, with nothing multiplied, takes {_short(run.decoding_seconds)}; {what} takes "
        f"{_short(gap)} longer than with plain weights.",
    )


def _plain(found: Speed, run: Run) -> Run:
    """The plain cast to the dtype that a run computes in; the reference where that was not timed."""
    dtype = row_of(run.precision).dtype
    casts = (other for other in found.runs if other.backend == "torch" and row_of(other.precision).dtype == dtype)
    return next(casts, found.reference)


def _small_batch(run: Run, point: Point) -> Cause | None:
    """The same weights are faster than the reference's where more tokens share them."""
    if point.prefill_ratio.low > 1:
        where, ratio = f"reading {point.batch * point.depth:,} tokens at once", point.prefill_ratio.median
    else:
        larger = [other for other in run.points if other.depth == point.depth and other.batch > point.batch]
        faster = [other for other in larger if other.decode_ratio.low > 1]
        if not faster:
            return None
        where, ratio = f"writing {faster[0].batch:,} sequences at once", faster[0].decode_ratio.median
    return Cause(SMALL_BATCH, f"It is {ratio:.2f} times as fast as the reference when {where}.")


def _launches(found: Speed, run: Run, point: Point) -> Cause | None:
    """A step costs little more for several sequences, and uses little of the memory's bandwidth."""
    share = decode_share(found.bounds, run, point)
    larger = [other for other in run.points if other.depth == point.depth and other.batch > point.batch]
    if share >= BUSY or not larger:
        return None
    other = larger[-1]
    times = (other.batch / other.decode.median) / (point.batch / point.decode.median)
    more = other.batch / point.batch
    fixed = min(1.0, (more - times) / (more - 1))  # of time = fixed + each sequence's
    if fixed < FIXED:
        return None
    return Cause(
        LAUNCHES,
        f"A step for {other.batch:,} sequences takes {times:.2f} times as long as one for {point.batch:,}, so "
        f"{100 * fixed:.0f} % of it does not grow with the work, and it reads {bytes_text(run.read_bytes)} of weights "
        f"at {100 * share:.0f} % of the memory's bandwidth: calls, not bytes.",
    )


def _short(seconds: float) -> str:
    return f"{1000 * seconds:.2f} ms" if seconds < 0.1 else seconds_text(seconds)
