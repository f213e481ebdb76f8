"""Numbers as people read them."""

import math

from qfund.core.estimate import Estimate
from qfund.core.metrics.table import METRICS
from qfund.core.units import number_text

#: What is nearer than this to 1 or to 100 % is nearly that.
NEARLY = 1e-4


def value_text(value: float, unit: str) -> str:
    """A number alone, with its unit where it has one: ``99.02 %``, ``1.13e-4 nat``, ``× 1.0004``."""
    if not math.isfinite(value):
        return "not finite"
    if unit == "share":
        return f"{_share_digits(value)} %"
    if unit == "×":
        return f"× {value:.4f}" if 0.1 < value < 1000 else f"× {number_text(value)}"
    return f"{number_text(value)} {unit}".strip()


def _share_digits(value: float) -> str:
    """Per cent, never rounded up to 100 when it is less."""
    percent = 100 * value
    text = f"{percent:.2f}"
    if value < 1 and float(text) == 100:
        return ">99.99"
    return text.rstrip("0").rstrip(".") if "." in text else text


def estimate_text(estimate: Estimate, digits: int = 1) -> str:
    """``value ± standard error``, both with the digits that the error allows; the value alone where there is none.

    The error keeps ``digits`` significant digits, one more where it begins with 1. Units are not written.
    """
    value, se = estimate.value, estimate.se
    if not math.isfinite(value):
        return "not finite"
    if unanimous(estimate):
        return f"{100 * value:.0f} ({how_many(estimate)})"
    if estimate.unit == "share":
        value, se = 100 * value, None if se is None else 100 * se
    if se is None or not math.isfinite(se):
        return _share_digits(estimate.value) if estimate.unit == "share" else number_text(value)
    if se == 0:
        return f"{value:.10g} ± 0"
    exponent = math.floor(math.log10(abs(value))) if value else 0
    if -4 < exponent < 6:
        decimals = _decimals(se, digits)
        return f"{value:,.{decimals}f} ± {se:,.{decimals}f}"
    scale = 10.0**exponent
    decimals = _decimals(se / scale, digits)
    return f"{value / scale:.{decimals}f}e{exponent} ± {se / scale:.{decimals}f}e{exponent}"


def unanimous(estimate: Estimate) -> bool:
    """Whether all agree or none does: a share whose error is unknown, and no 0."""
    return estimate.unit == "share" and estimate.value in (0, 1)


def how_many(estimate: Estimate) -> str:
    return f"{'all' if estimate.value else 'none'} of {estimate.n:,}"


def metric_text(name: str, estimate: Estimate, digits: int = 1) -> str:
    """``estimate_text`` for the metric of that name: a cosine keeps enough digits to be told from 1."""
    text = estimate_text(estimate, digits)
    if name.endswith("_cosine") and text.partition(" ")[0].rstrip("0") in ("1.", "1") and estimate.value < 1:
        error = f" ± {number_text(estimate.se)}" if estimate.se else ""
        return cosine_text(estimate.value) + error
    return text


def cosine_text(value: float) -> str:
    """Enough digits to tell a cosine from 1; one within rounding of 1 is 1."""
    gap = 1 - value
    return f"{value:.{max(3, 2 - math.floor(math.log10(gap) + 1e-6))}f}" if gap > 1e-15 else "1"


def _decimals(se: float, digits: int) -> int:
    exponent = math.floor(math.log10(se))
    begins_with_one = se / 10.0**exponent < 1.95
    return min(max(0, digits - 1 - exponent + begins_with_one), 12)


def count_text(count: int) -> str:
    """``4071680`` → ``4.07 M``."""
    for size, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.3g} {letter}"
    return str(count)


def interval_text(name: str, estimate: Estimate, unit: str = "") -> str:
    """``1.0003 (0.9999 to 1.0007)``: the value and its 95 % interval, or alone where it has none: its standard error
    takes positions as independent, and would stand beside intervals that do not."""
    if estimate.low is None or estimate.high is None:
        near_one = estimate.se is None and name in METRICS and METRICS[name].perfect == 1 and estimate.unit == ""
        text = cosine_text(estimate.value) if near_one else metric_text(name, estimate, digits=1 if unit else 2)
        return text.partition(" ± ")[0] + unit
    times = 100 if estimate.unit == "share" else 1
    wide = times * (estimate.high - estimate.low)
    ends = [times * end for end in (estimate.value, estimate.low, estimate.high)]
    value, low, high = (digits_text(end, wide, max(map(abs, ends))) for end in ends)
    return f"{value}{unit} ({low} to {high}{unit})"


def digits_text(value: float, wide: float, size: float) -> str:
    """A number with the digits that an interval so wide allows, two of its width; ``size`` is the largest of the
    numbers that stand together, and decides whether they have an exponent."""
    if not math.isfinite(value) or not 0 < wide < math.inf:
        return number_text(value)
    last = math.floor(math.log10(wide)) - 1  # the power of ten of the last digit that says something
    if size >= 1e-3:
        shown = f"{value:,.{min(12, max(0, -last))}f}"
        return shown if shown.strip("-0.,") else shown.lstrip("-")  # no negative zero
    scale = math.floor(math.log10(size)) if size else last
    return f"{value / 10.0**scale:.{max(0, min(6, scale - last))}f}e{scale}"


def floor_text(name: str, far: float) -> str:
    """What a metric says of mere noise, ``far`` from perfect (``Metric.damage``): ``3.30e-13``, ``0.998``; of one
    that is best at 1 or 100 % that it is nearly there."""
    metric = METRICS[name]
    assert metric.perfect is not None
    if math.isinf(metric.perfect):
        return number_text(-20 * math.log10(far)) if far > 0 else "no noise"
    scale = 100 if metric.unit == "share" else 1
    if not metric.perfect:
        return number_text(scale * far)
    if not far:
        return f"{scale * metric.perfect:g}"
    if far < NEARLY:
        return f"within {scale * NEARLY:g} of {scale * metric.perfect:g}"
    if metric.better == "higher":
        return f"{scale * (metric.perfect - far):.4g}"
    return f"{scale * metric.perfect:g} ± {number_text(scale * far)}"


def heading(metric: str) -> str:
    """``KL divergence, mean (nat)``."""
    unit = METRICS[metric].unit.replace("share", "%")
    return METRICS[metric].label + (f" ({unit})" if unit else "")
