"""Report → tidy pandas frames: one row a fact, columns named for what they hold. Pure functions; no Streamlit.

Byte columns hold bytes and time columns hold seconds; whoever draws a frame chooses the unit to show.
"""

import math
from collections.abc import Iterable
from typing import TypeAlias

import pandas as pd

from qfund import backends
from qfund.metrics import METRICS
from qfund.precisions import PRECISIONS, STORED, Precision, unavailable
from qfund.report import LibraryRun, PrecisionResult, Report, TensorRow
from qfund.units import bytes_text, number_text, seconds_text
from qfund.words import FEW, latency_phrase, metric_text

_Node: TypeAlias = tuple[str, ...]  # a path of names in a model

#: The parts of a footprint, in the order in which they are stacked.
PARTS = ("weights", "scales", "buffers")


def label(precision: str) -> str:
    """What a person reads for a precision; its name where this version's table lacks it (an older report)."""
    return PRECISIONS[precision].label if precision in PRECISIONS else precision


def measured(report: Report) -> tuple[PrecisionResult, ...]:
    """The reference and then the candidates. A candidate that equals the reference is shown once."""
    return (report.reference, *(row for row in report.results if row.precision != report.reference.precision))


def result_of(report: Report, precision: str) -> PrecisionResult:
    return next(row for row in (*report.results, report.reference) if row.precision == precision)


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


def _cell(result: PrecisionResult, name: str) -> str:
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
                "Perplexity ×": _cell(result, "perplexity_ratio"),
                "Same top-1": 100 * found["top1_agreement"].value if "top1_agreement" in found else None,
                "Memory": 100 * result.footprint_bytes / whole if whole else None,
                "Stored": bytes_text(result.footprint_bytes),
                "Stored (B)": result.footprint_bytes,
                QUANTISED_BITS: result.bits_per_weight,
                MODEL_BITS: parameter_bits(report, result),
            }
        )
    frame = pd.DataFrame(rows)
    kept = [name for name in frame.columns if not (frame[name].isna() | (frame[name] == "–")).all()]
    return frame[kept]


#: Two figures that are easily taken for each other: of what was quantised alone, and of the model as a whole.
QUANTISED_BITS, MODEL_BITS = "Bits per quantised weight", "Bits per parameter"


def parameter_bits(report: Report, result: PrecisionResult) -> float | None:
    """Stored bits of the whole model, scales and buffers included, for each of its parameters."""
    return 8 * result.footprint_bytes / report.model.parameters if report.model.parameters else None


def weight_bits(result: PrecisionResult) -> float | None:
    """What one weight takes, scales and zero-points included: as counted, or the width of a cast."""
    if result.bits_per_weight is not None:
        return result.bits_per_weight
    row = PRECISIONS.get(result.precision)
    return float(row.bits) if row is not None and row.quantizer is None and row.bits else None


def footprints(report: Report) -> pd.DataFrame:
    """One row a precision, the reference first: stored, predicted and reported bytes, never mixed."""
    whole = report.reference.footprint_bytes
    rows = [
        {
            "precision": result.precision,
            "label": label(result.precision),
            "footprint": result.footprint_bytes,
            "ratio": result.footprint_bytes / whole if whole else float("nan"),
            "bits_per_weight": result.bits_per_weight,
            "bits_per_parameter": parameter_bits(report, result),
            "predicted": float("nan") if result.predicted_bytes is None else result.predicted_bytes,
            "transformers": result.transformers_bytes,
            **{part: result.parts.get(part, 0) for part in PARTS},
            "converted": result.converted,
            "left": result.left,
            "forward_seconds": result.forward_seconds,
        }
        for result in measured(report)
    ]
    return pd.DataFrame(rows)


def parts(report: Report) -> pd.DataFrame:
    """One row for each precision and part of its footprint."""
    rows = [
        {
            "precision": result.precision,
            "label": label(result.precision),
            "part": part,
            "bytes": result.parts.get(part, 0),
        }
        for result in measured(report)
        for part in PARTS
    ]
    return pd.DataFrame(rows)


