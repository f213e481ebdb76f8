"""Plans, fits and load peaks → tidy pandas frames: one row a fact. Pure functions; no Streamlit.

Byte columns hold bytes; whoever draws a frame chooses the unit to show.
"""

import math
from collections.abc import Iterable, Mapping, Sequence

import pandas as pd

from qfund.core.tensors import TensorRow
from qfund.core.units import bytes_text, seconds_text
from qfund.drawing.columns import QUANTIZED_BITS
from qfund.drawing.csv import csv
from qfund.drawing.phrases import label
from qfund.features.compare.tables.footprints import module_tree
from qfund.features.memory.request.fits import PARTS as USES
from qfund.features.memory.request.fits import Row, Shape, Weights
from qfund.features.memory.request.load_peak import WAYS, LoadPeaks, WayPeak
from qfund.features.memory.request.plan import PARTS, HeaderPlan, Plan, PlanEntry
from qfund.features.memory.request.sizing import ESTIMATE, EXACT
from qfund.features.memory.words import longest_context
from qfund.precisions.table import PRECISIONS

MEASURED = "measured"
_FLOATS = {"float64", "float32", "bfloat16", "float16"}


def fits(rows: Sequence[Row], weights: Iterable[Weights]) -> pd.DataFrame:
    """One row for each precision and part of what it takes; ``how`` says whether the part is exact or an estimate.

    Weights are split: scales and buffers apart.
    """
    parts = {one.precision: one.parts for one in weights}
    found = []
    for row in rows:
        of = {"precision": row.precision, "label": label(row.precision)}
        inner = parts[row.precision]
        found += [{**of, "part": name, "bytes": inner.get(name, 0), "how": EXACT} for name in inner]
        found += [
            {**of, "part": said, "bytes": getattr(row, name).bytes, "how": getattr(row, name).how}
            for name, said in USES.items()
            if name != "weights"
        ]
    return pd.DataFrame(found, columns=["precision", "label", "part", "bytes", "how"])


def fits_text(rows: Sequence[Row], shape: Shape) -> pd.DataFrame:
    """One row a precision, for a reader."""
    return pd.DataFrame(
        {
            "Precision": [label(row.precision) for row in rows],
            "Fits": ["yes" if row.fits else "no" for row in rows],
            "Longest context": [longest_context(row, shape) for row in rows],
            "Takes (estimate)": [bytes_text(row.total.bytes) for row in rows],
            "Left": [f"{'−' * (row.headroom < 0)}{bytes_text(abs(row.headroom))}" for row in rows],
            **{
                f"{said[:1].upper()}{said[1:]} (B)": [getattr(row, name).bytes for row in rows]
                for name, said in USES.items()
                if any(getattr(row, name).bytes for row in rows)
            },
        }
    )


def best_way(peaks: LoadPeaks | None, precision: str) -> WayPeak | None:
    """The sampled way to load a precision that needs least; a library's only where there is no other."""
    found = [way for way in ([] if peaks is None else ways_of(peaks, precision)) if way.sampled is not None]
    own = [way for way in found if WAYS[way.way].library is None]
    return min(own or found, key=lambda way: way.sampled.need if way.sampled else 0, default=None)


def sizes(
    plan: Plan,
    headers: HeaderPlan,
    measured: Mapping[str, int],
    peaks: Mapping[str, LoadPeaks],
    precisions: Sequence[str],
) -> pd.DataFrame:
    """One row a precision: estimate from headers, prediction, what was measured; NaN where there is no such number."""
    rows = []
    for entry in chosen(plan, precisions):
        way = best_way(peaks.get(entry.precision), entry.precision)
        sampled = None if way is None else way.sampled
        rows.append(
            {
                "precision": entry.precision,
                "label": label(entry.precision),
                "estimate": headers.cast_bytes.get(entry.precision, math.nan),
                "predicted": entry.predicted_bytes,
                "measured": measured.get(entry.precision, math.nan),
                "need": sampled.need if sampled else math.nan,
                "rss": sampled.rss_peak if sampled else math.nan,
                "inference": way.inference.need if way and way.inference else math.nan,
                "way": way.way if way else "",
            }
        )
    return pd.DataFrame(rows)


def sizes_text(frame: pd.DataFrame) -> pd.DataFrame:
    """``sizes`` for a reader; what was not measured says so."""
    titles = {
        "estimate": "Headers, estimate (B)",
        "predicted": "Predicted (B)",
        "measured": "Measured (B)",
        "need": "Load peak (B)",
        "rss": "Resident peak (B)",
        "inference": "Inference peak (B)",
    }
    missing = {"estimate": "–"}
    shown = pd.DataFrame({"Precision": frame["label"]})
    for column, title in titles.items():
        none = missing.get(column, "not measured yet")
        shown[title] = [none if pd.isna(count) else f"{count:,.0f}" for count in frame[column]]
    return shown


