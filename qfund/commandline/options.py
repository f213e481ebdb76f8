"""The options that several commands have, each written once."""

from argparse import ArgumentTypeError, Namespace
from collections.abc import Iterable
from pathlib import Path

from qfund.commandline.table import Option
from qfund.core.errors import InvalidSpec
from qfund.core.units import parse_count
from qfund.precisions.caches import KV_CHOICES, keeping
from qfund.precisions.request import ALSO as KINDS_OF_MODULES
from qfund.precisions.request import reference_of
from qfund.precisions.table import PRECISIONS

MODEL = Option("model", "a name of `qfund ls models`, a local folder, or a Hub id (owner/name)")
REFERENCE = Option("--reference", "compare with this one (default: fp32)", "P")
FILE = Option(
    "--file",
    "a quantised file or folder of this model, or the JSON file of a recipe, a candidate too: a path, or "
    "owner/name@revision:file of the Hub; can be given again",
    "F",
    default=[],
    again=True,
)
KV = Option(
    "--kv",
    f"round keys and values where they are cached, a row for each precision and cache: {', '.join(KV_CHOICES)}; "
    "keys and values apart as q8_0/q4_0, with tokens kept as computed as q8_0:first4:window64 (default: cached as "
    "computed)",
    "K",
    default=[],
    many=True,
)
ALSO = Option(
    "--also",
    f"quantise these too: {', '.join(f'{name} ({what})' for name, what in KINDS_OF_MODULES.items())}",
    "M",
    default=[],
    many=True,
)
REVISION = Option("--revision", "branch, tag or commit of a Hub id", "R")
JSON = Option("--json", "print everything as one JSON document", flag=True)
QUIET = Option("--quiet", "print no progress", flag=True)

#: Of a command that keeps what it measures.
STORING = (
    QUIET,
    Option("--fresh", "measure again even if the result is stored", flag=True),
    Option("--no-store", "neither look for a stored result nor keep this one", flag=True),
)


def precision(default: Iterable[str], what: str = "candidates, names", otherwise: str = "") -> Option:
    """``otherwise``: in words what no precision stands for, where that is not a few names."""
    names = [*default]
    said = f"{what} of `qfund ls precisions` (default: {otherwise or ' '.join(names)})"
    return Option("--precision", said, "P", default=names, many=True)


def beside(precisions: Iterable[str], otherwise: str = "") -> tuple[Option, ...]:
    """What all commands have that put outputs in several precisions beside each other, and keep them."""
    return (MODEL, precision(precisions, otherwise=otherwise), REFERENCE, ALSO, REVISION, JSON, *STORING)


def several_texts(does: str, default: str) -> tuple[Option, ...]:
    """``texts.given`` reads them."""
    return (
        Option("--text", f"{does} this; can be given again (default: {default})", "T", again=True),
        Option("--texts-file", "texts of a UTF-8 file, one a line; - for standard input", "F", Path),
    )


def reference(options: Namespace) -> str:
    """As ``reference_of``, of what ``beside`` reads; else it may be the name of a file."""
    asked = options.reference
    if asked and asked.lower() in PRECISIONS:
        asked = asked.lower()
    return reference_of(asked, names(options.precision))


def names(given: list[str]) -> tuple[str, ...]:
    """``--precision int8 INT4,nf4`` → ``int8 int4 nf4``."""
    return tuple(name.lower() for part in given for name in part.split(",") if name)


def count(text: str) -> int:
    """Of ``8192`` or ``8k``; whether there can be so many is said elsewhere."""
    try:
        found = parse_count(text)
        return int(text.encode("ascii")) if found is None else found
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is no whole number such as 8192 or 8k") from None


#: What all caches of a request keep that say nothing themselves; ``caches`` reads it.
KEPT = (
    Option("--first", "first tokens that stay as computed in every --kv (default: 0)", "N", count, 0),
    Option(
        "--window",
        "recent tokens that stay as computed until there are so many, transformers' residual_length (default: 0)",
        "N",
        count,
        0,
    ),
)


def caches(options: Namespace) -> tuple[str, ...]:
    """Of ``KV`` and ``KEPT``.

    Raises:
        InvalidSpec: tokens are kept of no cache, or fewer than none.
    """
    named = names(options.kv)
    for what in ("first", "window"):
        if (value := getattr(options, what)) and (value < 0 or not named):
            raise InvalidSpec(
                f"--{what} is {value:,}" + (", and no --kv is named." if value > 0 else "."),
                "Give tokens to keep as computed, from 0 on, beside the caches that are rounded (--kv).",
            )
    return tuple(keeping(name, options.first, options.window) for name in named)


def share(text: str) -> float:
    """Of ``1``, ``0.5`` or ``0.5%``."""
    try:
        value = float(text.strip().removesuffix("%"))
    except ValueError:
        value = -1.0
    if not 0 <= value <= 100:
        raise ArgumentTypeError(f"{text!r} is no number of per cent from 0 to 100")
    return value / 100


def distance(text: str) -> float:
    """Of a cosine below 1."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 2:
        raise ArgumentTypeError(f"{text!r} is no number from 0 to 2")
    return value
