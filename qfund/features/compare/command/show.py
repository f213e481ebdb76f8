"""``qfund show``."""

import json
from argparse import Namespace
from pathlib import Path

from qfund.commandline import texts
from qfund.commandline.table import Command, Option
from qfund.core.errors import InvalidInput, StoreError
from qfund.features.compare.command.printing import EVERYTHING, MARGINS, margin, text
from qfund.features.compare.request import report
from qfund.features.compare.request.decision import Margin


def _run(options: Namespace) -> None:
    document = texts.read(options.file)
    try:
        found = report.from_json(document.encode())
    except StoreError as error:
        if _has_schema(document):
            raise
        raise InvalidInput("This is no report of qfund.", "Give what `qfund compare … --json` printed.") from error
    if options.html is not None:
        _write(options.html, found, margin(options))
        return
    print(text(found, margin(options), options.all))


def _write(path: Path, found: report.Report, margin: Margin) -> None:
    from qfund.features.compare.document.page import page

    try:
        path.write_bytes(page(found, margin))
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise InvalidInput(f"{path} cannot be written: {why}.", "Name a file in a folder that is there.") from error


def _has_schema(document: str) -> bool:
    """Whether it is a report of some version of qfund, as far as can be told."""
    try:
        found = json.loads(document)
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict) and "schema" in found


COMMAND = Command(
    run=_run,
    rows=(
        Option("file", "a JSON report, - for standard input", type=Path),
        *MARGINS,
        EVERYTHING,
        Option("--html", "write it as one page that opens anywhere, offline too", "F", Path),
    ),
    examples=("qfund show report.json --margin-tokens 0.5", "qfund show report.json --html report.html"),
)
