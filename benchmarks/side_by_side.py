"""Run things in turn, A B A B …, so that a machine whose speed drifts is fair to both; print medians and ratios."""

import statistics
from collections.abc import Callable, Mapping


def in_turn(things: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Each thing's measurements, one a round, after one round that is not counted."""
    found: dict[str, list[float]] = {name: [] for name in things}
    for number in range(rounds + 1):
        for name, thing in things.items():
            value = thing()
            if number:
                found[name].append(value)
    return found


def show(title: str, found: Mapping[str, list[float]], base: str, unit: str, scale: float = 1.0) -> None:
    """A table: median, lowest and highest of each, and the median of the ratios to ``base``, round by round."""
    print(f"\n{title} ({len(found[base])} rounds)")
    for name, values in found.items():
        ratios = [value / other for value, other in zip(values, found[base], strict=True)]
        low, middle, high = (scale * f(values) for f in (min, statistics.median, max))
        print(
            f"  {name:32} {middle:9.1f} {unit} ({low:.1f} … {high:.1f})  ×{statistics.median(ratios):.2f} of {base}",
            flush=True,
        )
