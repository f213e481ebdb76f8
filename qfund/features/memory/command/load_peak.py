"""``qfund load-peak``: the memory that each way of loading a model needs."""

import argparse
import sys
from typing import Any

from qfund.commandline.options import names
from qfund.core.units import bytes_text, seconds_text
from qfund.features.memory import words
from qfund.features.memory.request import load_peak as load_peak_request
from qfund.features.memory.request.load_peak import TINY, WAYS, LoadPeakRequest, LoadPeaks, WayPeak
from qfund.precisions.table import PRECISIONS

_COLUMNS = ("need", "settled", "private_peak", "rss_peak")


def add(commands: Any) -> None:
    """Add the sub-parser to what ``add_subparsers`` gave."""
    command = commands.add_parser("load-peak", help="measure the memory that each way of loading a model needs")
    command.set_defaults(run=_run)
    command.add_argument("model", help="a name of `qfund ls models`, a local folder, or a Hub id (owner/name)")
    command.add_argument(
        "--precision",
        nargs="+",
        metavar="P",
        default=[*load_peak_request.DEFAULT_PRECISIONS],
        help=f"names of `qfund ls precisions` (default: {' '.join(load_peak_request.DEFAULT_PRECISIONS)})",
    )
    command.add_argument(
        "--ways",
        nargs="+",
        metavar="W",
        default=[],
        help=f"only these of: {', '.join(WAYS)} (default: all that apply)",
    )
    command.add_argument(
        "--runs",
        type=int,
        default=1,
        metavar="N",
        help="measure each way N times and report the median (default: %(default)s)",
    )
    command.add_argument("--revision", metavar="R", help="branch, tag or commit of a Hub id")
    command.add_argument("--json", action="store_true", help="print everything, the curves too, as one JSON document")
    command.add_argument("--quiet", action="store_true", help="print no progress")


def _run(options: argparse.Namespace) -> None:
    asked = load_peak_request.checked(
        LoadPeakRequest(
            model=options.model,
            precisions=names(options.precision),
            ways=names(options.ways),
            revision=options.revision,
            runs=options.runs,
        )
    )
    from qfund.features.memory.measure.load_peak import load_peak

    found = load_peak(asked, (lambda phase, share: None) if options.quiet else _progress)
    if options.json:
        sys.stdout.write(load_peak_request.to_json(found).decode() + "\n")
    else:
        if sys.stderr.isatty() and not options.quiet:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
        print(text(found))


def _progress(phase: str, share: float) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{share:4.0%} {phase}", end="", file=sys.stderr, flush=True)
    else:
        print(f"{share:4.0%} {phase}", file=sys.stderr, flush=True)


def text(found: LoadPeaks) -> str:
    """The whole result for a terminal."""
    lines = [
        f"{found.request.model}: {found.architecture}, {bytes_text(found.weights_bytes)} of weights in fp32 (= 1.00).",
        *found.notes,
        *(words.load_needs(found, name) for name in found.request.precisions),
        "",
        *_table(found),
        "",
        "Need: the most private bytes plus live weights that alias the mapped file, which decides whether a load fits.",
        "Settled: what of it stays. Private: resident bytes that no file backs; weights left in the file are missing.",
        "RSS: all resident bytes; pages of the file, which the system takes back when it needs them, are in it.",
        "Footprint: stored tensors, counted; claimed: what get_memory_footprint() says. All above the imports' memory.",
        *_inference_legend(found),
    ]
    said = [(one, one.problem or (one.note if one.sampled else None)) for one in (found.reference, *found.ways)]
    problems = [f"{PRECISIONS[one.precision].label}, {one.way}: {sentence}" for one, sentence in said if sentence]
    return "\n".join([*lines, *([""] if problems else []), *problems])


def _inference_legend(found: LoadPeaks) -> list[str]:
    ran = [one.inference for one in _listed(found) if one.inference]
    if not ran:
        return []
    stays = bytes_text(max(0, *(one.stays for one in ran)))
    return [
        f"Inference: the most need during one forward of {ran[0].read} after the load (all logits, no cache).",
        f"Up to {stays} of it were set up by libraries in that first forward and stay; activations are the rest.",
    ]


def _table(found: LoadPeaks) -> list[str]:
    """Right-aligned columns under a heading: need in bytes, and all as multiples of the fp32 weights."""
    heading = ["precision", "way", "need", "need", "settled", "private", "RSS", "footprint", "claimed"]
    heading += ["inference", "time"]
    device = any(one.device_peak is not None for one in (found.reference, *found.ways))
    rows = [heading + ["GPU"] * device]
    rows += [_cells(one, found.weights_bytes, device) for one in _listed(found)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if place < 2 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _listed(found: LoadPeaks) -> list[WayPeak]:
    return [found.reference, *(one for one in found.ways if one != found.reference and not one.problem)]


def _cells(one: WayPeak, weights: int, device: bool) -> list[str]:
    sampled = one.sampled
    of_weights = sampled.multiples if sampled and weights >= TINY else None
    return [
        PRECISIONS[one.precision].label,
        one.way,
        bytes_text(sampled.need) if sampled else "-",
        *(f"{of_weights[name]:.2f}" if of_weights else "-" for name in _COLUMNS),
        *("-" if size is None else f"{size / weights:.2f}" for size in (one.footprint_bytes, one.transformers_bytes)),
        f"{one.inference.multiple:.2f}" if one.inference and of_weights else "-",
        "-" if one.seconds is None else seconds_text(one.seconds),
        *(["-" if one.device_peak is None else bytes_text(one.device_peak)] if device else []),
    ]