def dtypes(report: Report) -> pd.DataFrame:
    """One row for each precision and dtype: parameters, bytes and the share of that precision's bytes."""
    rows = [
        {
            "precision": result.precision,
            "label": label(result.precision),
            "dtype": dtype,
            "parameters": share.parameters,
            "bytes": share.bytes,
            "share": share.bytes / result.footprint_bytes if result.footprint_bytes else float("nan"),
        }
        for result in measured(report)
        for dtype, share in result.dtypes.items()
    ]
    return pd.DataFrame(rows, columns=["precision", "label", "dtype", "parameters", "bytes", "share"])


def tensors(result: PrecisionResult) -> pd.DataFrame:
    """One row a stored tensor, as ``print_param_dtype`` lists them in a notebook."""
    rows = [
        {
            "name": tensor.name,
            "shape": " × ".join(map(str, tensor.shape)) or "scalar",
            "dtype": tensor.dtype,
            "stored in": tensor.storage,
            "reads as": tensor.logical,
            "weights": tensor.parameters,
            "bytes": tensor.bytes,
            "kind": tensor.kind,
            "shared with": tensor.shared_with or "",
        }
        for tensor in result.tensors
    ]
    columns = ["name", "shape", "dtype", "stored in", "reads as", "weights", "bytes", "kind", "shared with"]
    return pd.DataFrame(rows, columns=columns)


def modules(result: PrecisionResult) -> pd.DataFrame:
    """``module_tree`` of what was stored."""
    return module_tree(result.tensors)


def module_tree(tensors: Iterable[TensorRow]) -> pd.DataFrame:
    """The tree of modules with the bytes below each node. A leaf is a module without submodules (or a tensor beside
    submodules): its ``dtype`` is the one that holds most of its bytes, ``dtypes`` says all of them.

    A branch with one child is joined with it (``model.layers`` rather than ``model`` ▸ ``layers``), so that no box is
    drawn around one equal box.
    """
    stored = [tensor for tensor in tensors if tensor.bytes]
    paths = {tensor.name: tuple(tensor.name.split(".")) for tensor in stored}
    # Nodes that hold a module: everything above a tensor's own module.
    branches = {path[:depth] for path in paths.values() for depth in range(len(path) - 1)} | {()}
    total: dict[_Node, int] = {(): 0}
    children: dict[_Node, dict[_Node, None]] = {}
    leaves: dict[_Node, dict[str, int]] = {}
    for tensor in stored:
        path = paths[tensor.name]
        leaf = path if path[:-1] in branches else path[:-1]
        if leaf in branches:  # a tensor that is named like a module
            leaf = (*leaf, f"({tensor.kind})")
        held = leaves.setdefault(leaf, {})
        held[tensor.dtype] = held.get(tensor.dtype, 0) + tensor.bytes
        total[()] += tensor.bytes
        for depth in range(len(leaf)):
            inner = leaf[: depth + 1]
            children.setdefault(leaf[:depth], {})[inner] = None
            total[inner] = total.get(inner, 0) + tensor.bytes
    rows: list[dict[str, object]] = []

    def add(node: _Node, parent: str, shown_from: int) -> None:
        below = children.get(node, {})
        if len(below) == 1 and node:
            add(next(iter(below)), parent, shown_from)
            return
        name = ".".join(node) or "model"
        held = sorted(leaves.get(node, {}).items(), key=lambda pair: -pair[1])
        rows.append(
            {
                "id": f"/{name}" if node else "/",
                "parent": parent,
                "label": ".".join(node[shown_from:]) or "all tensors",
                "bytes": total[node],
                "dtype": held[0][0] if held else "",
                "dtypes": ", ".join(f"{dtype} {bytes_text(count)}" for dtype, count in held),
                "name": name,
            }
        )
        for inner in below:
            add(inner, f"/{name}" if node else "/", len(node))

    add((), "", 0)
    return pd.DataFrame(rows, columns=["id", "parent", "label", "bytes", "dtype", "dtypes", "name"])


