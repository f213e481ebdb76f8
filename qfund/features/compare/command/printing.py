"""A report for a terminal, and the margins that it is judged by."""

from argparse import ArgumentTypeError, Namespace
from collections.abc import Iterator

from qfund.commandline.table import Option
from qfund.commandline.tables import folded
from qfund.features.compare.request.decision import Margin, decide
from qfund.features.compare.request.report import Report

_BESIDE = 4  # candidates whose columns fit beside each other in a terminal


def _share(text: str) -> float:
    """Of ``1``, ``0.5`` or ``0.5%``."""
    try:
        value = float(text.strip().removesuffix("%"))
    except ValueError:
        value = -1.0
    if not 0 <= value <= 100:
        raise ArgumentTypeError(f"{text!r} is no number of per cent from 0 to 100")
    return value / 100


def _margin(name: str, default: float | None, what: str) -> Option:
    said = f"call a candidate within your margin with {what} (default: {100 * (default or 0):g})"
    return Option(f"--margin-{name}", said, "X", _share, default)


#: What each candidate is judged by; it changes no measurement.
MARGINS = (
    _margin("perplexity", Margin().perplexity, "perplexity that is worse by at most X %"),
    _margin("tokens", Margin().tokens, "at most X % of the most likely tokens changed"),
)


def margin(options: Namespace) -> Margin:
    return Margin(options.margin_perplexity, options.margin_tokens)


def text(found: Report, margin: Margin) -> str:
    """What was compared, a verdict for each candidate, and tables."""
    return "\n".join((*_head(found), *_verdicts(found, margin), "", *_tables(found)))


def _head(found: Report) -> Iterator[str]:
    from qfund.features.compare.words import candidates, report

    yield report.title(found)
    yield report.provenance(found)
    yield from report.notes(found)
    yield from (f"! {alarm}" for alarm in candidates.reference_alarms(found))
    if whole := report.whole_phrase(found):
        yield whole


def _verdicts(found: Report, margin: Margin) -> Iterator[str]:
    from qfund.features.compare.words import candidates

    decided = zip(decide(found, margin), candidates.verdicts(found), found.results, strict=True)
    for decision, judged, result in decided:
        yield from ("", judged.sentence, decision.sentence)
        yield from (f"! {alarm}" for alarm in judged.alarms)
        yield from (f"  {quiet}" for quiet in (*judged.cautions, *candidates.asides(result)))


def _tables(found: Report) -> Iterator[str]:
    from qfund.features.compare.tables import footprints, libraries, metrics
    from qfund.features.compare.words import libraries as words
    from qfund.features.compare.words import report, statistics

    fidelity = metrics.metrics_text(found)
    if fidelity.empty:
        yield report.nothing_compared(found)
    elif len(found.results) > _BESIDE:
        yield folded(metrics.metrics_by_precision(found))
    else:
        yield folded(fidelity.drop(columns=["Better", "Definition"]))
    if not fidelity.empty:
        yield statistics.how_sure(found)
    if found.noise:
        yield statistics.noise(found)
    yield from ("", folded(footprints.footprints_text(found)))
    if found.spec.libraries:
        shown = libraries.libraries_text(found).drop(columns=["Call", "Note", "Problem"], errors="ignore")
        yield from ("", folded(shown, keys=2))
        yield from (f"  {sentence}" for sentence in (*words.library_notes(found), *words.library_problems(found)))
