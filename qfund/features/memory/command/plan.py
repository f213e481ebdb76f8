"""``qfund plan``: what a model's weights and buffers would take in every precision, without loading them."""

import argparse
import sys
from typing import TYPE_CHECKING, Any

import msgspec

from qfund.commandline.options import names
from qfund.core.units import bytes_text
from qfund.features.memory.request import plan
from qfund.precisions import request as precisions_request
from qfund.precisions.table import PRECISIONS

if TYPE_CHECKING:
    from argparse import _SubParsersAction


def add(commands: "_SubParsersAction[argparse.ArgumentParser]") -> None:
    """The command's options."""
    parser = commands.add_parser("plan", help="predict a model's footprint in every precision, without its weights")
    parser.set_defaults(run=run)
    parser.add_argument("model", help="a name of `qfund ls models`, a local folder, or a Hub id (owner/name)")
    parser.add_argument(
        "--precision",
        nargs="+",
        metavar="P",
        default=[],
        help="names of `qfund ls precisions` (default: all that this device could run)",
    )
    parser.add_argument(
        "--also",
        nargs="+",
        metavar="M",
        default=[],
        help=f"quantise these too: {', '.join(f'{name} ({what})' for name, what in precisions_request.ALSO.items())}",
    )
    parser.add_argument("--revision", metavar="R", help="branch, tag or commit of a Hub id")
    parser.add_argument(
        "--headers", action="store_true", help="at once, from the files' headers alone: stored sizes and float casts"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document; all sizes are bytes")


def run(options: argparse.Namespace) -> None:
    """Print the plan."""
    request = plan.PlanRequest(options.model, names(options.precision), names(options.also), revision=options.revision)
    found: Any
    if options.headers:
        found = plan.headers(request, _silently)
    else:
        known = plan.read(plan.checked(request), _silently)  # whatever is wrong with it is said before torch is here
        from qfund.features.memory.measure import plan as exact

        found = exact.plan(request, _silently, known)
    if options.json:
        sys.stdout.write(msgspec.json.encode(found).decode() + "\n")
    else:
        sys.stdout.write("\n".join(headers_text(found) if options.headers else plan_text(found)) + "\n")


def _silently(phase: str, share: float) -> None:
    """No progress: there is little to wait for."""


def headers_text(found: plan.HeaderPlan) -> list[str]:
    """Lines for people."""
    rows = [["Stored as", "Elements", "Bytes", ""]]
    rows += [[name, f"{share.parameters:,}", *_size(share.bytes)] for name, share in found.dtypes.items()]
    rows.append(["all", f"{found.elements:,}", *_size(found.stored_bytes)])
    casts = [["Cast", "Parameter bytes", ""]]
    casts += [[PRECISIONS[name].label, *_size(size)] for name, size in found.cast_bytes.items()]
    title = f"{_title(found)}: from headers, {len(found.modules):,} modules"
    return [title, "", *_table(rows), *(["", *_table(casts)] if found.cast_bytes else []), "", *found.notes]


def plan_text(found: plan.Plan) -> list[str]:
    """Lines for people."""
    parts = [part for part in plan.PARTS if any(entry.parts[part] for entry in found.entries)]
    rows = [["Precision", "Predicted bytes", "", "× FP32", "Bits/weight", *parts]]
    for entry in found.entries:
        bits = "–" if entry.bits_per_weight is None else f"{entry.bits_per_weight:.3f}"
        sizes = [bytes_text(entry.parts[part]) if entry.parts[part] else "–" for part in parts]
        label = PRECISIONS[entry.precision].label
        rows.append([label, *_size(entry.predicted_bytes), f"{entry.ratio:.3f}", bits, *sizes])
    left = [f"{PRECISIONS[row.precision].label} is not planned: {row.why}" for row in found.not_planned]
    title = f"{_title(found)}: {found.parameters:,} parameters, {bytes_text(found.stored_bytes)} on disk"
    words = [f"{part}: {plan.PARTS[part]}." for part in parts]
    return [title, "", *_table(rows), "", *words, *found.notes, *left]


def _title(found: plan.Plan | plan.HeaderPlan) -> str:
    return f"{found.model}{f' at {found.revision}' if found.revision else ''} ({found.architecture})"


def _size(count: int) -> tuple[str, str]:
    return f"{count:,}", bytes_text(count)


def _table(rows: list[list[str]]) -> list[str]:
    """Columns as wide as they need to be; the first one on the left, numbers on the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if place else cell.ljust(width) for place, (cell, width) in enumerate(line)
        ).rstrip()
        for line in (list(zip(row, widths, strict=True)) for row in rows)
    ]
