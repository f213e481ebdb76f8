"""The intervals that sentences, tables and pictures of one report show, each metric's the same everywhere."""

import math
from dataclasses import replace

from qfund.core.estimate import Estimate
from qfund.core.intervals import widened
from qfund.core.metrics.statistics import ITSELF, Mean
from qfund.core.metrics.table import METRICS
from qfund.features.compare.request.report import PrecisionResult, Report

#: By how much the tokens have grown between one look and the next: doubled, as many again are read by a candidate that
#: would have been decided soon after the look before.
GROWTH = 1.5
#: Looks that are planned at least, so that who reads on after a few has as much for more: as many as 16,384 tokens in
#: chunks of 256 take.
LOOKS = 6
#: Exponentials of a mean: their intervals are widened as that mean's, so that both say the same.
_EXPONENTIAL = ("perplexity", "perplexity_ratio")


def simultaneous(report: Report, result: PrecisionResult) -> dict[str, Estimate]:
    """A result's metrics with 95 % intervals that hold for all candidates of the report together, and at all looks at
    which it could have been left (Bonferroni).

    The looks that are planned, until the last token that was asked for, share half of the 5 % evenly, as many again
    after them half of what is left, and so on: all of them together have no more, however many follow, so a candidate
    may be left as soon as its interval decides, and what is said then is wrong no more often than what is said of a
    number of tokens chosen beforehand, whatever the dependence between looks. Half, since so far out in their tails
    intervals from ten blocks hold the truth of long-tailed values less often than they should; evenly, since with
    1/(k(k + 1)) for look k most wrong verdicts are the first look's, and the last decides too little. Looks come when
    the tokens have grown by half, so there are few: this is the union bound over epochs that grow geometrically of
    S. Howard, A. Ramdas, J. McAuliffe and J. Sekhon ("Time-uniform, nonparametric, nonasymptotic confidence sequences",
    Annals of Statistics 49, 2021), over intervals that allow for dependent chunks, and with the part of each look
    chosen beforehand, as in K. Lan and D. DeMets ("Discrete sequential boundaries for clinical trials", Biometrika 70,
    1983). ``benchmarks/race.py`` counts wrong verdicts.

    Perplexity ratio, difference and Δ NLL are one mean in three forms: so is their interval.
    """
    among = comparisons(len(report.results), result.looks, result.looks_planned)
    found = {name: _widened(name, estimate, among) for name, estimate in result.fidelity.items()}
    if found.keys() >= {"perplexity", "perplexity_ratio", "perplexity_diff"}:
        ratio, gap = found["perplexity_ratio"], found["perplexity_diff"]
        reference = found["perplexity"].value / ratio.value
        low, high = (None if end is None else reference * (end - 1) for end in (ratio.low, ratio.high))
        found["perplexity_diff"] = replace(gap, low=low, high=high, blocks=ratio.blocks)
    return found


def comparisons(candidates: int, looks: int, planned: int) -> int:
    """How many intervals one of them counts for, at its last look; 0 looks where it was chosen beforehand. Of results
    that planned none, as older ones, look k has 1/(k(k + 1)) of the 5 %."""
    if not looks:
        return candidates
    each: int = planned * 2 ** math.ceil(looks / planned) if planned else looks * (looks + 1)
    return candidates * each


def _widened(name: str, estimate: Estimate, candidates: int) -> Estimate:
    if estimate.low is None or estimate.high is None:
        return estimate
    ends = estimate.value, estimate.low, estimate.high
    if name in _EXPONENTIAL and min(ends) > 0:
        value, low, high = map(math.log, ends)
        low, high = map(math.exp, widened(value, low, high, estimate.blocks, candidates))
    else:
        low, high = widened(*ends, estimate.blocks, candidates)
    least, most = _bounds(name)
    return replace(estimate, low=max(low, least), high=min(high, most))


def _bounds(name: str) -> tuple[float, float]:
    """What the metric can be: a share no more than all."""
    statistic = METRICS[name].statistic if name in METRICS else None
    if isinstance(statistic, Mean) and statistic.link is ITSELF:
        return (0.0, 1.0) if statistic.share else statistic.bounds
    return -math.inf, math.inf
