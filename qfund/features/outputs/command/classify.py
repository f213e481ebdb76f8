"""``qfund classify``: the same texts or pictures in every precision, and the classes that change."""

from argparse import Namespace

from qfund.commandline import measuring, texts
from qfund.commandline.options import beside, names, reference, several_texts, share
from qfund.commandline.table import Command, Option
from qfund.commandline.tables import aligned
from qfund.core.units import number_text
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
from qfund.features.outputs.request.verdicts import MARGIN, Margin, verdict


def _run(options: Namespace) -> None:
    given = texts.given(options.text, options.texts_file)
    asked = ClassesRequest(
        model=options.model,
        reference=reference(options),
        precisions=names(options.precision),
        texts=DEFAULT_TEXTS if given is None else given,
        also=names(options.also),
        revision=options.revision,
    )
    margin = Margin(flips=options.margin_flips)
    measuring.put(measuring.stored(asked, options), options, lambda found: text(found, margin))


COMMAND = Command(
    run=_run,
    rows=(
        *beside(DEFAULT_PRECISIONS),
        *several_texts("classify", "six docstrings"),
        Option(
            "--margin-flips",
            "within your margin are at most X % of the texts or pictures in another class "
            f"(default: {100 * MARGIN.flips:g})",
            "X",
            share,
            MARGIN.flips,
        ),
    ),
    examples=('qfund classify docstring-kinds --precision bf16 int8 --text "Not a number."',),
)


def text(found: Classes, margin: Margin = MARGIN) -> str:
    """What each candidate changed, and every item in every precision."""
    request = found.request
    lines = [
        f"{request.model}, {found.architecture}, {found.classes} classes: {READINGS[found.reading]}.",
        *found.notes,
        "",
    ]
    for name in request.precisions:
        row = classes.statistics(found, name)
        said = f"{label(name)}: {words.classes_sentence(found, name)}"
        if row is not None and row.moved is not None:
            said += f" Largest change of an item, mean: {words.change(found, row.moved.value)}."
        lines.append(said)
    lines += ["", *(verdict(found, name, margin).sentence for name in request.precisions)]
    for item in found.items:
        rows = [[label(name), *_cells(item, name, found)] for name in (request.reference, *request.precisions)]
        lines += ["", item.name, *(f"  {line}" for line in aligned(rows))]
    return "\n".join(lines)


def _cells(item: Item, name: str, found: Classes) -> list[str]:
    shares = dict(zip(item.labels, item.values[name], strict=False)) if item.values[name] else {}
    if not shares:
        return ["not finite", ""]
    flipped = " ◀" if item.flipped(name, found.request.reference) else ""
    if found.reading == SCORE:
        return [number_text(next(iter(shares.values()))), ""]
    chosen = item.chosen[name]
    said = ", ".join(f"{one} {words.percent(shares[one])}" for one in chosen) or "none"
    return [said, flipped]
