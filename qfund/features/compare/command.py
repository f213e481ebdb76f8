"""``qfund compare`` and ``qfund show``."""

import argparse
import json
import sys
from dataclasses import replace

from qfund.commandline import texts
from qfund.commandline.measuring import progress, say
from qfund.commandline.tables import print_table
from qfund.core.errors import InvalidInput, StoreError
from qfund.engine import compute
from qfund.engine.store import Store
from qfund.features.compare.request import report, spec
from qfund.features.compare.request.decision import Margin, decide

_BESIDE = 4  # candidates whose columns fit beside each other in a terminal


def add_margins(command: argparse.ArgumentParser) -> None:
    """What each candidate is judged by; it changes no measurement."""
    usual = Margin()
    for name, default, what in (
        ("perplexity", usual.perplexity, "perplexity that is worse by at most X %%"),
        ("tokens", usual.tokens, "at most X %% of the most likely tokens changed"),
    ):
        command.add_argument(
            f"--margin-{name}",
            type=_percent,
            default=default,
            metavar="X",
            help=f"call a candidate within your margin with {what} (default: {100 * (default or 0):g})",
        )


def _percent(text: str) -> float:
    """``1``, ``0.5`` or ``0.5%`` as a share."""
    try:
        value = float(text.strip().removesuffix("%"))
    except ValueError:
        value = -1.0
    if not 0 <= value <= 100:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of per cent from 0 to 100")
    return value / 100


def run_compare(options: argparse.Namespace) -> None:
    text = options.text if options.text_file is None else texts.read(options.text_file)
    asked = spec.Spec(
        model=options.model,
        reference=options.reference.lower(),
        precisions=tuple(name.lower() for given in options.precision for name in given.split(",") if name),
        text=text,
        max_tokens=spec.DEFAULT_TOKENS if options.max_tokens is None else options.max_tokens,
        context=options.context,
        revision=options.revision,
        also=tuple(name.lower() for given in options.also for name in given.split(",") if name),
        libraries=options.libraries,
        stride=options.stride,
        scoring=options.scoring.lower(),
        texts=() if options.text_folder is None else texts.read_folder(options.text_folder),
    )
    if options.like_llama_cpp:
        asked = replace(spec.like_llama_cpp(asked), stride=options.stride)
        asked = asked if options.max_tokens is None else replace(asked, max_tokens=options.max_tokens)
    found: report.Report = compute(
        asked,
        store=None if options.no_store else Store(),
        fresh=options.fresh,
        progress=None if options.quiet else progress,
        warn=lambda sentence: say(f"qfund: {sentence}"),
    )
    if options.json:
        sys.stdout.write(report.to_json(found).decode() + "\n")
    else:
        _print(found, Margin(options.margin_perplexity, options.margin_tokens))


def run_show(options: argparse.Namespace) -> None:
    document = texts.read(options.file)
    try:
        found = report.from_json(document.encode())
    except StoreError as error:
        if _has_schema(document):
            raise
        raise InvalidInput("This is no report of qfund.", "Give what `qfund compare … --json` printed.") from error
    _print(found, Margin(options.margin_perplexity, options.margin_tokens))


def _has_schema(document: str) -> bool:
    """Whether it is a report of some version of qfund, as far as can be told."""
    try:
        found = json.loads(document)
    except ValueError:
        return False
    return isinstance(found, dict) and "schema" in found


def _print(found: report.Report, margin: Margin) -> None:
    from qfund.features.compare.tables import footprints, metrics
    from qfund.features.compare.tables import libraries as library_tables
    from qfund.features.compare.words import candidates, libraries, statistics
    from qfund.features.compare.words import report as words

    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr, flush=True)
    print(words.title(found))
    print(words.provenance(found))
    for note in words.notes(found):
        print(note)
    for alarm in candidates.reference_alarms(found):
        print(f"! {alarm}")
    if whole := words.whole_phrase(found):
        print(whole)
    told = zip(decide(found, margin), candidates.verdicts(found), found.results, strict=True)
    for decision, said, result in told:
        print(f"\n{said.sentence}")
        print(decision.sentence)
        for alarm in said.alarms:
            print(f"! {alarm}")
        for quiet in (*said.cautions, *candidates.asides(result)):
            print(f"  {quiet}")
    print()
    fidelity = metrics.metrics_text(found)
    if fidelity.empty:
        print(words.nothing_compared(found))
    elif len(found.results) > _BESIDE:
        print_table(metrics.metrics_by_precision(found))
    else:
        print_table(fidelity.drop(columns=["Better", "Definition"]))
    if not fidelity.empty:
        print(statistics.how_sure(found))
    if found.noise:
        print(statistics.noise(found))
    print()
    print_table(footprints.footprints_text(found))
    if found.spec.libraries:
        print()
        shown = library_tables.libraries_text(found).drop(columns=["Call", "Note", "Problem"], errors="ignore")
        print_table(shown, keys=2)
        for sentence in (*libraries.library_notes(found), *libraries.library_problems(found)):
            print(f"  {sentence}")