def conversion(result: PrecisionResult) -> pd.DataFrame:
    """One row a module with weights: what a quantiser left as it was and why, then what it converted."""
    rows = [{"module": left.name, "": "left", "kind": left.kind, "why": left.why} for left in result.left_modules]
    rows += [{"module": name, "": "converted", "kind": "", "why": ""} for name in result.converted_modules]
    return pd.DataFrame(rows, columns=["module", "", "kind", "why"])


def libraries(report: Report) -> pd.DataFrame:
    """One row for each candidate as a library runs it, after qfund's own. Times are ratios to the reference's."""
    rows = [
        {
            "precision": result.precision,
            "label": label(result.precision),
            "library": run.library,
            "version": run.version,
            "call": run.implementation,
            "bytes": run.footprint_bytes,
            "own_bytes": result.footprint_bytes,
            "transformers": run.transformers_bytes,
            "ratio": run.latency.value if run.latency else None,
            "se": run.latency.se if run.latency else None,
            "latency": latency_phrase(run.latency),
            "converted": run.converted,
            "left": run.left,
            "difference": run.max_abs_diff,
            "note": run.note or "",
            "problem": run.problem or "",
        }
        for result in report.results
        for run in (_own_run(report, result), *result.libraries)
    ]
    return pd.DataFrame(rows)


def _own_run(report: Report, result: PrecisionResult) -> LibraryRun:
    """qfund's own model as a row beside the libraries'."""
    row = PRECISIONS.get(result.precision)
    return LibraryRun(
        library="qfund",
        version=report.qfund,
        implementation="",
        footprint_bytes=result.footprint_bytes,
        transformers_bytes=result.transformers_bytes,
        converted=result.converted,
        left=result.left,
        latency=result.latency,
        note=OWN_RUN if row is not None and row.quantizer else None,
    )


#: What a time of qfund's own model is a time of.
OWN_RUN = "qfund's own model is made to be exact, not fast: its time says nothing about the format."


def libraries_text(report: Report) -> pd.DataFrame:
    """``libraries`` for a reader."""
    frame = libraries(report)
    shown = pd.DataFrame({"Precision": frame["label"]})
    shown["Run by"] = [
        f"{name} {version}".strip() for name, version in zip(frame["library"], frame["version"], strict=True)
    ]
    shown["Forward ÷ reference's"] = frame["latency"]
    shown["Stored (B)"] = [_count(value) for value in frame["bytes"]]
    shown["qfund's (B)"] = [_count(value) for value in frame["own_bytes"]]
    shown["transformers (B)"] = [_count(value) for value in frame["transformers"]]
    for column in ("converted", "left"):  # nothing is known of what was not run
        known = zip(frame[column], frame["bytes"], strict=True)
        shown[column.capitalize()] = ["–" if pd.isna(bytes_) else f"{count:,}" for count, bytes_ in known]
    shown["Largest difference"] = ["–" if pd.isna(value) else number_text(value) for value in frame["difference"]]
    shown["Problem"], shown["Note"], shown["Call"] = frame["problem"], frame["note"], frame["call"]
    # A column in which nothing stands says nothing.
    return shown[[name for name in shown.columns if not shown[name].isin(["", "–"]).all()]]


def left_by_libraries(report: Report) -> pd.DataFrame:
    """One row a module that qfund converts and a library did not."""
    rows = [
        {
            "Precision": label(result.precision),
            "Library": run.library,
            "module": left.name,
            "kind": left.kind,
            "why": left.why,
        }
        for result in report.results
        for run in result.libraries
        for left in run.left_modules
    ]
    return pd.DataFrame(rows, columns=["Precision", "Library", "module", "kind", "why"])


def _count(value: float | None) -> str:
    return "–" if value is None or pd.isna(value) else f"{value:,.0f}"


def precisions(device: str) -> pd.DataFrame:
    """The table of precisions, one row each, with what runs on this device and which libraries here have it."""
    return pd.DataFrame([_precision(row, device) for row in PRECISIONS.values()])


