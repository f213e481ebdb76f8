"""``qfund embed``: the same sentences in every precision, and how their nearness to a query changes."""

import argparse
import sys
from pathlib import Path
from typing import Any

import msgspec

from qfund.commandline import measuring
from qfund.commandline.options import names
from qfund.drawing.numbers import cosine_text
from qfund.drawing.phrases import label
from qfund.features.outputs import words
from qfund.features.outputs.request import embeddings
from qfund.features.outputs.request.embeddings import (
    DEFAULT_PRECISIONS,
    DEFAULT_QUERY,
    DEFAULT_TEXTS,
    POOLINGS,
    Embeddings,
    EmbeddingsRequest,
)


def add(commands: Any) -> None:
    """Add the sub-parser to what ``add_subparsers`` gave."""
    command = commands.add_parser("embed", help="embeddings of sentences in every precision, ranked by a query")
    command.set_defaults(run=_run)
    measuring.add(command, DEFAULT_PRECISIONS)
    command.add_argument("--query", default=DEFAULT_QUERY, metavar="T", help="rank by this (default: %(default)s)")
    command.add_argument(
        "--text", action="append", metavar="T", help="rank this; can be given again (default: eight short sentences)"
    )
    command.add_argument(
        "--texts-file", type=Path, metavar="F", help="sentences of a UTF-8 file, one a line; - for standard input"
    )
    command.add_argument(
        "--pooling",
        metavar="W",
        default="mean",
        help="; ".join(f"{name}: {meaning}" for name, meaning in POOLINGS.items()) + " (default: %(default)s)",
    )


def _run(options: argparse.Namespace) -> None:
    given = tuple(options.text or ())
    if options.texts_file is not None:
        given += measuring.texts(options.texts_file)
    asked = EmbeddingsRequest(
        model=options.model,
        reference=options.reference.lower(),
        precisions=names(options.precision),
        query=options.query,
        texts=given if options.text is not None or options.texts_file is not None else DEFAULT_TEXTS,
        pooling=options.pooling.lower(),
        also=names(options.also),
        revision=options.revision,
    )
    found: Embeddings = measuring.measured(options, asked)
    if options.json:
        sys.stdout.write(msgspec.json.encode(found).decode() + "\n")
    else:
        print(text(found))


def text(found: Embeddings) -> str:
    """Cosines and order of each candidate, and the reference's ranking."""
    request = found.request
    rows = [["precision", "cosine", "smallest", "Kendall's tau", "other places"]]
    for name in request.precisions:
        row = embeddings.statistics(found, name)
        rows.append(
            [
                name,
                cosine_text(row.cosine.value) if row.cosine else "-",
                cosine_text(row.worst) if row.worst is not None else "-",
                "-" if row.tau is None else f"{row.tau:.3f}",
                str(row.moved),
            ]
        )
    nearest = [
        f"  {place}. {request.texts[index]} ({score:.4f})"
        if (score := found.reference.scores[index]) is not None
        else ""
        for place, index in enumerate(found.reference.ranking, 1)
    ]
    return "\n".join(
        [
            f"{request.model}, {found.architecture}: {found.dimensions} dimensions, {found.what}; {request.pooling} "
            f"pooling: {POOLINGS[request.pooling]}.",
            "",
            *measuring.table(rows),
            "",
            *(f"{label(name)}: {words.embeddings_sentence(found, name)}" for name in request.precisions),
            "",
            f"Nearest to “{request.query}” in {label(request.reference)}:",
            *filter(None, nearest),
        ]
    )
