"""What a rounded KV cache costs, in sentences. Pure; no Streamlit."""

from qfund.core.units import bytes_text, number_text
from qfund.drawing.numbers import interval_text
from qfund.drawing.phrases import listed
from qfund.features.kv.request import Kv, KvRow
from qfund.precisions.caches import PER_CHANNEL, kept, parts, title
from qfund.precisions.table import PRECISIONS

#: Of next tokens that stay, what the headline asks of a cache.
KEEPS = 0.99
#: Of a passage that is asked for again, what the unrounded cache must find for others to be told from it.
RECALLS = 0.5


def headline(found: Kv) -> str:
    """What to cache in, from the smallest cache that leaves 99 % of next tokens."""
    measured = [row for row in found.rows if row.top1 is not None and row.kl is not None]
    if not measured:
        return "None of these caches could be measured."
    least = chosen(found)
    if least is None:
        best = max(measured, key=lambda row: row.top1.value if row.top1 else 0.0)
        return f"None of these caches leaves 99 % of next tokens; {title(best.kv)} comes closest: {_costs(best)}."
    share = least.bytes / found.reference_bytes if found.reference_bytes else 1.0
    label = PRECISIONS[found.request.precision].label
    return (
        f"Cache in {title(least.kv)}: {bytes_text(least.bytes)} for {found.tokens:,} tokens, {100 * share:.0f} % of "
        f"the cache in {label}, and {_costs(least)}."
    )


def chosen(found: Kv) -> KvRow | None:
    """The smallest cache that leaves ``KEEPS`` of next tokens; None where none does."""
    kept = [row for row in found.rows if row.top1 and row.top1.value >= KEEPS and not row.nonfinite]
    return min(kept, key=lambda row: (row.bytes, row.kl.value if row.kl else 0.0), default=None)


def _costs(row: KvRow) -> str:
    assert row.kl is not None and row.top1 is not None
    share = 100 * row.top1.value
    return f"{share:.2f} % of next tokens stay (KL {number_text(row.kl.value)} nat)"


def halves(row: KvRow) -> tuple[float, float] | None:
    """Mean KL in the first and in the second half of the context; None where one has no position."""
    middle = len(row.bands) // 2
    sums = [
        (sum(b.kl * b.count for b in part), sum(b.count for b in part))
        for part in (row.bands[:middle], row.bands[middle:])
    ]
    if not all(count for _, count in sums):
        return None
    (one, first), (two, second) = sums
    return one / first, two / second


def depth(row: KvRow) -> str | None:
    """Whether damage grows along the context; None where that cannot be said."""
    if (found := halves(row)) is None or row.kl is None:
        return None
    first, second = found
    if not first and not second:
        return f"{title(row.kv)} changes nothing at any depth."
    said = f"KL {number_text(first)} nat in the first half of the context, {number_text(second)} in the second"
    return f"{title(row.kv)}: {said}."


def refused(found: Kv) -> list[str]:
    return [f"{title(row.kv)} is left out: {row.problem}" for row in found.rows if row.problem]


def needle(found: Kv) -> str | None:
    """What becomes of passages that are asked for again; None where that was not looked at."""
    if found.recalled is None:
        return None
    own = f"{100 * found.recalled:.0f} %"
    if found.recalled < RECALLS:
        return (
            f"Asked for random passages again at the end of the context, this model finds {own} of {found.needles:,} "
            "tokens by itself: too few to see what a cache forgets."
        )
    lost = [row for row in found.rows if row.recalled is not None and row.recalled < found.recalled]
    said = ", ".join(f"{title(row.kv)} {100 * (row.recalled or 0):.0f} %" for row in lost)
    return (
        f"Asked for random passages again at the end of the context ({found.needles:,} tokens), the unrounded cache "
        f"finds {own}; {said or 'no cache here finds fewer'}."
    )


def notes(found: Kv) -> list[str]:
    """What has to be known to read the numbers."""
    said = [
        "Weights and arithmetic are those of the reference; keys and values alone are rounded, as they are written."
    ]
    if (looked := needle(found)) is not None:
        said.append(looked)
    if (least := chosen(found)) and (along := depth(least)):
        said.insert(0, along)
    waiting = [
        title(row.kv)
        for row in found.rows
        if parts(row.kv)[0] == PER_CHANNEL
        and not row.problem
        and (kept(row.kv)[1] or found.request.window) < found.request.keeps(row.kv)[1]
    ]
    if waiting:
        said.append(
            f"{listed(waiting)} keeps up to {found.request.keeps(PER_CHANNEL)[1]} recent tokens as computed until they "
            "fill a group, which is part of why it does well."
        )
    if found.request.first:
        said.append(f"The first {found.request.first:,} tokens stay as computed.")
    if found.request.window:
        said.append(f"Up to {found.request.window:,} recent tokens stay as computed, and are rounded together.")
    return said


def kl_text(row: KvRow) -> str:
    return "-" if row.kl is None else interval_text("kl_mean", row.kl)
