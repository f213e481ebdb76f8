"""``qfund fits``: will it fit?"""

import argparse
import sys
from typing import Any

from qfund.commandline.options import names
from qfund.core.units import bytes_text
from qfund.features.memory.request import budgets, kv_cache
from qfund.features.memory.request.budgets import GPUS
from qfund.features.memory.request.fits import (
    DEFAULT_CONTEXT,
    DEFAULT_PRECISIONS,
    PARTS,
    RUNTIMES,
    Amount,
    Fits,
    FitsRequest,
    Row,
    Workload,
    checked,
    to_json,
)
from qfund.features.memory.words import beyond_training
from qfund.precisions import request
from qfund.precisions.table import PRECISIONS


def add(commands: Any) -> None:
    """Add the sub-parser to what ``add_subparsers`` gave."""
    command = commands.add_parser(
        "fits",
        help="say which precisions of a model fit in a memory budget, and the longest context",
        epilog="GPUs: " + "; ".join(f"{gpu.name} ({bytes_text(gpu.bytes)})" for gpu in GPUS.values()) + ".",
    )
    command.set_defaults(run=_run)
    command.add_argument("model", help="a name of `qfund ls models`, a local folder, or a Hub id (owner/name)")
    budget = command.add_mutually_exclusive_group(required=True)
    budget.add_argument(
        "--budget", metavar="B", help="memory: 24GiB, 24GB, 512MiB, bytes; `machine` is what is free here now"
    )
    budget.add_argument("--gpu", metavar="G", help="the memory of this GPU, all of it free (names below)")
    command.add_argument(
        "--context",
        type=int,
        default=DEFAULT_CONTEXT,
        metavar="N",
        help="tokens of a sequence, prompt and answer together (default: %(default)s)",
    )
    command.add_argument("--batch", type=int, default=1, metavar="N", help="sequences at once (default: %(default)s)")
    command.add_argument(
        "--kv",
        metavar="K",
        help=f"cache keys and values in {', '.join(kv_cache.KV_CHOICES)} (default: what the precision computes in)",
    )
    command.add_argument(
        "--precision",
        nargs="+",
        metavar="P",
        default=[*DEFAULT_PRECISIONS],
        help=f"names of `qfund ls precisions` (default: {' '.join(DEFAULT_PRECISIONS)})",
    )
    command.add_argument(
        "--also",
        nargs="+",
        metavar="M",
        default=[],
        help=f"quantise these too: {', '.join(f'{name} ({what})' for name, what in request.ALSO.items())}",
    )
    command.add_argument(
        "--device",
        choices=tuple(RUNTIMES),
        help="whose runtime is counted (default: cpu for the budget `machine`, cuda otherwise)",
    )
    command.add_argument(
        "--all-logits", action="store_true", help="keep logits of every position, as scoring a text does"
    )
    command.add_argument("--revision", metavar="R", help="branch, tag or commit of a Hub id")
    command.add_argument("--json", action="store_true", help="print everything as one JSON document")


def _run(options: argparse.Namespace) -> None:
    asked = checked(
        FitsRequest(
            model=options.model,
            workload=Workload(
                budget=_budget(options),
                context=options.context,
                batch=options.batch,
                kv=options.kv.lower() if options.kv else None,
                runtime=options.device or ("cpu" if options.budget == "machine" else "cuda"),
                all_logits=options.all_logits,
            ),
            precisions=names(options.precision),
            also=names(options.also),
            revision=options.revision,
        )
    )
    from qfund.features.memory.measure.fits import fits  # imports torch: not before the request is known to be sound

    found = fits(asked)
    if options.json:
        sys.stdout.write(to_json(found).decode() + "\n")
    else:
        print(text(found))


def _budget(options: argparse.Namespace) -> int:
    if options.gpu is not None:
        return budgets.gpu(options.gpu).bytes
    return budgets.machine_memory() if options.budget == "machine" else budgets.parse_budget(options.budget)


def text(found: Fits) -> str:
    """A table, one row a precision, and the sentence that says which to choose."""
    workload = found.request.workload
    kv = f"cached in {workload.kv}" if workload.kv else "cached as computed"
    work = f"{workload.batch:,} × {workload.context:,} tokens"
    lines = [
        f"{found.request.model}, {found.architecture}: {work}, keys and values {kv}, in {bytes_text(workload.budget)}.",
        "",
        *_table(found),
        "",
        "Weights, KV cache and state are exact; ~ is an estimate.",
        *filter(None, [beyond_training(found.rows, found.shape)]),
        found.choice.sentence,
        *(f"! {warning}" for warning in found.warnings),
        *found.notes,
        *(f"{PRECISIONS[name].label} is left out: {why}" for name, why in found.refused.items()),
    ]
    return "\n".join(lines)


def _table(found: Fits) -> list[str]:
    parts = [name for name in PARTS if name != "state" or found.shape.states]
    head = ["precision", *(PARTS[name] for name in parts), "total", "fits", "headroom", "longest context"]
    body = [_cells(row, parts) for row in found.rows]
    widths = [max(map(len, column)) for column in zip(head, *body, strict=True)]
    return [
        "  ".join(
            [line[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True))]
        )
        for line in [head, *body]
    ]


def _cells(row: Row, parts: list[str]) -> list[str]:
    amounts: list[Amount] = [*(getattr(row, name) for name in parts), row.total]
    fits = "yes" if row.fits else "no"
    longest = f"~{row.longest_context:,}" if row.longest_context else "none"
    return [row.precision, *map(_amount, amounts), fits, f"~{bytes_text(row.headroom)}", longest]


def _amount(amount: Amount) -> str:
    return f"{'~' * (amount.how != 'exact')}{bytes_text(amount.bytes)}"
