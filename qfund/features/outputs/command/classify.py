"""``qfund classify``: the same texts or pictures in every precision, and the classes that change."""

from argparse import Namespace

from qfund.commandline import measuring, texts
from qfund.commandline.options import beside, names, reference, several_texts
from qfund.commandline.table import Command
from qfund.commandline.tables import aligned
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
    measuring.put(measuring.stored(asked, options), options, text)


COMMAND = Command(
    run=_run,
    rows=(*beside(DEFAULT_PRECISIONS), *several_texts("classify", "five short texts")),
    examples=('qfund classify ./classifier --precision bf16 int8 --text "Not bad at all."',),
)


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
        said = f"{label(name)}: {words.classes_sentence(found, name)}"
        if row is not None and row.moved is not None:
            said += f" Largest change of an item, mean: {words.change(found, row.moved.value)}."
        lines.append(said)
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
        return [f"{next(iter(shares.values())):.4g}", ""]
    chosen = item.chosen[name]
    said = ", ".join(f"{one} {words.percent(shares[one])}" for one in chosen) or "none"
    return [said, flipped]
