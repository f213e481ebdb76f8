"""Report → tidy pandas frames: one row a fact, columns named for what they hold. Pure functions; no Streamlit.

Byte columns hold bytes and time columns hold seconds; whoever draws a frame chooses the unit to show.
"""

from typing import TypeAlias

import pandas as pd

from qfund.metrics import METRICS
from qfund.precisions import PRECISIONS
from qfund.report import PrecisionResult, Report
from qfund.units import bytes_text, seconds_text
from qfund.words import BETTER, metric_text

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


def fidelity_text(report: Report) -> pd.DataFrame:
    """One row a metric, one column a candidate, each cell ``value ± standard error``; the definition at the end."""
    names = [name for name in METRICS if any(name in result.fidelity for result in report.results)]
    rows = []
    for name in names:
        unit = METRICS[name].unit.replace("share", "%")
        row = {"Metric": METRICS[name].label + (f" ({unit})" if unit else "")}
        for result in report.results:
            row[label(result.precision)] = _cell(result, name)
        row[f"{label(report.reference.precision)} (reference)"] = _cell(report.reference, name)
        rows.append(row | {"Better": BETTER[METRICS[name].better], "Definition": METRICS[name].definition})
    frame = pd.DataFrame(rows, columns=None if rows else ["Metric", "Better", "Definition"])
    # A column in which nothing was measured says nothing.
    return frame[[column for column in frame.columns if frame.empty or not (frame[column] == "–").all()]]


def _cell(result: PrecisionResult, name: str) -> str:
    if name in result.fidelity:
        return metric_text(name, result.fidelity[name], digits=2)
    return "not finite" if result.nonfinite_positions and not result.fidelity else "–"


def footprints(report: Report) -> pd.DataFrame:
    """One row a precision, the reference first: stored, predicted and reported bytes, never mixed."""
    whole = report.reference.footprint_bytes
    rows = [
        {
            "precision": result.precision,
            "label": label(result.precision),
            "footprint": result.footprint_bytes,
            "ratio": result.footprint_bytes / whole if whole else float("nan"),
            "predicted": result.predicted_bytes,
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
            "bytes": tensor.bytes,
            "kind": tensor.kind,
            "shared with": tensor.shared_with or "",
        }
        for tensor in result.tensors
    ]
    return pd.DataFrame(rows, columns=["name", "shape", "dtype", "bytes", "kind", "shared with"])


def modules(result: PrecisionResult) -> pd.DataFrame:
    """The tree of modules with the bytes below each node. A leaf is a module without submodules (or a tensor beside
    submodules): its ``dtype`` is the one that holds most of its bytes, ``dtypes`` says all of them.

    A branch with one child is joined with it (``model.layers`` rather than ``model`` ▸ ``layers``), so that no box is
    drawn around one equal box.
    """
    stored = [tensor for tensor in result.tensors if tensor.bytes]
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


def left_modules(result: PrecisionResult) -> pd.DataFrame:
    """One row a module that a quantiser left as it was."""
    rows = [{"name": module.name, "kind": module.kind, "why": module.why} for module in result.left_modules]
    return pd.DataFrame(rows, columns=["name", "kind", "why"])


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
    finite is left out."""
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
        }
        for result in compared
    ]
    return pd.DataFrame(rows)


def disagreements(report: Report, precision: str) -> pd.DataFrame:
    """The shown tokens with the largest KL divergence first: what the heat map shows, as a table that can be sorted.
    Tokens are counted from 1, as there."""
    difference = "mean |difference| (logit)"
    columns = ["token number", "token", "KL (nat)", difference, "top-1", "reference expects", "candidate expects"]
    tokens = report.tokens
    if tokens is None or precision not in tokens.candidates:
        return pd.DataFrame(columns=columns)
    candidate = tokens.candidates[precision]
    rows = []
    for position, kl in enumerate(candidate.kl):
        shown = position + tokens.predicts_next
        if kl is None or shown >= len(tokens.pieces):
            continue
        rows.append(
            {
                "token number": shown + 1,
                "token": visible(tokens.pieces[shown]),
                "KL (nat)": kl,
                difference: candidate.mean_abs[position],
                "top-1": {True: "same", False: "changed", None: ""}[candidate.same_top1[position]],
                "reference expects": _expected(tokens.vocabulary, tokens.reference.tokens[position]),
                "candidate expects": _expected(tokens.vocabulary, candidate.alternatives.tokens[position]),
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
    """Every number of the report in one long table: of what, which quantity, value, standard error, count, unit."""
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
        }
        rows += [{**of, "quantity": name, "value": count, "unit": "B"} for name, count in sizes.items()]
        rows.append({**of, "quantity": "nonfinite_positions", "value": result.nonfinite_positions, "unit": ""})
        for name, estimate in result.fidelity.items():
            numbers = {"value": estimate.value, "se": estimate.se, "n": estimate.n, "unit": estimate.unit}
            rows.append({**of, "quantity": name, **numbers})
    columns = [*header, "precision", "role", "quantity", "value", "se", "n", "unit"]
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


def footprints_text(report: Report) -> pd.DataFrame:
    """One row a precision, for a reader; bytes in full, so that nothing is hidden by rounding."""
    frame = footprints(report)
    shown = pd.DataFrame({"Precision": frame["label"]})
    shown["Stored"] = [bytes_text(count) for count in frame["footprint"]]
    shown["Of the reference"] = [f"{100 * ratio:.4g} %" for ratio in frame["ratio"]]
    titles = {"footprint": "Stored (B)", "predicted": "Predicted (B)", "transformers": "transformers (B)"}
    for column, title in (titles | {part: f"{part.capitalize()} (B)" for part in PARTS}).items():
        shown[title] = [f"{count:,}" for count in frame[column]]
    shown["One pass"] = [seconds_text(seconds) for seconds in frame["forward_seconds"]]
    return shown
