"""What a report is of: its title, its input, where it comes from, what must be known of it."""

from collections.abc import Iterable, Sequence

from qfund.core.units import seconds_text
from qfund.drawing.numbers import count_text
from qfund.drawing.phrases import against, label, listed, plural, when
from qfund.features.compare.request.report import Report
from qfund.features.compare.request.spec import PARTS
from qfund.features.compare.words import rounds
from qfund.features.compare.words.stored import stored_names, upcast_from
from qfund.inputs.texts import SECOND_HALF
from qfund.precisions.request import ALSO
from qfund.precisions.table import PRECISIONS


def nothing_compared(report: Report) -> str:
    """Why no metric could be computed."""
    broken = any(result.nonfinite_positions for result in (report.reference, *report.results))
    why = "No output is finite in both the reference and a candidate" if broken else "No position could be compared"
    return f"{why}, so there is nothing to say about fidelity."


def title(report: Report) -> str:
    """``pydoc-llama: FP32 against BF16, FP16 and INT8 weight-only``."""
    return f"{report.spec.model}: {against(report.reference.precision, [row.precision for row in report.results])}"


def provenance(report: Report) -> str:
    """One line that says what, when, where and with what, so that every number above it can be traced."""
    environment = report.environment
    parts = [
        f"Measured on {when(report.created)} in {seconds_text(report.seconds)}",
        f"{report.model.architecture}, {count_text(report.model.parameters)} parameters, {report.model.task}",
        *stored_phrase(report),
        input_phrase(report),
        *batch_phrase(report),
        *(f"{name} {version}" for name, version in ({"qfund": report.qfund} | environment.versions).items()),
        f"Python {environment.python}",
        f"{environment.cpu if environment.device == 'cpu' else environment.device}, "
        f"{plural(environment.threads, 'thread')}",
        f"model {environment.model_id[:19]}" + (f" at {environment.revision[:12]}" if environment.revision else ""),
    ]
    return " · ".join(parts)


def stored_phrase(report: Report) -> list[str]:
    """``stored as BF16``, ``stored as mixed BF16 and FP32``; nothing where that is not known."""
    names = stored_names(report)
    return [f"stored as {'mixed ' * (len(names) > 1)}{listed(names)}"] if names else []


def notes(report: Report) -> tuple[str, ...]:
    """What a reader must know about candidates that could not be, about the input and the files, about what was
    quantised besides, and about a reference that is wider than what is stored."""
    also = also_phrase(report.spec.also, [report.reference.precision, *(row.precision for row in report.results)])
    refused = (f"{label(name)} is left out: {why}" for name, why in report.refused.items())
    found = (*rounds.notes(report), *refused, *report.input.notes, *([f"{also}."] if also else []))
    if report.spec.without:
        found = (*found, f"Left out, as asked: {listed([PARTS[name] for name in report.spec.without])}.")
    if upcast_from(report) is None:
        return found
    stored, reference = listed(stored_names(report)), label(report.reference.precision)
    upcast = (
        f"The checkpoint is stored in {stored}; {reference} is its upcast, so memory is said beside what is on disk."
    )
    return (*found, upcast)


def also_phrase(also: Sequence[str], precisions: Iterable[str]) -> str:
    """``Quantized too: the output head and token and position embeddings``; nothing where no precision quantises."""
    quantizing = any(name in PRECISIONS and PRECISIONS[name].quantizer for name in precisions)
    return f"Quantised too: {listed([ALSO[name] for name in also if name in ALSO])}" if also and quantizing else ""


def input_phrase(report: Report) -> str:
    facts = report.input
    if facts.source == "pictures":
        return plural(facts.chunks, "picture")
    own = {"text": "own text", "texts": f"{len(facts.texts):,} own texts"}.get(facts.source, facts.source)
    half, stride = report.spec.scoring == SECOND_HALF, report.spec.stride
    size = f"of {'' if half else 'up to '}{facts.context}"
    how = ", the second half of each scored" if half else f", one every {plural(stride, 'token')}" if stride else ""
    return f"{own} of {plural(facts.tokens, 'token')} in {plural(facts.chunks, 'chunk')} {size}{how}"


def batch_phrase(report: Report) -> list[str]:
    """``4 chunks at once (measured), two models side by side``; nothing where that is the same on every machine."""
    if (found := report.batch) is None:
        return []
    beside = [f"{plural(found.lanes, 'model')} side by side"] if found.lanes > 1 else []
    return [", ".join([f"{plural(found.chunks, 'chunk')} at once{' (measured)' * found.measured}", *beside])]


def whole_phrase(report: Report) -> str | None:
    """Why whole models were loaded; None where the model was read block by block."""
    return f"Whole models were loaded: {report.whole}" if report.whole else None
