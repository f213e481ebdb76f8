"""Metrics, with how sure they are."""

import math
from collections.abc import Mapping

import pandas as pd

from qfund.core.estimate import Estimate
from qfund.core.metrics.estimates import PERCENTILES
from qfund.core.metrics.table import METRICS
from qfund.core.units import bytes_text, number_text
from qfund.drawing.columns import MODEL_BITS, QUANTIZED_BITS
from qfund.drawing.numbers import cosine_text, metric_text, value_text
from qfund.drawing.phrases import label
from qfund.features.compare.request import verdict
from qfund.features.compare.request.report import HiddenError, NoiseRun, PrecisionResult, Report
from qfund.features.compare.request.verdict import below_floor
from qfund.features.compare.tables.footprints import parameter_bits
from qfund.features.compare.words.candidates import BETTER

#: What can be told of an error along the blocks: its name in a control, its axis and whether that is logarithmic.
DRIFTS = {
    "relative L2": ("‖candidate − reference‖ ÷ ‖reference‖", "relative_l2"),
    "SQNR": ("signal to noise (dB)", "sqnr"),
    "1 − cosine": ("1 − cosine", "cosine"),
}

_NO_DIFFERENCE = "no measurable difference"


def interval_text(name: str, estimate: Estimate) -> str:
    """``1.0003 (0.9999 to 1.0007)``: the value and its 95 % interval, or with its standard error where it has none."""
    if estimate.low is None or estimate.high is None:
        near_one = estimate.se is None and name in METRICS and METRICS[name].perfect == 1 and estimate.unit == ""
        return cosine_text(estimate.value) if near_one else metric_text(name, estimate, digits=2)
    times = 100 if estimate.unit == "share" else 1
    wide = times * (estimate.high - estimate.low)
    ends = [times * end for end in (estimate.value, estimate.low, estimate.high)]
    value, low, high = (digits_text(end, wide, max(map(abs, ends))) for end in ends)
    return f"{value} ({low} to {high})"


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


def metrics_text(report: Report) -> pd.DataFrame:
    """One row a metric, one column a candidate with its 95 % interval, and beside them what is noise. A cell that is
    not above it says so."""
    names = [name for name in METRICS if any(name in result.fidelity for result in report.results)]
    floor = verdict.noise_floor(report)
    rows = []
    for name in names:
        row = {"Metric": heading(name)}
        row |= {label(result.precision): _cell(result, name, floor) for result in report.results}
        row["Noise floor"] = floor_text(name, floor[name]) if name in floor else "–"
        row[f"{label(report.reference.precision)} (reference)"] = _cell(report.reference, name, {})
        rows.append(row | {"Better": BETTER[METRICS[name].better], "Definition": METRICS[name].definition})
    frame = pd.DataFrame(rows, columns=None if rows else ["Metric", "Better", "Definition"])
    # A column in which nothing was measured says nothing.
    return frame[[column for column in frame.columns if frame.empty or not (frame[column] == "–").all()]]


def floor_text(name: str, far: float) -> str:
    """What a metric says of mere noise, ``far`` from perfect (``Metric.damage``): ``3.30e-13``, ``1 − 2.33e-14``."""
    metric = METRICS[name]
    assert metric.perfect is not None
    if math.isinf(metric.perfect):
        return number_text(-20 * math.log10(far)) if far > 0 else "no noise"
    scale = 100 if metric.unit == "share" else 1
    if not metric.perfect:
        return number_text(scale * far)
    perfect = f"{scale * metric.perfect:g}"
    return f"{perfect} {'−' if metric.better == 'higher' else '±'} {number_text(scale * far)}" if far else perfect


def _cell(result: PrecisionResult, name: str, floor: Mapping[str, float]) -> str:
    if name not in result.fidelity:
        return "not finite" if result.nonfinite_positions and not result.fidelity else "–"
    if below_floor(result, name, floor):
        return f"{_NO_DIFFERENCE} ({value_text(result.fidelity[name].value, METRICS[name].unit)})"
    return interval_text(name, result.fidelity[name])


def metrics_by_precision(report: Report) -> pd.DataFrame:
    """``metrics_text`` turned round, for many candidates."""
    columns = metrics_text(report).drop(columns=["Better", "Definition"]).set_index("Metric").T
    columns.columns.name = None
    return columns.rename_axis("Precision").reset_index()


#: What tells most of a run against itself; the table of all metrics has the floor of each.
_NOISE = (
    "kl_mean",
    "kl_max",
    "top1_agreement",
    "perplexity_ratio",
    "max_abs_logit_diff",
    "mean_abs_hidden_diff",
    "max_abs_hidden_diff",
)


