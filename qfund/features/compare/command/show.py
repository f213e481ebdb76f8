"""``qfund show``."""

from argparse import Namespace
from pathlib import Path

from qfund.commandline import texts
from qfund.commandline.table import Command, Option
from qfund.features.compare.command import writing
from qfund.features.compare.command.printing import EVERYTHING, MARGINS, margin, text
from qfund.features.compare.request import report


def _run(options: Namespace) -> None:
    found = report.opened(texts.read(options.file).encode())
    if writing.asked(options):
        writing.write(found, options)
        return
    print(text(found, margin(options), options.all))


COMMAND = Command(
    run=_run,
    rows=(
        Option("file", "a JSON report, - for standard input", type=Path),
        *MARGINS,
        EVERYTHING,
        *writing.DOCUMENTS,
    ),
    examples=("qfund show report.json --margin-tokens 0.5", "qfund show report.json --html report.html"),
)
