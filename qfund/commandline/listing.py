"""``qfund ls``: the names that commands take."""

from argparse import Namespace

from qfund.checkpoints import catalog
from qfund.commandline.table import Command, Option
from qfund.commandline.tables import aligned
from qfund.precisions.precision import Precision
from qfund.precisions.table import PRECISIONS, unavailable


def _run(options: Namespace) -> None:
    for line in aligned(_ROWS[options.table](), left=2):
        print(line)


def _models() -> list[tuple[str, str]]:
    return [(entry.name, entry.description) for entry in catalog.CATALOG.values()]


def _precisions() -> list[tuple[str, str]]:
    return [(row.name, _precision(row)) for row in PRECISIONS.values()]


def _metrics() -> list[tuple[str, str]]:
    from qfund.core.metrics.table import METRICS  # imports numpy

    return [(row.name, f"{row.label}: {row.definition}") for row in METRICS.values()]


def _precision(row: Precision) -> str:
    """``INT4 g32 · 5 bits per weight · CPU, CUDA · 4-bit integers …``; where it does not run here, the reason first."""
    bits = [f"{row.effective_bits:.4g} bits per weight"] if row.effective_bits else []
    reason = unavailable(row, catalog.device())
    return " · ".join([row.label, *bits, row.runs_on, *([f"not here: {reason}"] if reason else []), row.meaning])


_ROWS = {"models": _models, "precisions": _precisions, "metrics": _metrics}

COMMAND = Command(
    run=_run,
    rows=(Option("table", "what to list", choices=tuple(_ROWS)),),
    examples=("qfund ls precisions",),
)
