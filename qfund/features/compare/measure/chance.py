"""Whether reading on is worth it: how likely the rest of the tokens is to decide about a candidate."""

import math
from collections.abc import Iterable
from statistics import NormalDist

from qfund.core.intervals import quantile_among
from qfund.features.compare.request.decision import Finding

#: With less, a candidate is left undecided.
LEAST_CHANCE = 0.1


def chance(findings: Iterable[Finding], read: float, now: int, end: int, blocks: int) -> float:
    """How likely a verdict is when all is read, given what was seen in a share ``read`` of it.

    What will be found differs from what was by a normal error of variance se² · (1 − read): that of the rest, beside
    that of what is known, nothing being assumed of the truth. The interval around it will be narrower by √read, and
    count for ``end`` comparisons of ``blocks`` blocks rather than for ``now``. This is the predictive power of
    D. Spiegelhalter, L. Freedman and P. Blackburn ("Monitoring clinical trials: conditional or predictive power?",
    Controlled Clinical Trials 7, 1986). To give up for want of it says nothing of a candidate, so that no more verdicts
    are wrong: there are a few less. Where metrics are judged together, it is the most that it can be: all of them must
    be within, one of them outside.
    """
    within, outside = 1.0, 0.0
    for finding in findings:
        damage, margin = finding.estimate, max(finding.margin, finding.floor or 0.0)
        if damage.low is None or damage.high is None:
            return 1.0  # nobody knows
        above, below = damage.high - damage.value, damage.value - damage.low
        if damage.unit == "share" and not damage.low:  # cut off at 0, so that it says nothing of errors
            below = above
        quantile, last = quantile_among(now, damage.blocks), quantile_among(end, blocks)
        none_seen = damage.unit == "share" and damage.value == 0  # whose bound shrinks with n
        narrower = last / quantile * (read if none_seen else math.sqrt(read))
        error = max(above, below) / quantile * math.sqrt(1 - read)
        within = min(within, _below(damage.value + narrower * above, margin, error))
        outside += _below(margin, damage.value - narrower * below, error)
    return min(1.0, within + outside)


def _below(value: float, limit: float, error: float) -> float:
    """How likely a value is to come out below a limit."""
    return NormalDist().cdf((limit - value) / error) if error else float(value < limit)