def _precision(row: Precision, device: str) -> dict[str, object]:
    return {
        "name": row.name,
        "label": row.label,
        "family": row.family,
        "base": row.base,
        "here": "yes" if unavailable(row, device) is None else "no: needs a CUDA GPU" if row.device else "no",
        "why_not": unavailable(row, device) or "yes",
        "bits": row.bits or None,
        "effective": row.effective_bits or None,
        "granularity": row.granularity,
        "storage": row.storage,
        "quantised": "–" if row.quantizer is None else "weights" if row.weights_only else "weights and activations",
        "arithmetic": row.arithmetic,
        "emulated": row.emulated or "",
        "runs_on": row.runs_on,
        "treatment": row.treatment,
        # A cast that is no narrower than fp32 rounds nothing, and what is stored already was rounded elsewhere.
        "sqnr": None if row.family == STORED or (row.quantizer is None and row.bits >= 32) else row.sqnr_floor,
        **{name: _library(row, name, device) for name in backends.BACKENDS},
        "meaning": row.meaning,
    }


def _library(row: Precision, backend: str, device: str) -> str:
    """Whether a library really stores and runs it here: ``yes``, why not, or ``–`` where it does not know it."""
    found = [each for each in backends.implementations(row.name) if each.backend == backend]
    return (backends.unavailable(found[0], device) or "yes") if found else "–"


def reasons(precisions: pd.DataFrame) -> list[str]:
    """Why rows of ``precisions``, or libraries, do not run here: each reason once."""
    columns = [precisions[name] for name in ("why_not", *backends.BACKENDS)]
    return [reason for reason in pd.concat(columns).drop_duplicates() if reason not in ("yes", "–")]


def bits_against_damage(report: Report) -> pd.DataFrame:
    """One row a candidate: bits of a weight, footprint and KL divergence. Those without a finite one are left out, and
    those that are wider than the reference."""
    widest = weight_bits(report.reference) or math.inf
    rows = [
        {
            "precision": result.precision,
            "label": label(result.precision),
            "family": PRECISIONS[result.precision].family,
            "bits": bits,
            "bytes": result.footprint_bytes,
            "value": result.fidelity["kl_mean"].value,
            "se": result.fidelity["kl_mean"].se,
        }
        for result in report.results
        if "kl_mean" in result.fidelity
        and result.precision in PRECISIONS
        and (bits := weight_bits(result)) is not None
        and bits <= widest
    ]
    return pd.DataFrame(rows, columns=["precision", "label", "family", "bits", "bytes", "value", "se"])


def differences(report: Report) -> pd.DataFrame:
    """The distribution of |difference|: one row for each candidate and bin, empty ends cut off.

    ``share`` is of all outputs, exact zeros included; ``low`` and ``high`` are the bin's edges.
    """
    rows = []
    for result in report.results:
        histogram = result.differences
        if histogram is None:
            continue
        outputs = sum(histogram.counts) + histogram.zeros
        filled = [index for index, count in enumerate(histogram.counts) if count]
        if not filled:
            continue
        # One empty bin on each side, so that a line drawn through the bins comes down to zero.
        for index in range(filled[0] - 1, filled[-1] + 2):
            low = histogram.low + index * histogram.width
            count = histogram.counts[index] if 0 <= index < len(histogram.counts) else 0
            rows.append(
                {
                    "precision": result.precision,
                    "label": label(result.precision),
                    "low": 10.0**low,
                    "centre": 10.0 ** (low + histogram.width / 2),
                    "high": 10.0 ** (low + histogram.width),
                    "count": count,
                    "share": count / outputs,
                }
            )
    return pd.DataFrame(rows, columns=["precision", "label", "low", "centre", "high", "count", "share"])


#: What a candidate's damage is read from, by what its task gives.
DAMAGE = ("kl_mean", "mean_abs_logit_diff", "mean_abs_hidden_diff", "max_abs_pooled_diff")


