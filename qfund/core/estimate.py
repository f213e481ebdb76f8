"""A number with what is needed to trust it."""

from dataclasses import dataclass

from qfund.core.intervals import widened


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with what is needed to trust it. ``se`` is the standard error of a mean over ``n`` positions taken as
    independent (llama.cpp's convention); None where the metric is no mean, or n < 2.

    ``low`` and ``high`` bound the 95 % interval that respects that tokens of one text are not independent: it comes
    from how ``blocks`` blocks of neighbouring chunks scatter (see ``intervals``). None where there are too few of them,
    or the metric is no mean.
    """

    value: float
    se: float | None
    n: int
    unit: str
    low: float | None = None
    high: float | None = None
    blocks: int = 0

    def interval(self, comparisons: int = 1) -> tuple[float, float] | None:
        """The 95 % interval, widened for one of ``comparisons`` looked at (Bonferroni); None where there is none."""
        if self.low is None or self.high is None:
            return None
        return widened(self.value, self.low, self.high, self.blocks, comparisons)
