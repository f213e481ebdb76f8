"""From borders and samples to figures: the need, the peaks, the curve."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from qfund.features.memory.measure.loading.messages import Border, Moment, Ran
from qfund.features.memory.request.load_peak import Curve, Inference, Phase, Sampled

#: Points of a curve.
POINTS = 400


def summarize_load(
    borders: Sequence[Border], samples: Sequence[tuple[float, int, int]], weights: int, moments: Sequence[Moment] = ()
) -> Sampled | None:
    """The figures of one load, from the borders between its phases, the samples, and the moments in which tensors that
    alias the file came or went.

    Private bytes at each moment are needed, and so are the tensors that alias the file then.
    """
    if not borders:
        return None
    first, zero = borders[0], borders[0].began
    private_before, rss_before = first.resident - first.shared, first.resident
    samples = sorted(row for row in samples if zero <= row[0] <= borders[-1].ended)
    times = [row[0] for row in samples]
    points: list[_Point] = []
    phases: list[Phase] = []

    def point(time: float, resident: int, shared: int, kept: int) -> "_Point":
        private = resident - shared - private_before
        return _Point(time - zero, private + kept, private, resident - rss_before)

    seen = _with_kept(samples, moments)
    for start, end in pairwise(borders):
        least = min(start.kept, end.kept)
        points.append(point(start.began, start.resident, start.shared, start.kept))
        points += [
            point(time, resident, shared, max(kept, least))
            for time, resident, shared, kept in seen
            if start.began <= time <= end.ended
        ]
        points.append(point(end.ended, end.resident, end.shared, end.kept))
        phases.append(Phase(start.phase, start.began - zero, end.ended - zero, points[-1].need, end.kept))
    peaks = {
        "need": max(row.need for row in points),
        "settled": points[-1].need,
        "private_peak": max(row.private for row in points),
        "rss_peak": max(row.rss for row in points),
    }
    thinned = thin(points, POINTS)
    return Sampled(
        **peaks,
        multiples={name: size / weights if weights else 0.0 for name, size in peaks.items()},
        baseline=private_before,
        samples=len(samples),
        largest_gap=max((after - before for before, after in pairwise(times)), default=0.0),
        phases=tuple(phases),
        curve=Curve(
            tuple(round(row.time, 6) for row in thinned),
            tuple(row.need for row in thinned),
            tuple(row.private for row in thinned),
            tuple(row.rss for row in thinned),
        ),
    )


def summarize_forward(
    borders: Sequence[Border], ran: Ran, samples: Sequence[tuple[float, int, int]], settled: int, weights: int
) -> Inference | None:
    """The figures of a forward after the load of those borders, above the same baseline: its own borders, and all
    samples in between, from outside and at the modules' ends."""
    if not borders or len(ran.borders) != 3:
        return None
    (start, end, _), baseline = ran.borders, borders[0].resident - borders[0].shared
    least = min(start.kept, end.kept)
    inside = sorted(row for row in (*samples, *ran.samples) if start.began <= row[0] <= end.ended)
    moments = [moment for moment in ran.moments if moment.time <= end.ended]
    *needs, after = (row.resident - row.shared - baseline + row.kept for row in ran.borders)
    needs += [
        resident - shared - baseline + max(kept, least)
        for _, resident, shared, kept in _with_kept(inside, moments, start.kept)
    ]
    times = [start.began, *(row[0] for row in inside), end.ended]
    return Inference(
        tokens=ran.tokens,
        pictures=ran.pictures,
        batch=ran.batch,
        need=max(needs),
        above_settled=max(needs) - settled,
        stays=after - settled,
        multiple=max(needs) / weights if weights else 0.0,
        seconds=end.ended - start.began,
        samples=len(inside),
        largest_gap=max(after - before for before, after in pairwise(times)),
        device_peak=ran.device_peak,
    )


def _with_kept(
    samples: Sequence[tuple[float, int, int]], moments: Sequence[Moment], kept: int = 0
) -> list[tuple[float, int, int, int]]:
    """Samples and moments, each with the bytes that alias the file then, ``kept`` before the first moment: at a moment
    those before it too, since a copy is there before what it was made of goes."""
    times, levels = [moment.time for moment in moments], [kept, *(moment.kept for moment in moments)]
    seen = [(*row, levels[bisect_right(times, row[0])]) for row in samples]
    seen += [
        (row.time, row.resident, row.shared, max(before, row.kept))
        for before, row in zip(levels, moments, strict=False)
    ]
    return sorted(seen)


@dataclass(frozen=True, slots=True)
class _Point:
    time: float
    need: int
    private: int
    rss: int


def thin(points: Sequence[_Point], most: int) -> list[_Point]:
    """At most ``most`` of the points, in order: of each of equal stretches in time the highest of each series, and the
    two ends."""
    if len(points) <= most:
        return list(points)
    stretches = (most - 2) // 3
    span = (points[-1].time - points[0].time) or 1.0
    chosen = {0, len(points) - 1}
    for series in ("need", "private", "rss"):
        best: dict[int, int] = {}
        for index, row in enumerate(points):
            stretch = min(int((row.time - points[0].time) / span * stretches), stretches - 1)
            if stretch not in best or getattr(row, series) > getattr(points[best[stretch]], series):
                best[stretch] = index
        chosen |= set(best.values())
    return [points[index] for index in sorted(chosen)]