def memory_against_damage(report: Report) -> pd.DataFrame:
    """One row a candidate: its footprint beside the first of ``DAMAGE`` that all have. One of which nothing is
    finite is left out, and among many one that is larger than the reference, which would push the others together."""
    compared = [row for row in report.results if row.fidelity]
    shared = [name for name in DAMAGE if compared and all(name in row.fidelity for row in compared)]
    if not shared:
        return pd.DataFrame()
    name = shared[0]
    rows = [
        {
            "precision": result.precision,
            "label": label(result.precision),
            "bytes": result.footprint_bytes,
            "metric": name,
            "name": METRICS[name].label,
            "unit": METRICS[name].unit,
            "value": result.fidelity[name].value,
            "se": result.fidelity[name].se,
            "low": result.fidelity[name].low,
            "high": result.fidelity[name].high,
        }
        for result in compared
        if len(compared) <= FEW or result.footprint_bytes <= report.reference.footprint_bytes
    ]
    return pd.DataFrame(rows)


def disagreements(report: Report, precision: str) -> pd.DataFrame:
    """The tokens that are kept in full with the largest KL divergence first, as a table that can be sorted. Tokens are
    counted from 1, as in the heat map."""
    difference = "mean |difference| (logit)"
    columns = ["token number", "token", "KL (nat)", difference, "top-1", "reference expects", "candidate expects"]
    tokens = report.tokens
    if tokens is None or precision not in tokens.candidates:
        return pd.DataFrame(columns=columns)
    candidate = tokens.candidates[precision]
    rows = []
    for place, (position, kl) in enumerate(zip(tokens.detailed, candidate.kl, strict=True)):
        shown = position + tokens.predicts_next
        if kl is None or shown >= len(tokens.pieces):
            continue
        rows.append(
            {
                "token number": shown + 1,
                "token": visible(tokens.pieces[shown]),
                "KL (nat)": kl,
                difference: candidate.mean_abs[place],
                "top-1": {True: "same", False: "changed", None: ""}[candidate.same_top1[place]],
                "reference expects": _expected(tokens.vocabulary, tokens.reference.tokens[place]),
                "candidate expects": _expected(tokens.vocabulary, candidate.alternatives.tokens[place]),
            }
        )
    frame = pd.DataFrame(rows, columns=columns)
    return frame.sort_values("KL (nat)", ascending=False, ignore_index=True, kind="stable")


def _expected(vocabulary: tuple[str, ...], tokens: tuple[int, ...]) -> str:
    return visible(vocabulary[tokens[0]]) if tokens else ""


def visible(piece: str) -> str:
    """A token with marks for what cannot be seen, as ``visible`` of ``token_map.js`` draws it."""
    shown = piece.replace("\n", "↵").replace("\t", "→")
    rest = shown.lstrip(" ")
    return "·" * (len(shown) - len(rest)) + rest or "∅"


