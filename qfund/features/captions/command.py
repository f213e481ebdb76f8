"""``qfund caption``: the same pictures, captioned in every precision."""

from argparse import Namespace
from dataclasses import replace
from pathlib import Path

from qfund.commandline import measuring
from qfund.commandline.options import JSON, MODEL, QUIET, REFERENCE, REVISION, count, names, precision, reference
from qfund.commandline.table import Command, Exclusive, Option
from qfund.commandline.tables import aligned
from qfund.core.errors import InvalidInput
from qfund.core.units import bytes_text, number_text
from qfund.features.captions import request, words
from qfund.features.captions.request import CaptionRequest, Captions, GivenPicture, PictureCaptions, Summary
from qfund.inputs import picture_files
from qfund.precisions.table import PRECISIONS

_WORST = 5  # drawn pictures whose captions are printed


def _run(options: Namespace) -> None:
    if len(options.image) > request.MAX_PICTURES:
        raise InvalidInput(
            f"{len(options.image)} pictures are too many.", f"Give at most {request.MAX_PICTURES} at once."
        )
    given = [picture_files.read(path) for path in options.image]
    default = 0 if given else request.DEFAULT_SAMPLES
    asked = CaptionRequest(
        model=options.model,
        precisions=names(options.precision),
        reference=reference(options),
        samples=default if options.samples is None else options.samples,
        pictures=tuple(GivenPicture(picture.name, picture.png) for picture in given),
        max_new_tokens=options.max_new_tokens,
        revision=options.revision,
    )
    notes = [note for picture in given for note in picture.notes]
    found = measuring.measured(asked, options)
    measuring.put(found, options, lambda found: "\n".join((*notes, text(found))), request.to_json)


COMMAND = Command(
    run=_run,
    rows=(
        replace(MODEL, help="a captioner: shapes-blip, a local folder, or a Hub id (owner/name)"),
        precision(request.DEFAULT_PRECISIONS),
        REFERENCE,
        Exclusive(
            (
                Option(
                    "--image",
                    f"picture files ({', '.join(picture_files.FORMATS)}), at most {request.MAX_PICTURES}",
                    "F",
                    Path,
                    default=[],
                    many=True,
                ),
                Option(
                    "--samples",
                    "held-out pictures that qfund draws, whose captions it knows "
                    f"(default without --image: {request.DEFAULT_SAMPLES})",
                    "N",
                    count,
                ),
            )
        ),
        Option(
            "--max-new-tokens",
            f"tokens of the longest caption (default: {request.DEFAULT_TOKENS})",
            "N",
            count,
            request.DEFAULT_TOKENS,
        ),
        REVISION,
        JSON,
        QUIET,
    ),
    examples=(
        "qfund caption shapes-blip --precision int8 int4 --samples 200",
        "qfund caption shapes-blip --image photo.jpg",
    ),
)


def text(found: Captions) -> str:
    """What each precision does in words, a table, and captions: of given pictures all, of drawn ones the worst."""
    shown = found.pictures if found.request.pictures else [one for one in found.pictures if one.changed][:_WORST]
    lines = [
        f"{found.request.model}: {words.headline(found)}",
        *words.verdicts(found),
        "",
        *_table(found),
        "",
        "KL divergence in nat, and the largest difference of logits, along the reference's captions.",
        *found.notes,
    ]
    if shown and not found.request.pictures:
        lines += ["", "The worst pictures first:"]
    return "\n".join([*lines, *(line for picture in shown for line in _captions(found, picture))])


def _table(found: Captions) -> list[str]:
    heading = ["precision", "memory", "exact", "95 % interval", "changed", "broken", "mended", "KL", "logits"]
    rows = [heading, *map(_cells, (found.reference, *found.candidates))]
    if found.reference.exact is None:
        rows = [[*row[:2], row[4], *row[7:]] for row in rows]
    return aligned(rows)


def _cells(row: Summary) -> list[str]:
    exact, changed = row.exact, row.changed
    return [
        PRECISIONS[row.precision].label,
        bytes_text(row.footprint_bytes),
        words.percent(exact.value) if exact else "-",
        words.interval(exact) if exact else "-",
        words.percent(changed.value) if changed else "-",
        *((f"{row.broken:,}", f"{row.mended:,}") if changed else ("-", "-")),
        *(number_text(found.value) if found else "-" for found in (row.kl_mean, row.max_abs_logit_diff)),
    ]


def _captions(found: Captions, picture: PictureCaptions) -> list[str]:
    """The picture's captions, one line a precision; those that change are marked with a star."""
    told = {found.request.reference: picture.reference} | picture.candidates
    width = max(len(PRECISIONS[name].label) for name in told)
    lines = ["", picture.name + (f": {picture.truth}" if picture.truth else "")]
    for name, caption in told.items():
        mark = " " if caption.first_difference is None else "*"
        printable = "".join(letter if letter.isprintable() else "?" for letter in caption.text)
        lines.append(f"  {mark} {PRECISIONS[name].label.ljust(width)}  {printable}")
    return lines
