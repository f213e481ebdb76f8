"""How fast, and why not faster, in sentences. Pure; no Streamlit."""

from collections.abc import Iterator

from qfund.core.estimate import Spread
from qfund.core.units import bytes_text, number_text, seconds_text
from qfund.drawing.phrases import label
from qfund.features.speed.request.bounds import decode_share, prefill_share
from qfund.features.speed.request.causes import DECODE, NOISE, causes
from qfund.features.speed.request.gpus import Estimated, per_million
from qfund.features.speed.request.speed import LLAMA, OWN, TORCH, Point, Run, Speed

#: Wider than this, relative to its median, an interval says that the machine did something else too.
STEADY = 0.06
#: Others took more than this share of the time: they are named.
WAITED = 0.05


def name(run: Run) -> str:
    """``INT8 (torchao)``; a plain cast by its label alone."""
    return label(run.precision) + ("" if run.backend == TORCH else f" ({run.backend})")


def headline(found: Speed, batch: int, depth: int) -> str:
    """What writes fastest here, or that nothing is clearly faster than the reference."""
    where = f"{batch:,} sequence{'s' * (batch > 1)} after {depth:,} tokens"
    reference = found.reference.at(batch, depth)
    rate = f"{number_text(reference.decode.median)} tokens/s"
    others = [(run, run.at(batch, depth)) for run in found.runs[1:]]
    if not others:
        share, _ = shares(found, found.reference, reference)
        return (
            f"{name(found.reference)} writes {spread_text(reference.decode)} tokens/s here, {share} of what the "
            f"memory's bandwidth allows ({where}); the first token is there after {first_text(reference)}."
        )
    faster = [(run, point) for run, point in others if point.decode_ratio.low > 1]
    if not faster:
        slower = sum(point.decode_ratio.high < 1 for _, point in others)
        rest = f"; {slower} of {len(others)} are clearly slower" if slower else ""
        return f"Nothing writes clearly faster here than {label(found.request.reference)} ({rate}, {where}){rest}."
    run, point = max(faster, key=lambda pair: pair[1].decode_ratio.median)
    return (
        f"{name(run)} writes fastest here: {number_text(point.decode.median)} tokens/s, {ratio(point.decode_ratio)} "
        f"the speed of {label(found.request.reference)} ({where})."
    )


def ratio(found: Spread) -> str:
    """``1.52 (1.40 to 1.61) times``."""
    return f"{found.median:.2f} ({found.low:.2f} to {found.high:.2f}) times"


def spread_text(found: Spread) -> str:
    """``201 (195 to 204)``."""
    return f"{number_text(found.median)} ({number_text(found.low)} to {number_text(found.high)})"


def shares(found: Speed, run: Run, point: Point) -> tuple[str, str]:
    """Of the bounds of writing and of reading, in per cent."""
    read = prefill_share(found.bounds, run, point)
    return f"{100 * decode_share(found.bounds, run, point):.0f} %", "-" if read is None else f"{100 * read:.0f} %"


def why(found: Speed, batch: int, depth: int, phase: str = DECODE) -> list[str]:
    """A sentence for each run that is slower than the reference, with the cause that its measurements show."""
    said = []
    for run in found.runs[1:]:
        point = run.at(batch, depth)
        times = point.decode_ratio if phase == DECODE else point.prefill_ratio
        named = [cause for cause in causes(found, run, point, phase) if cause.name != NOISE]
        said += [f"{name(run)}, {ratio(times)} the reference: {cause.name}. {cause.said}" for cause in named]
    return said


def bounds(found: Speed) -> str:
    """What this machine does at most."""
    peaks = ", ".join(f"{number_text(value / 1e9)} in {dtype}" for dtype, value in found.bounds.peaks.items())
    return (
        f"Bounds measured here: {number_text(found.bounds.bandwidth / 1e9)} GB/s read from memory, which limits "
        f"writing; GFLOP/s of a matrix product, which limit reading: {peaks}."
    )


