"""The best precision for each of several groups of modules under a bound, by mixed-integer programming."""

import ctypes
import math
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

#: Values of each choice by precision, and what they may sum to.
Bound = tuple[Sequence[Mapping[str, float]], float]


@dataclass(frozen=True, slots=True)
class Choice:
    """Modules that get one precision: what each costs in bytes and in damage (nat), and the share of positions whose
    likeliest output ``changed``, where that is known."""

    modules: tuple[str, ...]
    bytes: Mapping[str, int]
    damage: Mapping[str, float]
    changed: Mapping[str, float] = field(default_factory=dict)


def solve(choices: Sequence[Choice], budget: int) -> list[str] | None:
    """The precision of each choice with the smallest sum of damages whose bytes are at most ``budget``; None where
    nothing is that small. Of equal damages the fewer bytes.

    A multiple-choice knapsack (P. Sinha and A. Zoltners, "The multiple-choice knapsack problem", Operations Research
    27, 1979) as a mixed-integer programme, solved by HiGHS to optimality.
    """
    if sum(min(choice.bytes.values()) for choice in choices) > budget:
        return None
    return _solved(choices, [choice.damage for choice in choices], [([choice.bytes for choice in choices], budget)])


def smallest(choices: Sequence[Choice], damage: float | None, changed: float | None = None) -> list[str] | None:
    """The precision of each choice with the fewest bytes whose damages (nat) sum to at most ``damage``, and shares of
    changed positions to at most ``changed``, to one part in a million; None where nothing is that good. Of equal bytes
    the smaller damage. Solved as ``solve``."""
    bounds: list[Bound] = []
    if damage is not None:
        bounds.append(([choice.damage for choice in choices], damage))
    if changed is not None:
        bounds.append(([choice.changed for choice in choices], changed))
    if any(math.fsum(min(each.values()) for each in values) > bound for values, bound in bounds):
        return None
    return _solved(choices, [choice.bytes for choice in choices], bounds)


def _solved(
    choices: Sequence[Choice], least: Sequence[Mapping[str, float]], bounds: Sequence[Bound]
) -> list[str] | None:
    """One name of each choice: the smallest sum of ``least`` where each bound's values sum to at most its number."""
    import numpy as np
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import coo_array

    pairs = [(number, name) for number, choice in enumerate(choices) for name in choice.bytes]
    cost = np.array([least[number][name] for number, name in pairs], dtype=np.float64)
    owner = np.array([number for number, _ in pairs])
    once = coo_array((np.ones(len(pairs)), (owner, np.arange(len(pairs)))), shape=(len(choices), len(pairs)))
    constraints, tie = [LinearConstraint(once, 1, 1)], np.zeros(len(pairs))
    for values, bound in bounds:
        held = np.array([values[number][name] for number, name in pairs], dtype=np.float64)
        # All in units of their own scale: HiGHS takes differences below 1e-7 for none.
        scale = float(held.max()) or 1.0
        constraints.append(LinearConstraint(held / scale, -np.inf, bound / scale))
        tie += 1e-6 * held / (held.sum() or 1.0)
    with _silent():
        found = milp(
            cost / (cost.max() or 1.0) + tie,
            integrality=np.ones(len(pairs)),
            bounds=Bounds(0, 1),
            constraints=constraints,
            options={"mip_rel_gap": 1e-6},
        )
    if found.x is None:
        return None
    chosen = {number: name for (number, name), share in zip(pairs, found.x, strict=True) if share > 0.5}
    return [chosen[number] for number in range(len(choices))]


@contextmanager
def _silent() -> Iterator[None]:
    """HiGHS prints a line of its own to standard output now and then, where a command's JSON goes: to standard error
    with it."""
    with suppress(OSError, ValueError):
        sys.stdout.flush()
    try:
        kept = os.dup(1)
    except OSError:  # no standard output at all
        yield
        return
    try:
        os.dup2(2, 1)
        yield
    finally:
        with suppress(OSError, AttributeError, TypeError):
            ctypes.CDLL(None).fflush(None)
        os.dup2(kept, 1)
        os.close(kept)
