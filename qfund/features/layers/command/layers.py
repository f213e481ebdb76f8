"""``qfund layers``: which modules of a model pay for the bits."""

from argparse import Namespace
from pathlib import Path

from qfund.commandline import measuring, texts
from qfund.commandline.options import ALSO, JSON, MODEL, REVISION, STORING, count, names, precision
from qfund.commandline.table import Command, Exclusive, Option
from qfund.commandline.tables import aligned
from qfund.core.units import number_text
from qfund.drawing.numbers import interval_text
from qfund.drawing.phrases import label
from qfund.features.layers import tables, words
from qfund.features.layers.request import swaps
from qfund.features.layers.request.asked import DEFAULT_PRECISIONS, DEFAULT_TOKENS
from qfund.features.layers.request.modules import Layers, LayersRequest, worst
from qfund.features.layers.request.swaps import PARTS, Swaps, SwapsRequest

#: Modules of a precision that are told in words; all of them with ``--all`` and in JSON.
FEW = 8

#: What this command and ``recipe`` read.
TEXT = Exclusive(
    (
        Option("--text", "the input (default: the model's own evaluation text)", "T"),
        Option("--text-file", "read the input from this UTF-8 file, - for standard input", "F", Path),
    )
)
BASE = Option("--reference", "the float that everything else stays in (default: fp32)", "P", default="fp32")
CONTEXT = Option("--context", "tokens per chunk (default: the model's, at most 512)", "N", count)


def asked(options: Namespace) -> dict[str, object]:
    """The fields that all requests of this feature have."""
    return {
        "model": options.model,
        "precisions": names(options.precision),
        "reference": options.reference.lower(),
        "text": options.text if options.text_file is None else texts.read(options.text_file),
        "max_tokens": options.max_tokens,
        "context": options.context,
        "revision": options.revision,
        "also": names(options.also),
    }


def _run(options: Namespace) -> None:
    given: dict[str, object] = asked(options)
    if options.swaps is None:
        found = measuring.stored(LayersRequest(**given, gradient=options.gradient), options)  # type: ignore[arg-type]
        measuring.put(found, options, lambda found: text(found, options.all))
        return
    request = SwapsRequest(**given, part=options.swaps.lower())  # type: ignore[arg-type]
    swapped = measuring.stored(request, options)
    ranked = ""
    if options.gradient:
        beside = tables.against(measuring.stored(LayersRequest(**given, gradient=True), options), swapped)  # type: ignore[arg-type]
        ranked = "\n".join(words.ranks(tables.rank_correlation(beside), tables.rank_correlation(beside, "score")))
    measuring.put(swapped, options, lambda found: "\n".join(filter(None, (swaps_text(found, options.all), ranked))))


COMMAND = Command(
    run=_run,
    rows=(
        MODEL,
        precision(DEFAULT_PRECISIONS),
        BASE,
        Option(
            "--swaps",
            "put one part at a time in a precision and measure the model's outputs: "
            + ", ".join(f"{name} ({what})" for name, what in PARTS.items())
            + " (default: each module's own output, at once)",
            "PART",
        ),
        Option(
            "--gradient",
            "foretell what each module costs at the outputs, with one backward pass per batch and the whole model in "
            "memory; with --swaps, how well that and modules' own errors rank the parts",
            flag=True,
        ),
        TEXT,
        Option("--max-tokens", f"use at most N tokens (default: {DEFAULT_TOKENS})", "N", count, DEFAULT_TOKENS),
        CONTEXT,
        ALSO,
        REVISION,
        Option("--all", "print every module, not only the worst", flag=True),
        JSON,
        *STORING,
    ),
    examples=("qfund layers pydoc-llama --precision int8 int4", "qfund layers pydoc-llama --swaps block"),
)


def text(found: Layers, every: bool = False) -> str:
    """A sentence for each precision, and its worst modules."""
    lines = [
        f"{found.request.model}, {found.architecture}: each module's own output, over {found.input.tokens:,} tokens"
    ]
    for name in found.request.precisions:
        foretold = any(row.injected[name].score is not None for row in found.modules if name in row.injected)
        rows = [["module", "own output changes by", "SQNR (dB)", "cosine", *["KL foretold (nat)"] * foretold]]
        for row in worst(found, name, len(found.modules) if every else FEW):
            error = row.injected[name]
            sqnr = "–" if error.sqnr is None else f"{error.sqnr:.1f}"
            score = [] if error.score is None else [number_text(error.score)]
            rows.append([row.name, f"{100 * error.relative_l2:.3g} %", sqnr, f"{error.cosine:.6f}", *score])
        lines += ["", words.injected_headline(found, name), "", *aligned(rows)]
    return "\n".join([*lines, "", *found.notes])


def swaps_text(found: Swaps, every: bool = False) -> str:
    """A sentence for each precision, and its dearest parts."""
    lines = [f"{found.request.model}, {found.architecture}: single swaps over {found.input.tokens:,} tokens"]
    for name in found.request.precisions:
        held = swaps.of(found, name)
        total = sum(row.kl.value for row in held)
        rows = [["swapped", "KL (nat)", "of the sum", "changed tokens"]]
        for row in held if every else held[:FEW]:
            share = f"{100 * row.kl.value / total:.0f} %" if total else "–"
            rows.append([row.part, interval_text("kl_mean", row.kl), share, f"{100 * row.changed.value:.2f} %"])
        lines += ["", words.swaps_headline(found, name), words.additivity(found, name), "", *aligned(rows)]
    control = f"Control: with nothing swapped in {label(found.request.reference)}, KL is {found.control:g}."
    return "\n".join([*lines, "", control, *found.notes])
