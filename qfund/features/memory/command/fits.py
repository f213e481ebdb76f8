"""``qfund fits``: will it fit?"""

from argparse import Namespace

from qfund import engine
from qfund.commandline.measuring import put
from qfund.commandline.options import ALSO, FILE, JSON, MODEL, REVISION, count, names, precision
from qfund.commandline.table import Command, Exclusive, Option
from qfund.commandline.tables import aligned
from qfund.core.units import bytes_text
from qfund.drawing.phrases import label
from qfund.features.memory.request import budgets
from qfund.features.memory.request.budgets import GPUS, MACHINE
from qfund.features.memory.request.fits import (
    DEFAULT_CONTEXT,
    DEFAULT_PRECISIONS,
    PARTS,
    RUNTIMES,
    Amount,
    Fits,
    FitsRequest,
    Row,
    Shape,
    Workload,
    to_json,
)
from qfund.features.memory.words import beyond_training, heap, left_alone, longest_context
from qfund.precisions.caches import KV_CHOICES, title


def _run(options: Namespace) -> None:
    request = FitsRequest(
        model=options.model,
        workload=Workload(
            budget=_budget(options),
            context=options.context,
            batch=options.batch,
            kv=options.kv.lower() if options.kv else None,
            runtime=options.device or ("cpu" if options.budget == MACHINE else "cuda"),
            all_logits=options.all_logits,
        ),
        # Beside files, the usual precisions are not meant unless they are named.
        precisions=names(options.precision) or (() if options.file else DEFAULT_PRECISIONS),
        also=names(options.also),
        revision=options.revision,
        files=tuple(options.file),
    )
    put(engine.compute(request), options, text, to_json)


def _budget(options: Namespace) -> int:
    return budgets.budget(options.budget) if options.gpu is None else budgets.gpu(options.gpu).bytes


COMMAND = Command(
    run=_run,
    rows=(
        MODEL,
        Exclusive(
            (
                Option(
                    "--budget",
                    "memory: 24GiB, 24GB, 512MiB, bytes; a GPU; `machine` is what is free here now",
                    "B",
                    budgets.recognized,
                ),
                Option("--gpu", "the memory of this GPU, all of it free: 4090, `RTX 4090` (names below)", "G"),
            ),
            required=True,
        ),
        Option(
            "--context",
            f"tokens of a sequence, prompt and answer together: 8192, 8k (default: {DEFAULT_CONTEXT})",
            "N",
            count,
            DEFAULT_CONTEXT,
        ),
        Option("--batch", "sequences at once (default: 1)", "N", count, 1),
        Option(
            "--kv",
            f"cache keys and values in {', '.join(KV_CHOICES)}; apart as q8_0/q4_0 (default: what the precision "
            "computes in)",
            "K",
        ),
        precision((), "names", " ".join(DEFAULT_PRECISIONS)),
        FILE,
        ALSO,
        Option(
            "--device",
            "whose runtime is counted (default: cpu for the budget `machine`, cuda otherwise)",
            choices=tuple(RUNTIMES),
        ),
        Option("--all-logits", "keep logits of every position, as scoring a text does", flag=True),
        REVISION,
        JSON,
    ),
    examples=(
        "qfund fits pydoc-llama --budget 24GiB --context 8192",
        "qfund fits owner/name --gpu rtx-4090 --batch 4 --kv int8",
        "qfund fits ./my-model --file ./my-model-Q4_K_M.gguf --gpu rtx-4090",
        "qfund fits ./my-model-Q4_K_M.gguf --gpu rtx-4090",
    ),
    notes="GPUs: " + "; ".join(f"{gpu.name} ({bytes_text(gpu.bytes)})" for gpu in GPUS.values()) + ".",
)


def text(found: Fits) -> str:
    """A table, one row a precision, and the sentence that says which to choose."""
    workload = found.request.workload
    kv = f"cached in {title(workload.kv)}" if workload.kv else "cached as computed"
    work = f"{workload.batch:,} × {workload.context:,} tokens"
    lines = [
        f"{found.request.model}, {found.architecture}: {work}, keys and values {kv}, in {bytes_text(workload.budget)}.",
        "",
        *_table(found),
        "",
        "Weights, KV cache and state are exact; ~ is an estimate.",
        *filter(None, [beyond_training(found.rows, found.shape)]),
        found.choice.sentence,
        *(f"! {warning}" for warning in (*found.warnings, *heap(workload), *left_alone(found))),
        *found.notes,
        *(f"{label(name)} is left out: {why}" for name, why in found.refused.items()),
    ]
    return "\n".join(lines)


def _table(found: Fits) -> list[str]:
    parts = [name for name in PARTS if name != "state" or found.shape.states]
    head = ["precision", *(PARTS[name] for name in parts), "total", "fits", "headroom", "longest context"]
    body = [_cells(row, found.shape, parts) for row in found.rows]
    return aligned([head, *body])


def _cells(row: Row, shape: Shape, parts: list[str]) -> list[str]:
    amounts: list[Amount] = [*(getattr(row, name) for name in parts), row.total]
    fits = "yes" if row.fits else "no"
    longest = longest_context(row, shape)
    said = f"{'~' * (longest == row.longest_context)}{longest:,}" if longest else "none"
    return [row.precision, *map(_amount, amounts), fits, f"~{bytes_text(row.headroom)}", said]


def _amount(amount: Amount) -> str:
    return f"{'~' * (amount.how != 'exact')}{bytes_text(amount.bytes)}"
