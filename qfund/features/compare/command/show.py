"""``qfund show``."""

import json
from argparse import Namespace
from pathlib import Path

from qfund.commandline import texts
from qfund.commandline.table import Command, Option
from qfund.core.errors import InvalidInput, StoreError
from qfund.features.compare.command.printing import EVERYTHING, MARGINS, margin, text
from qfund.features.compare.request import report


def _run(options: Namespace) -> None:
    document = texts.read(options.file)
    try:
        found = report.from_json(document.encode())
    except StoreError as error:
        if _has_schema(document):
            raise
        raise InvalidInput("This is no report of qfund.", "Give what `qfund compare … --json` printed.") from error
    print(text(found, margin(options), options.all))


def _has_schema(document: str) -> bool:
    """Whether it is a report of some version of qfund, as far as can be told."""
    try:
        found = json.loads(document)
    except ValueError:
        return False
    return isinstance(found, dict) and "schema" in found


COMMAND = Command(
    run=_run,
    rows=(Option("file", "a JSON report, - for standard input", type=Path), *MARGINS, EVERYTHING),
    examples=("qfund show report.json --margin-tokens 0.5",),
)
