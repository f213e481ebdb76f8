"""``qfund caption``: the same pictures, captioned in every precision."""

import argparse
import sys
from pathlib import Path
from typing import Any

from qfund.commandline.options import names
from qfund.core.errors import InvalidInput
from qfund.core.units import bytes_text, number_text
from qfund.features.captions import request, words
from qfund.features.captions.request import CaptionRequest, Captions, GivenPicture, PictureCaptions, Summary
from qfund.inputs import picture_files
from qfund.precisions.table import PRECISIONS

_WORST = 5  # drawn pictures whose captions are printed


def add(commands: Any) -> None:
    """Add the sub-parser to what ``add_subparsers`` gave."""
    command = commands.add_parser(
        "caption", help="caption pictures in every precision, and count the captions that change"
    )
    command.set_defaults(run=_run)
    command.add_argument("model", help="a captioner: shapes-blip, a local folder, or a Hub id (owner/name)")
    command.add_argument(
        "--precision",
        nargs="+",
        metavar="P",
        default=[*request.DEFAULT_PRECISIONS],
        help=f"candidates, names of `qfund ls precisions` (default: {' '.join(request.DEFAULT_PRECISIONS)})",
    )
    command.add_argument("--reference", metavar="P", default="fp32", help="compare with this one (default: fp32)")
    which = command.add_mutually_exclusive_group()
    which.add_argument(
        "--image",
        nargs="+",
        type=Path,
        metavar="F",
        default=[],
        help=f"picture files ({', '.join(picture_files.FORMATS)}), at most {request.MAX_PICTURES}",
    )
    which.add_argument(
        "--samples",
        type=int,
        metavar="N",
        help="held-out pictures that qfund draws, whose captions it knows "
        f"(default without --image: {request.DEFAULT_SAMPLES})",
    )
    command.add_argument(
        "--max-new-tokens",
        type=int,
        default=request.DEFAULT_TOKENS,
        metavar="N",
        help="tokens of the longest caption (default: %(default)s)",
    )
    command.add_argument("--revision", metavar="R", help="branch, tag or commit of a Hub id")
    command.add_argument("--json", action="store_true", help="print everything as one JSON document")
    command.add_argument("--quiet", action="store_true", help="print no progress")


def _run(options: argparse.Namespace) -> None:
    if len(options.image) > request.MAX_PICTURES:
        raise InvalidInput(
            f"{len(options.image)} pictures are too many.", f"Give at most {request.MAX_PICTURES} at once."
        )
    given = [picture_files.read(path) for path in options.image]
    default = 0 if given else request.DEFAULT_SAMPLES
    asked = request.checked(
        CaptionRequest(
            model=options.model,
            precisions=names(options.precision),
            reference=options.reference.lower(),
            samples=default if options.samples is None else options.samples,
            pictures=tuple(GivenPicture(picture.name, picture.png) for picture in given),
            max_new_tokens=options.max_new_tokens,
            revision=options.revision,
        )
    )
    from qfund.features.captions.measure.caption import caption

    found = caption(asked, (lambda phase, share: None) if options.quiet else _progress)
    if options.json:
        sys.stdout.write(request.to_json(found).decode() + "\n")
        return
    if sys.stderr.isatty() and not options.quiet:
        print("\r\033[K", end="", file=sys.stderr, flush=True)
    for note in (note for picture in given for note in picture.notes):
        print(note)
    print(text(found))


def _progress(phase: str, share: float) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{share:4.0%} {phase}", end="", file=sys.stderr, flush=True)
    else:
        print(f"{share:4.0%} {phase}", file=sys.stderr, flush=True)


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
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join([line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True))]).rstrip()
        for line in rows
    ]


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