def noise(report: Report) -> pd.DataFrame:
    """One row a way in which the reference was run again, with what that changed."""
    shown = [name for name in _NOISE if any(name in run.fidelity for run in report.noise)]
    return pd.DataFrame([_noise(run, shown) for run in report.noise])


def _noise(run: NoiseRun, names: list[str]) -> dict[str, object]:
    row: dict[str, object] = {"The reference, run again": run.meaning, "Positions": run.positions}
    for name in names:
        row[heading(name)] = _noise_text(run.fidelity[name]) if name in run.fidelity else "–"
    return row


def _noise_text(estimate: Estimate) -> str:
    """Of a ratio the distance from 1: with four decimals it would be 1."""
    if estimate.unit == "×" and estimate.value != 1:
        return f"1 {'−' if estimate.value < 1 else '+'} {number_text(abs(estimate.value - 1))}"
    return value_text(estimate.value, "share" if estimate.unit == "share" else "")


def percentiles(report: Report, which: str) -> pd.DataFrame:
    """One row for each candidate and percentile of ``which`` (``"kl"``, ``"kl_reverse"``, ``"delta_p"``)."""
    rows = [
        {
            "precision": result.precision,
            "label": label(result.precision),
            "share": share,
            "name": percentile_name(share),
            "value": value,
        }
        for result in report.results
        for share, value in zip(PERCENTILES, result.percentiles.get(which, ()), strict=False)
    ]
    return pd.DataFrame(rows, columns=["precision", "label", "share", "name", "value"])


def percentile_name(share: float) -> str:
    return {0.0: "smallest", 0.5: "median", 1.0: "largest"}.get(share, f"{100 * share:.10g} %")


def percentiles_text(report: Report) -> pd.DataFrame:
    """One row for each candidate and distribution, one column a percentile."""
    titles = {
        "kl": "KL divergence (nat)",
        "kl_reverse": "KL, reversed (nat)",
        "delta_p": "Δp of the correct token (%-points)",
    }
    rows = []
    for which, title in titles.items():
        for result in report.results:
            values = result.percentiles.get(which)
            if values:
                times = 100 if which == "delta_p" else 1
                named = zip(map(percentile_name, PERCENTILES), values, strict=False)
                cells = {name: number_text(times * value) for name, value in named}
                rows.append({"Of": title, "Precision": label(result.precision)} | cells)
    return pd.DataFrame(rows)


#: Percentiles whose two tails are compared, and how much larger one must be to be called heavier.
TAILS, HEAVIER = ((0.01, 0.99), (0.05, 0.95)), 1.15


def tails(report: Report) -> pd.DataFrame:
    """One row a candidate: what the correct token loses at the worst and gains at the best hundredth of positions, and
    ``heavier``: ``"loss"``, ``"gain"``, ``"neither"`` where both tails, at 1 % and at 5 %, are about alike, or
    ``"unclear"``."""
    rows = []
    for result in report.results:
        values = dict(zip(PERCENTILES, result.percentiles.get("delta_p", ()), strict=False))
        if not values:
            continue
        ratios = [(-values[low], values[high]) for low, high in TAILS]
        loses = all(loss > HEAVIER * max(gain, 0.0) and loss > 0 for loss, gain in ratios)
        gains = all(gain > HEAVIER * max(loss, 0.0) and gain > 0 for loss, gain in ratios)
        alike = all(max(loss, gain) <= HEAVIER * min(loss, gain) for loss, gain in ratios)
        rows.append(
            {
                "precision": result.precision,
                "label": label(result.precision),
                "loss": ratios[0][0],
                "gain": ratios[0][1],
                "heavier": "loss" if loses else "gain" if gains else "neither" if alike else "unclear",
            }
        )
    return pd.DataFrame(rows, columns=["precision", "label", "loss", "gain", "heavier"])


def buckets(report: Report) -> pd.DataFrame:
    """One row for each candidate, bucket and metric: how much differs where the reference is sure or is not."""
    rows = [
        {
            "precision": result.precision,
            "label": label(result.precision),
            "bucket": f"{100 * bucket.low:.10g}–{100 * bucket.high:.10g} %",
            "metric": name,
            "value": estimate.value,
            "low": estimate.low if estimate.low is not None else _end(estimate, -1),
            "high": estimate.high if estimate.high is not None else _end(estimate, 1),
            "n": estimate.n,
        }
        for result in report.results
        for bucket in result.buckets
        for name, estimate in bucket.estimates.items()
    ]
    return pd.DataFrame(rows, columns=["precision", "label", "bucket", "metric", "value", "low", "high", "n"])


def _end(estimate: Estimate, side: int) -> float:
    return estimate.value + side * 1.96 * (estimate.se or 0.0)


