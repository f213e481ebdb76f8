"""Captions side by side → plain sentences."""

from qfund.features.captions.request import Captions, Share, Summary
from qfund.precisions.table import PRECISIONS


def percent(share: float, digits: int = 1) -> str:
    """``0.97`` → ``'97.0\u00a0%'``."""
    return f"{100 * share:.{digits}f}\u00a0%"


def interval(found: Share) -> str:
    """``'95.1–98.2\u00a0%'``."""
    return f"{100 * found.low:.1f}–{100 * found.high:.1f}\u00a0%"


def headline(found: Captions) -> str:
    """What the reference makes of the pictures, as a sentence."""
    label = PRECISIONS[found.request.reference].label
    exact = found.reference.exact
    if exact is None:
        return f"{found.total} picture{'s' * (found.total != 1)}, captioned in {label} and beside it."
    return (
        f"{label} captions {exact.count:,} of {exact.of:,} held-out pictures exactly: {percent(exact.value)} "
        f"(95\u00a0% interval {interval(exact)})."
    )


def verdicts(found: Captions) -> list[str]:
    """Each candidate beside the reference, as sentences; those that change nothing share one."""
    same = [row for row in found.candidates if row.changed and not row.changed.count and not row.nonfinite_positions]
    labels = [PRECISIONS[row.precision].label for row in same]
    listed = f"{', '.join(labels[:-1])} and {labels[-1]} change" if len(labels) > 1 else f"{''.join(labels)} changes"
    quiet = [f"{listed} no caption."] if same else []
    return quiet + [_verdict(found, row) for row in found.candidates if row not in same]


def _verdict(found: Captions, row: Summary) -> str:
    label, changed = PRECISIONS[row.precision].label, row.changed
    assert changed is not None
    said = f"{label} changes {changed.count:,} of {changed.of:,} captions ({percent(changed.value)})"
    change = row.exact_change
    if change is not None and change.se is not None and row.chance is not None:
        points = f"{100 * change.value:+.1f} points, standard error {100 * change.se:.1f}".replace("-", "−")
        # Of twenty results in which nothing changes, at most about one is said to hold a change (Bonferroni).
        noise = "" if row.chance < 0.05 / len(found.candidates) else ", which is within the noise"
        if row.broken or row.mended:
            said += f": {row.broken:,} from right to wrong, {row.mended:,} from wrong to right ({points}{noise})"
        elif changed.count:
            said += ", none of them from right to wrong or back"
    if row.nonfinite_positions:
        said += f". Logits were not finite at {row.nonfinite_positions:,} positions"
    return said + "."