def export_csv(report: Report) -> bytes:
    """Every number of the report in one long table: of what, which quantity, value, standard error, count, unit, and
    the ends of its 95 % interval."""
    environment = report.environment
    header = {
        "model": report.spec.model,
        "model_id": environment.model_id,
        "created": report.created,
        "qfund": report.qfund,
        "torch": environment.versions.get("torch", ""),
        "device": environment.device,
        "cpu": environment.cpu,
        "input_tokens": report.input.tokens,
        "input_context": report.input.context,
        "input_sha256": report.input.sha256,
    }
    rows: list[dict[str, object]] = []
    for role, result in (("reference", report.reference), *(("candidate", result) for result in report.results)):
        of = {**header, "precision": result.precision, "role": role}
        sizes = {
            "footprint_bytes": result.footprint_bytes,
            "predicted_bytes": result.predicted_bytes,
            "transformers_bytes": result.transformers_bytes,
            **{f"{part}_bytes": result.parts.get(part, 0) for part in PARTS},
            **{f"{run.library}_bytes": run.footprint_bytes for run in result.libraries},
        }
        rows += [{**of, "quantity": name, "value": count, "unit": "B"} for name, count in sizes.items()]
        bits = {"bits_per_weight": result.bits_per_weight, "bits_per_parameter": parameter_bits(report, result)}
        rows += [{**of, "quantity": name, "value": value, "unit": "bit"} for name, value in bits.items() if value]
        if result.saturation:
            numbers = {"value": result.saturation.weights, "n": result.saturation.of, "unit": ""}
            rows.append({**of, "quantity": "saturated_weights", **numbers})
        if result.range:
            rows.append({**of, "quantity": "headroom", "value": result.range.headroom, "unit": ""})
        times = {"qfund": result.latency} | {run.library: run.latency for run in result.libraries}
        for library, ratio in times.items():
            if ratio is not None:
                numbers = {"value": ratio.value, "se": ratio.se, "n": ratio.n, "unit": ratio.unit}
                rows.append({**of, "quantity": f"latency_{library}", **numbers})
        rows.append({**of, "quantity": "nonfinite_positions", "value": result.nonfinite_positions, "unit": ""})
        for name, estimate in result.fidelity.items():
            numbers = {"value": estimate.value, "se": estimate.se, "n": estimate.n, "unit": estimate.unit}
            rows.append({**of, "quantity": name, **numbers, "low": estimate.low, "high": estimate.high})
    columns = [*header, "precision", "role", "quantity", "value", "se", "n", "unit", "low", "high"]
    # Objects, so that a count stays a whole number in a column that also holds fractions.
    return _csv(pd.DataFrame(rows, columns=columns, dtype=object))


def tensors_csv(report: Report) -> bytes:
    """The stored tensors of every precision."""
    header = {"model": report.spec.model, "created": report.created}
    frames = [tensors(result).assign(precision=result.precision, **header) for result in measured(report)]
    return _csv(pd.concat(frames, ignore_index=True))


def _csv(frame: pd.DataFrame) -> bytes:
    return str(frame.to_csv(index=False)).encode()


def mixed(report: Report) -> str:
    """The candidate whose modules are worth a look: the first with weights in several dtypes, else the first."""
    candidates = [row for row in measured(report) if row is not report.reference] or [report.reference]
    several = [row for row in candidates if sum(share.parameters > 0 for share in row.dtypes.values()) > 1]
    return (several or candidates)[0].precision


def compared_quantity(report: Report) -> str:
    """What the differences are differences of."""
    hidden = any("mean_abs_hidden_diff" in result.fidelity for result in report.results)
    return "hidden-state difference" if hidden else "logit difference"


#: The time of the run that compared outputs, where no other was taken.
ONE_PASS = "One pass (no benchmark)"


def footprints_text(report: Report) -> pd.DataFrame:
    """One row a precision, for a reader; bytes in full, so that nothing is hidden by rounding."""
    frame = footprints(report)
    shown = pd.DataFrame({"Precision": frame["label"]})
    shown["Stored"] = [bytes_text(count) for count in frame["footprint"]]
    shown["Of the reference"] = [f"{100 * ratio:.4g} %" for ratio in frame["ratio"]]
    for title, column in ((QUANTISED_BITS, "bits_per_weight"), (MODEL_BITS, "bits_per_parameter")):
        shown[title] = ["–" if pd.isna(bits) else f"{bits:.4g}" for bits in frame[column]]
    titles = {"footprint": "Stored (B)", "predicted": "Predicted (B)", "transformers": "transformers (B)"}
    for column, title in (titles | {part: f"{part.capitalize()} (B)" for part in PARTS}).items():
        shown[title] = ["not predicted" if pd.isna(count) else f"{count:,.0f}" for count in frame[column]]
    if not any(result.latency for result in measured(report)):
        shown[ONE_PASS] = [seconds_text(seconds) for seconds in frame["forward_seconds"]]
    else:
        shown["Forward ÷ reference's"] = ["1", *(latency_phrase(row.latency) for row in measured(report)[1:])]
    return shown