def chosen(plan: Plan, precisions: Sequence[str]) -> list[PlanEntry]:
    """The plan's entries of these precisions, in the plan's order."""
    return [entry for entry in plan.entries if entry.precision in precisions]


class _Steps:
    """The rows of ``steps``: where one bar ends the next begins."""

    def __init__(self) -> None:
        self.rows: list[dict[str, object]] = []
        self.at = 0

    def total(self, said: str, count: int, how: str) -> None:
        self.rows.append({"label": said, "start": 0, "end": count, "kind": "total", "how": how})
        self.at = count

    def step(self, said: str, delta: int, how: str = EXACT) -> None:
        if delta:
            self.rows.append({"label": said, "start": self.at, "end": self.at + delta, "kind": "step", "how": how})
        self.at += delta


def steps(
    plan: Plan, headers: HeaderPlan, precision: str, measured: Mapping[str, int], peaks: LoadPeaks | None
) -> pd.DataFrame:
    """Every size of one precision, from the file to the peak, and between two of them what makes the difference.

    A row of the kind ``total`` is a size; the rows of the kind ``step`` after it lead to the next, to the byte.
    """
    entry = next(entry for entry in plan.entries if entry.precision == precision)
    found = _Steps()
    found.total("stored on disk", plan.stored_bytes, EXACT)
    if precision in headers.cast_bytes:
        _from_headers(found, plan, headers, entry)
    else:
        _from_codes(found, plan, entry)
    found.total("predicted", entry.predicted_bytes, EXACT)
    if precision in measured:
        found.step("not foretold", measured[precision] - entry.predicted_bytes, MEASURED)
        found.total("measured, counted in the model", measured[precision], MEASURED)
    way = best_way(peaks, precision)
    if way is not None and way.sampled is not None:
        _from_load(found, way)
    return pd.DataFrame(found.rows)


def _from_headers(found: _Steps, plan: Plan, headers: HeaderPlan, entry: PlanEntry) -> None:
    row = PRECISIONS[entry.precision]
    cast = headers.cast_bytes[entry.precision]
    found.step(f"stored tensors as {row.label}", cast - plan.stored_bytes)
    found.total("headers alone", cast, ESTIMATE)
    names = tied(plan)
    size = sum(module.elements for module in headers.modules if module.name in names) * row.bits // 8
    found.step("tied head, counted once", -size)
    rest = entry.predicted_bytes - found.at - entry.parts["buffers"]
    if rest:  # stored buffers are in the estimate already: only the sum of both is known
        found.step("buffers, and tensors dropped, made anew or kept wider", rest + entry.parts["buffers"])
    else:
        found.step("buffers", entry.parts["buffers"])


def _from_codes(found: _Steps, plan: Plan, entry: PlanEntry) -> None:
    """The codes first, and on them whatever is no code."""
    floats = {name for name, share in entry.dtypes.items() if share.parameters and name in _FLOATS}
    base = PRECISIONS[entry.precision]
    left = f"left in {base.base}" if floats <= {base.dtype} else "left as floats"
    said = {
        "quantised": f"weights as {base.bits}-bit codes" if base.bits else "weights as codes",
        "layers": f"other layers, {left}",
        "embeddings": f"embeddings{' with the tied head' if tied(plan) else ''}, {left}",
        "head": f"output head, {left}",
        "norms": "norms",
        "other": "biases and the rest",
        "scales": "scales and zero-points",
        "buffers": "buffers",
    }
    found.at = 0
    rest = (part for part in PARTS if part != "quantised")  # in this order where two have as many bytes
    for part in ("quantised", *sorted(rest, key=lambda part: -entry.parts[part])):
        found.step(said[part], entry.parts[part])


def _from_load(found: _Steps, way: WayPeak) -> None:
    sampled = way.sampled
    assert sampled is not None
    found.step("Python and torch beside it", sampled.settled - found.at, MEASURED)
    found.step("only while loading", sampled.need - sampled.settled, MEASURED)
    found.total("load peak (need)", sampled.need, MEASURED)
    mapped = sampled.rss_peak - sampled.need
    pages = "mapped file pages, given back under pressure" if mapped > 0 else "weights in the file, not read until used"
    found.step(pages, mapped, MEASURED)
    found.total("resident peak (RSS)", sampled.rss_peak, MEASURED)
    if way.inference is None:
        return
    given = sampled.settled - sampled.rss_peak
    found.step(f"{'given back' if given < 0 else 'weights in the file, needed'} once loaded", given, MEASURED)
    found.step("set up by libraries, kept after a first forward", way.inference.stays, MEASURED)
    found.step(f"activations of a forward of {way.inference.read}", way.inference.activations, MEASURED)
    found.total("inference peak (need)", way.inference.need, MEASURED)


def tied(plan: Plan) -> set[str]:
    """Modules whose tensors are all another's."""
    return {module.name for module in plan.modules if not module.parameters and module.kind in ("Linear", "Embedding")}


