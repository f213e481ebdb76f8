"""How far a comparison has come, how long it takes, and which candidates were decided early."""

from qfund.core.units import seconds_text
from qfund.drawing.numbers import count_text
from qfund.drawing.phrases import label, listed, plural
from qfund.features.compare.request.decision import Decision, decide
from qfund.features.compare.request.duration import Duration, More
from qfund.features.compare.request.report import Report


def so_far(report: Report) -> str:
    """``4,096 of 16,384 tokens``."""
    if not report.input.tokens:
        return plural(report.input.chunks, "picture")
    return f"{report.input.tokens:,} of {plural(report.planned or report.input.tokens, 'token')}"


def notes(report: Report) -> tuple[str, ...]:
    """That not all was read, of a report that is partial, or for whom others were read on; and who was left open."""
    if report.partial:
        return (f"So far: {so_far(report)}. Intervals are wider than of a number of tokens chosen beforehand.",)
    if report.spec.until is None or not report.input.tokens:
        return ()
    early = {result.precision: result.tokens for result in report.results if result.tokens is not None}
    if not early and not report.planned:
        return ()
    every = {result.precision: result.tokens or report.input.tokens for result in report.results}
    undecided = {row.precision for row in decide(report, report.spec.until) if row.state == "inconclusive"}
    open_ = {name: read for name, read in every.items() if name in undecided and (name in early or report.planned)}
    told = _after({name: read for name, read in early.items() if name not in open_})
    others = len(every.keys() - early.keys() - open_.keys())
    if others:
        who = "all" if others == len(every) else f"the other{'s' * (others > 1)}"
        told.append(f"{who} after {report.input.tokens:,}")
    of = f" of {plural(report.planned, 'token')}" if report.planned else " tokens"
    decided = f"Read until it was decided: {listed(told)}{of}." if told else ""
    left = f"Left open, since the rest would hardly decide: {listed(_after(open_))} tokens." if open_ else ""
    return tuple(filter(None, (decided, left)))


def _after(read: dict[str, int]) -> list[str]:
    """``INT8 and NF4 after 2,048``, the soonest first."""
    return [
        f"{listed([label(name) for name, many in read.items() if many == tokens])} after {tokens:,}"
        for tokens in sorted(set(read.values()))
    ]


def verdicts(report: Report, decisions: tuple[Decision, ...]) -> str:
    """One line for a terminal: ``4,096 of 16,384 tokens: within your margin INT8; inconclusive INT4``."""
    states: dict[str, list[str]] = {}
    for decision in decisions:
        states.setdefault(decision.state, []).append(label(decision.precision))
    told = "; ".join(f"{state} {listed(names)}" for state, names in states.items())
    return f"{so_far(report)}: {told}"


def about(duration: Duration, until: bool) -> str:
    """``about 50 seconds``; of one that goes on until it is decided: ``a first verdict in about 50 seconds, all of it
    in at most 12 minutes``."""
    guess = "" if duration.measured else " (a first guess)"
    if not until or duration.first >= 0.9 * duration.seconds:
        return f"about {rough(duration.seconds)}{guess}"
    return f"a first verdict in about {rough(duration.first)}, at most {rough(duration.seconds)}{guess}"


def rough(seconds: float) -> str:
    """No more digits than an estimate has: ``20 seconds``, ``3 minutes``, ``2.5 hours``."""
    if seconds < 90:
        step = 1 if seconds < 10 else 5
        return plural(max(1, round(seconds / step) * step), "second")
    if seconds < 5400:
        return plural(round(seconds / 60), "minute")
    return f"{seconds / 3600:.2g} hours"


def more(found: More) -> str:
    """What a button says: ``Read 4,096 more tokens to decide, about 2 minutes``."""
    took = f", about {rough(found.seconds)}" if found.seconds is not None else ""
    return f"Read {count_text(found.tokens)} more tokens to decide{took}"


def stopped(report: Report) -> str:
    """Of what is left of one that was ended."""
    return f"This was ended after {so_far(report)}, in {seconds_text(report.seconds)}. What was read is kept."
