"""What is stored: footprints, dtypes, tensors, modules.

Byte columns hold bytes and time columns hold seconds; whoever draws a frame chooses the unit to show.
"""

from collections.abc import Iterable
from typing import TypeAlias

import pandas as pd

from qfund.core.tensors import TensorRow
from qfund.core.units import bytes_text, seconds_text
from qfund.drawing.columns import MODEL_BITS, QUANTIZED_BITS
from qfund.drawing.phrases import label
from qfund.features.compare.request.bits import parameter_bits
from qfund.features.compare.request.report import PrecisionResult, Report, measured
from qfund.features.compare.words.libraries import latency_phrase

_Node: TypeAlias = tuple[str, ...]  # a path of names in a model

#: The parts of a footprint, in the order in which they are stacked.
PARTS = ("weights", "scales", "buffers")


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


def mixed(report: Report) -> str:
    """The candidate whose modules are worth a look: the first with weights in several dtypes, else the first."""
    candidates = [row for row in measured(report) if row is not report.reference] or [report.reference]
    several = [row for row in candidates if sum(share.parameters > 0 for share in row.dtypes.values()) > 1]
    return (several or candidates)[0].precision


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


#: The time of the run that compared outputs, where no other was taken.
ONE_PASS = "One pass (no benchmark)"


def footprints_text(report: Report) -> pd.DataFrame:
    """One row a precision, for a reader; bytes in full, so that nothing is hidden by rounding."""
    frame = footprints(report)
    shown = pd.DataFrame({"Precision": frame["label"]})
    shown["Stored"] = [bytes_text(count) for count in frame["footprint"]]
    shown["Of the reference"] = [f"{100 * ratio:.4g} %" for ratio in frame["ratio"]]
    for title, column in ((QUANTIZED_BITS, "bits_per_weight"), (MODEL_BITS, "bits_per_parameter")):
        shown[title] = ["–" if pd.isna(bits) else f"{bits:.4g}" for bits in frame[column]]
    titles = {"footprint": "Stored (B)", "predicted": "Predicted (B)", "transformers": "transformers (B)"}
    for column, title in (titles | {part: f"{part.capitalize()} (B)" for part in PARTS}).items():
        shown[title] = ["not predicted" if pd.isna(count) else f"{count:,.0f}" for count in frame[column]]
    if not any(result.latency for result in measured(report)):
        shown[ONE_PASS] = [seconds_text(seconds) for seconds in frame["forward_seconds"]]
    else:
        shown["Forward ÷ reference's"] = ["1", *(latency_phrase(row.latency) for row in measured(report)[1:])]
    return shown