def modules(plan: Plan, precision: str) -> pd.DataFrame:
    """The tree of modules with the bytes below each node, as ``footprints.module_tree``."""
    entry = next(entry for entry in plan.entries if entry.precision == precision)
    frame = module_tree(
        TensorRow(f"{module.name}.weight".lstrip("."), (), dtype, dtype, dtype, module.parameters, count, "weight")
        for module, count, dtype in zip(plan.modules, entry.module_bytes, entry.module_dtypes, strict=True)
    )
    # A plan says only what most of a module's bytes are.
    frame["dtypes"] = [f"most of it {dtype}" if dtype else "" for dtype in frame["dtype"]]
    return frame


def entries(plan: Plan, precisions: Sequence[str]) -> pd.DataFrame:
    """One row a precision, in numbers."""
    rows = [
        {
            "Precision": label(entry.precision),
            "Predicted (B)": entry.predicted_bytes,
            "Of FP32": 100 * entry.ratio,
            QUANTIZED_BITS: _weight_bits(entry),
            "Bits per parameter": entry.bits_per_parameter,
            **{f"{part.capitalize()} (B)": entry.parts[part] for part in PARTS},
        }
        for entry in chosen(plan, precisions)
    ]
    frame = pd.DataFrame(rows)
    return frame[[name for name in frame.columns if frame[name].notna().any() and (frame[name] != 0).any()]]


def _weight_bits(entry: PlanEntry) -> float | None:
    """Of what is stored as codes, or the width of a cast."""
    row = PRECISIONS[entry.precision]
    return entry.bits_per_weight if row.quantizer else float(row.bits)


def dtypes(plan: Plan, precision: str) -> dict[str, int]:
    """What one value is → bytes, the most first."""
    entry = chosen(plan, (precision,))[0]
    return {name: share.bytes for name, share in sorted(entry.dtypes.items(), key=lambda pair: -pair[1].bytes)}


def plan_csv(plan: Plan) -> bytes:
    """Every precision of the plan and its parts, one long table in bytes."""
    rows = [
        {"model": plan.model, "model_id": plan.model_id, "precision": entry.precision, "part": part, "bytes": count}
        for entry in plan.entries
        for part, count in {**entry.parts, "all": entry.predicted_bytes}.items()
    ]
    return csv(pd.DataFrame(rows))


def curves(peaks: LoadPeaks, precision: str) -> pd.DataFrame:
    """One row for each way and sample: need, private and resident bytes over time, after the baseline."""
    frames = [
        pd.DataFrame(
            {
                "way": way.way,
                "seconds": way.sampled.curve.seconds,
                "need": way.sampled.curve.need,
                "private": way.sampled.curve.private,
                "rss": way.sampled.curve.rss,
            }
        )
        for way in ways_of(peaks, precision)
        if way.sampled
    ]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=["way", "seconds", "need"])


def phases(peaks: LoadPeaks, precision: str) -> pd.DataFrame:
    """One row for each way and phase: when it was, and the need at its end."""
    rows = [
        {"way": way.way, "phase": phase.name, "start": phase.start, "end": phase.end, "need": phase.need}
        for way in ways_of(peaks, precision)
        if way.sampled
        for phase in way.sampled.phases
    ]
    return pd.DataFrame(rows, columns=["way", "phase", "start", "end", "need"])


def ways_of(peaks: LoadPeaks, precision: str) -> list[WayPeak]:
    """Every way in which a precision was loaded."""
    return [way for way in _all_ways(peaks) if way.precision == precision]


def _all_ways(peaks: LoadPeaks) -> list[WayPeak]:
    """The reference first; where it was asked for too, once."""
    return [peaks.reference, *(way for way in peaks.ways if way != peaks.reference)]


def loads(peaks: LoadPeaks) -> pd.DataFrame:
    """One row a way, for a reader: multiples of the fp32 weights (W), and bytes."""
    rows = []
    ran = any(way.inference for way in _all_ways(peaks))
    for way in _all_ways(peaks):
        sampled = way.sampled
        multiples = {} if sampled is None else sampled.multiples
        rows.append(
            {
                "Precision": label(way.precision),
                "Way": WAYS[way.way].meaning,
                "Need (W)": multiples.get("need"),
                "Settled (W)": multiples.get("settled"),
                "Private (W)": multiples.get("private_peak"),
                "RSS (W)": multiples.get("rss_peak"),
                **({"Inference (W)": way.inference.multiple if way.inference else None} if ran else {}),
                "Need": bytes_text(sampled.need) if sampled else "not measured",
                "Stored": "–" if way.footprint_bytes is None else bytes_text(way.footprint_bytes),
                "GPU": "–" if way.device_peak is None else bytes_text(way.device_peak),
                "Time": "–" if way.seconds is None else seconds_text(way.seconds),
                "Note": way.problem or way.note or "",
            }
        )
    frame = pd.DataFrame(rows)
    return frame[[name for name in frame.columns if not frame[name].isin(["–", ""]).all()]]
