"""How sure numbers are, in sentences. As in ``words.candidates``, none claims more than the numbers say."""

from typing import TYPE_CHECKING

from qfund.core.intervals import MIN_BLOCKS
from qfund.core.units import number_text
from qfund.drawing.phrases import FEW, label, listed
from qfund.features.compare.request import noise_floor
from qfund.features.compare.request.report import Report
from qfund.features.compare.request.simultaneous import simultaneous

if TYPE_CHECKING:
    import pandas as pd

FLOOR = (
    "How far the reference is from itself when it runs with other threads, another batch shape or another attention: a "
    "difference that means nothing."
)


def widened(candidates: int) -> str:
    """What is particular about the intervals of verdicts, beside those of the table."""
    return f", widened for {candidates} candidates" if candidates > 1 else ""


def how_sure(report: Report) -> str:
    """What stands beside the values of the table."""
    bounded = any(estimate.low is not None for row in report.results for estimate in row.fidelity.values())
    told = (
        "In parentheses the 95 % interval, from how chunks of the text scatter: tokens of one text are not independent."
        if bounded
        else f"No intervals: they take {MIN_BLOCKS} chunks of text, and this one has fewer."
    )
    if bounded and len(report.results) > 1:
        told += (
            f" They are widened for {len(report.results)} candidates, as in the verdicts, so that of all of them "
            "together one in twenty reports is wrong at most."
        )
    if not report.noise:
        return told
    return f"{told} “No measurable difference”: all of the interval lies within what the reference differs from itself."


def noise(report: Report) -> str:
    """What the runs of the reference against itself say."""
    runs = [run for run in report.noise if run.name != noise_floor.EXACT]
    parts = []
    if runs:
        floor = noise_floor.noise_floor(report)
        largest = floor.get("kl_mean")
        if largest is not None:
            parts.append(
                f"The noise floor is the largest of {len(runs)} runs: a KL divergence of {number_text(largest)} nat."
                if len(runs) > 1
                else f"The noise floor is a KL divergence of {number_text(largest)} nat."
            )
        below = [
            label(result.precision)
            for result in report.results
            if (found := simultaneous(report, result).get("kl_mean"))
            and noise_floor.below_floor(found, "kl_mean", floor)
        ]
        above = largest is not None and all(
            (found.value if found.low is None else found.low) > largest
            for result in report.results
            if (found := simultaneous(report, result).get("kl_mean"))
        )
        if below:
            verb = "shows" if len(below) == 1 else "show"
            names = listed(below) if len(below) <= FEW else f"{len(below)} candidates"
            parts.append(f"{names} {verb} no measurable difference from it.")
        elif report.results and above:
            parts.append("Every candidate is above it." if len(report.results) > 1 else "The candidate is above it.")
    if any(run.name == noise_floor.EXACT for run in report.noise):
        parts.append("Against float64 the reference shows what it rounds away itself.")
    return " ".join(parts)


def drift(report: Report, frame: "pd.DataFrame", which: str) -> str:
    """How to read the picture of ``tables.metrics.drift``, and where values stop being finite."""
    rising = "Lower is noisier." if which == "SQNR" else "Higher is further from the reference."
    broken = frame[frame["broken"]]
    told = [
        f"{row['label']} first gives values that are not finite after {row['block']}."
        for row in broken.to_dict("records")
    ]
    if len(told) > FEW:
        told = [f"{len(told)} candidates give values that are not finite."]
    exact = [
        label(result.precision)
        for result in report.results
        if result.drift and all(error.relative_l2 == 0 and not error.nonfinite for error in result.drift)
    ]
    if exact:
        verb = "differs" if len(exact) == 1 else "differ"
        told.append(f"{listed(exact)} {verb} nowhere, which no logarithmic axis shows.")
    return " ".join(["Hidden states after each block, in the order of execution.", rising, *told])


def tails(frame: "pd.DataFrame") -> str:
    """Whether what the correct token's probability does looks like noise or like damage."""
    by_kind = {kind: list(rows["label"]) for kind, rows in frame.groupby("heavier", sort=False)}
    says = {
        "neither": "tails about alike, which is what noise looks like",
        "loss": "the heavier tail at losses, which is what damage looks like",
        "gain": "the heavier tail at gains",
        "unclear": "the heavier tail at one side only in part, which tells neither",
    }
    parts = []
    for kind, said in says.items():
        names = by_kind.get(kind, [])
        if names:
            who = listed(names) if len(names) <= FEW else f"{len(names)} candidates"
            parts.append(f"{who} {'has' if len(names) == 1 else 'have'} {said}.")
    read = "At one position in a hundred the correct token loses (filled) or gains (open) at least this much."
    return " ".join([read, *parts])