def drift(report: Report, which: str) -> pd.DataFrame:
    """One row for each candidate and block, in the order of execution, by a name of ``DRIFTS``. ``value`` is not a
    number where nothing differs (no axis shows that) or nothing is finite; ``broken`` marks the first block of a
    candidate after which values are not finite."""
    rows = []
    for result in report.results:
        first = next((place for place, error in enumerate(result.drift) if error.nonfinite), None)
        for place, error in enumerate(result.drift):
            rows.append(
                {
                    "precision": result.precision,
                    "label": label(result.precision),
                    "place": place + 1,
                    "block": error.block,
                    "value": _drift(error, which),
                    "nonfinite": error.nonfinite,
                    "broken": place == first,
                }
            )
    return pd.DataFrame(rows, columns=["precision", "label", "place", "block", "value", "nonfinite", "broken"])


def _drift(error: HiddenError, which: str) -> float:
    if which == "SQNR":
        return math.nan if error.sqnr is None else error.sqnr
    value = error.relative_l2 if which == "relative L2" else 1 - error.cosine
    # A cosine is rounded at its 16th digit: what is left of 1 − cosine below that says nothing.
    return value if value > (1e-15 if which == "1 − cosine" else 0) else math.nan


def paired_text(found: Mapping[str, Estimate], one: str, other: str) -> pd.DataFrame:
    """The differences of two candidates, one row a metric, and which of them is the closer one, where that can be
    told."""
    rows = []
    for name, estimate in found.items():
        row = METRICS.get(name)
        rows.append(
            {
                "Metric": heading(name) if row else name,
                "Difference and 95 % interval": interval_text(name, estimate),
                "": _closer(name, estimate, label(one), label(other)),
            }
        )
    return pd.DataFrame(rows, columns=["Metric", "Difference and 95 % interval", ""])


def _closer(name: str, estimate: Estimate, one: str, other: str) -> str:
    none = 1.0 if estimate.unit == "×" else 0.0
    if estimate.low is None or estimate.high is None:
        return "too few chunks to tell"
    if estimate.low <= none <= estimate.high:
        return "not told apart"
    better = METRICS[name].better if name in METRICS else "lower"
    larger = estimate.low > none
    if better == "one" or name == "perplexity":  # the lower perplexity reads the text better
        return f"{other if larger else one} reads this text better"
    return f"{one if larger == (better == 'higher') else other} is closer to the reference"


def fidelity(report: Report) -> pd.DataFrame:
    """One row for each candidate and metric."""
    rows = [
        {
            "precision": result.precision,
            "candidate": label(result.precision),
            "metric": name,
            "name": METRICS[name].label if name in METRICS else name,
            "value": estimate.value,
            "se": estimate.se,
            "n": estimate.n,
            "unit": METRICS[name].unit if name in METRICS else estimate.unit,
            "better": METRICS[name].better if name in METRICS else "",
            "definition": METRICS[name].definition if name in METRICS else "",
        }
        for result in report.results
        for name, estimate in result.fidelity.items()
    ]
    columns = ["precision", "candidate", "metric", "name", "value", "se", "n", "unit", "better", "definition"]
    return pd.DataFrame(rows, columns=columns)


def _shown(result: PrecisionResult, name: str) -> str:
    if name in result.fidelity:
        return metric_text(name, result.fidelity[name], digits=2)
    return "not finite" if result.nonfinite_positions and not result.fidelity else "–"


def heading(metric: str) -> str:
    """``KL divergence, mean (nat)``."""
    unit = METRICS[metric].unit.replace("share", "%")
    return METRICS[metric].label + (f" ({unit})" if unit else "")


def overview(report: Report) -> pd.DataFrame:
    """One row a candidate with the numbers that tell most, as numbers, so that a reader can sort by them."""
    whole = report.reference.footprint_bytes
    rows = []
    for result in report.results:
        found = result.fidelity
        # What tells most stands first: a narrow screen shows no more.
        rows.append(
            {
                "Precision": label(result.precision),
                "KL": found["kl_mean"].value if "kl_mean" in found else None,
                "Cosine": found["hidden_cosine"].value if "hidden_cosine" in found else None,
                "Perplexity ×": _shown(result, "perplexity_ratio"),
                "Same top-1": 100 * found["top1_agreement"].value if "top1_agreement" in found else None,
                "Memory": 100 * result.footprint_bytes / whole if whole else None,
                "Stored": bytes_text(result.footprint_bytes),
                "Stored (B)": result.footprint_bytes,
                QUANTIZED_BITS: result.bits_per_weight,
                MODEL_BITS: parameter_bits(report, result),
            }
        )
    frame = pd.DataFrame(rows)
    kept = [name for name in frame.columns if not (frame[name].isna() | (frame[name] == "–")).all()]
    return frame[kept]
