"""``qfund embed``: the same sentences in every precision, and how their nearness to a query changes."""

from argparse import Namespace
from pathlib import Path

from qfund.commandline import measuring, texts
from qfund.commandline.options import beside, distance, names, reference, several_texts, share
from qfund.commandline.table import Command, Option
from qfund.commandline.tables import aligned
from qfund.drawing.numbers import cosine_text
from qfund.drawing.phrases import label
from qfund.features.outputs import words
from qfund.features.outputs.request import embeddings
from qfund.features.outputs.request.embeddings import (
    DEFAULT_PRECISIONS,
    DEFAULT_QUERY,
    DEFAULT_TEXTS,
    OWN,
    POOLINGS,
    Embeddings,
    EmbeddingsRequest,
)
from qfund.features.outputs.request.verdicts import MARGIN, Margin, verdict
from qfund.inputs import pairs


def _run(options: Namespace) -> None:
    given = texts.given(options.text, options.texts_file)
    asked = EmbeddingsRequest(
        model=options.model,
        reference=reference(options),
        precisions=names(options.precision),
        query=options.query,
        texts=DEFAULT_TEXTS if given is None else given,
        pairs=() if options.pairs is None else pairs.of_file(texts.read(options.pairs)),
        pooling=options.pooling.lower(),
        also=names(options.also),
        revision=options.revision,
    )
    margin = Margin(options.margin_cosine, options.margin_order, correlation=options.margin_correlation)
    measuring.put(measuring.stored(asked, options), options, lambda found: text(found, margin))


COMMAND = Command(
    run=_run,
    rows=(
        *beside(DEFAULT_PRECISIONS),
        Option("--query", f"rank by this (default: {DEFAULT_QUERY})", "T", default=DEFAULT_QUERY),
        *several_texts("rank", "eight short sentences"),
        Option(
            "--pairs",
            "two texts and a score of how alike they are in each line (CSV, TSV or JSON lines; - for standard input): "
            "Spearman's correlation of cosines and scores in every precision",
            "F",
            Path,
        ),
        Option(
            "--pooling",
            "; ".join(f"{name}: {meaning}" for name, meaning in POOLINGS.items()) + f" (default: {OWN})",
            "W",
            default=OWN,
        ),
        Option(
            "--margin-cosine",
            f"within your margin is a mean cosine of at most X below 1 (default: {MARGIN.cosine:g})",
            "X",
            distance,
            MARGIN.cosine,
        ),
        Option(
            "--margin-order",
            "and at most X % of pairs of neighbours in another order, with each text as the query in turn "
            f"(default: {100 * MARGIN.order:g})",
            "X",
            share,
            MARGIN.order,
        ),
        Option(
            "--margin-correlation",
            f"and, with --pairs, at most X less of their rank correlation (default: {MARGIN.correlation:g})",
            "X",
            distance,
            MARGIN.correlation,
        ),
    ),
    examples=('qfund embed docstring-vectors --precision bf16 int8 --query "a query" --text "one" --text "two"',),
)


def text(found: Embeddings, margin: Margin = MARGIN) -> str:
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
            f"pooling: {found.pooling}.",
            *found.notes,
            "",
            *aligned(rows),
            "",
            *(f"{label(name)}: {words.embeddings_sentence(found, name)}" for name in request.precisions),
            "",
            *words.correlations(found),
            *(verdict(found, name, margin).sentence for name in request.precisions),
            "",
            f"Nearest to “{request.query}” in {label(request.reference)}:",
            *filter(None, nearest),
        ]
    )
