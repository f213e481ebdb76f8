"""``qfund classify``: the same texts or pictures in every precision, and the classes that change."""

import argparse
import sys
from pathlib import Path
from typing import Any

import msgspec

from qfund.commandline import measuring
from qfund.commandline.options import names
from qfund.drawing.phrases import label
from qfund.features.outputs import words
from qfund.features.outputs.request import classes
from qfund.features.outputs.request.classes import (
    DEFAULT_PRECISIONS,
    DEFAULT_TEXTS,
    READINGS,
    SCORE,
    Classes,
    ClassesRequest,
    Item,
)


def add(commands: Any) -> None:
    """Add the sub-parser to what ``add_subparsers`` gave."""
    command = commands.add_parser("classify", help="class probabilities of texts or pictures in every precision")
    command.set_defaults(run=_run)
    measuring.add(command, DEFAULT_PRECISIONS)
    command.add_argument(
        "--text", action="append", metavar="T", help="classify this; can be given again (default: five short texts)"
    )
    command.add_argument(
        "--texts-file", type=Path, metavar="F", help="texts of a UTF-8 file, one a line; - for standard input"
    )


def _run(options: argparse.Namespace) -> None:
    given = tuple(options.text or ())
    if options.texts_file is not None:
        given += measuring.texts(options.texts_file)
    asked = ClassesRequest(
        model=options.model,
        reference=options.reference.lower(),
        precisions=names(options.precision),
        texts=given if options.text is not None or options.texts_file is not None else DEFAULT_TEXTS,
        also=names(options.also),
        revision=options.revision,
    )
    found: Classes = measuring.measured(options, asked)
    if options.json:
        sys.stdout.write(msgspec.json.encode(found).decode() + "\n")
    else:
        print(text(found))


def text(found: Classes) -> str:
    """What each candidate changed, and every item in every precision."""
    request = found.request
    lines = [
        f"{request.model}, {found.architecture}, {found.classes} classes: {READINGS[found.reading]}.",
        *found.notes,
        "",
    ]
    for name in request.precisions:
        row = classes.statistics(found, name)
        change = f" Largest change {row.moved.value:.3g} on average." if row is not None and row.moved else ""
        lines.append(f"{label(name)}: {words.classes_sentence(found, name)}{change}")
    for item in found.items:
        rows = [[label(name), *_cells(item, name, found)] for name in (request.reference, *request.precisions)]
        lines += ["", item.name, *(f"  {line}" for line in measuring.table(rows))]
    return "\n".join(lines)


def _cells(item: Item, name: str, found: Classes) -> list[str]:
    shares = dict(zip(item.labels, item.values[name], strict=False)) if item.values[name] else {}
    if not shares:
        return ["not finite", ""]
    flipped = " ◀" if item.flipped(name, found.request.reference) else ""
    if found.reading == SCORE:
        return [f"{next(iter(shares.values())):.4g}", ""]
    chosen = item.chosen[name]
    said = ", ".join(f"{one} {words.percent(shares[one])}" for one in chosen) or "none"
    return [said, flipped]