def busy(found: Speed) -> str | None:
    """That times scatter, and how much the machine had to do; None where they are steady and nothing else ran."""
    points = [point for run in found.runs for point in run.points]
    widths = sorted((point.decode.high - point.decode.low) / point.decode.median for point in points)
    middle = widths[len(widths) // 2]
    taken = _taken_by_others(found)
    if middle <= STEADY:
        return f"A busy machine. {taken}Times are longer than they would be alone." if taken else None
    return (
        f"Times scatter: the intervals are {100 * middle:.0f} % of their medians wide, half of them wider. "
        f"{taken or _before(found)}Ratios are taken within rounds and hold better than the speeds."
    )


def _taken_by_others(found: Speed) -> str:
    """Empty where it was little, or nothing told."""
    said = []
    if found.waited is not None and found.waited > WAITED:
        said.append(f"threads waited {100 * found.waited:.0f} % of the time that they wanted a core")
    if found.stolen is not None and found.stolen > WAITED:
        said.append(f"other machines on the same host took {100 * found.stolen:.0f} % of the cores' time")
    return f"While it was timed, {' and '.join(said)}. " if said else ""


def _before(found: Speed) -> str:
    load, cores = found.bounds.load, found.bounds.cores
    if load is None:
        return ""
    if load > cores / 2:
        return f"{load:.1f} processes wanted its {cores} cores before this began. "
    return "Little else ran that this system tells of; a virtual machine may share its cores with others. "


def notes(found: Speed) -> Iterator[str]:
    """How it was measured, and what was not."""
    threads = found.environment.threads
    yield (
        f"Greedy writing of {found.request.new_tokens:,} tokens with a cache, models in turns, {_rounds(found)} rounds "
        f"after one that warms up, {threads} thread{'s' * (threads > 1)}; speeds are those of the faster half of "
        "rounds, since what else runs can only slow them, and ratios are taken within all: medians and intervals."
    )
    if any(run.backend == LLAMA for run in found.runs):
        yield "llama.cpp rounds the inputs of products too, and caches keys and values in fp16, as it does by itself."
    if any(run.backend == OWN for run in found.runs):
        yield "qfund's own modules decode weights at every use: they show a file's cost, not what a kernel could do."
    pairs = [(run, point) for run in found.runs for point in run.points]
    if any(decode_share(found.bounds, *pair) > 1 for pair in pairs):
        yield "More than 100 % of the bandwidth: the processor's own caches hold the weights."
    if any((prefill_share(found.bounds, *pair) or 0) > 1 for pair in pairs):
        yield "More than 100 % of a peak: the machine was slower while that was measured."
    yield found.energy
    yield from found.notes
    for run in found.runs:
        if run.compile_seconds is not None:
            yield f"{name(run)}: compiling took {seconds_text(run.compile_seconds)}, which no speed here holds."
        if run.problem:
            yield f"{name(run)}: {run.problem}"


def _rounds(found: Speed) -> str:
    counts = sorted({point.rounds for run in found.runs for point in run.points})
    return f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"


def refused(found: Speed) -> list[str]:
    return [f"{what} was not run: {why}" for what, why in found.refused.items()]


def elsewhere(run: Run, guess: Estimated, price: float | None) -> str:
    """What a GPU does at most, with all that it was worked out from."""
    said = (
        f"{name(run)} on {guess.gpu}, estimated and not measured: at most {number_text(guess.decode)} tokens/s written "
        f"({number_text(guess.bandwidth / 1e9)} GB/s published, {bytes_text(guess.step_bytes)} read a step) and "
        f"{number_text(guess.prefill)} tokens/s read ({number_text(guess.peak / 1e12)} TFLOP/s published)"
    )
    if price is None:
        return f"{said}."
    cost = cost_text(per_million(price, guess.decode))
    return f"{said}; at {price:g} an hour, at least {cost} a million written tokens."


def cost_text(cost: float) -> str:
    return f"{cost:.2f}" if cost >= 1 else number_text(cost)


def first_text(point: Point) -> str:
    return seconds_text(point.first.median)
