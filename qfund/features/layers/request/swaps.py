"""Single swaps: what the outputs lose when one part of the model is in a precision and all else is the reference."""

import math
from dataclasses import dataclass

from qfund.core.environment import Environment
from qfund.core.errors import EngineError, UnknownName
from qfund.core.estimate import Estimate
from qfund.core.names import look_up
from qfund.features.layers.request import asked
from qfund.features.layers.request.asked import Asked
from qfund.inputs.facts import InputFacts

#: What is swapped at a time.
PARTS = {
    "block": "all modules of one block (layer)",
    "module": "one module",
    "kind": "one kind of module in all blocks (every q_proj)",
}


@dataclass(frozen=True, slots=True)
class SwapsRequest(Asked):
    """``part``: a name of ``PARTS``."""

    part: str = "block"


@dataclass(frozen=True, slots=True)
class Swap:
    """``modules`` in a precision, all others in the reference.

    ``kl`` is the mean KL(reference ‖ mix) of the outputs, in nat, ``changed`` the share of positions whose most likely
    output changed, each with its interval.
    """

    part: str
    precision: str
    modules: tuple[str, ...]
    kl: Estimate
    changed: Estimate


@dataclass(frozen=True, slots=True)
class Swaps:
    """``together``: precision → everything swapped at once, in the same text; ``control`` is the mean KL of a mix with
    nothing swapped, which must be exactly 0. ``blocks_run`` counts forwards of a block, of all that a whole model has
    ``blocks``."""

    request: SwapsRequest
    qfund: str
    created: str
    environment: Environment
    architecture: str
    input: InputFacts
    swaps: tuple[Swap, ...]
    together: dict[str, Swap]
    control: float
    seconds: float
    whole: str | None = None
    notes: tuple[str, ...] = ()


def checked(request: SwapsRequest) -> SwapsRequest:
    """
    Raises:
        QfundError: as ``asked.checked``; or a part that is none.
    """
    look_up(PARTS, request.part, "part to swap")
    return asked.checked(request)


def consistent(found: Swaps) -> None:
    """
    Raises:
        EngineError: nothing was swapped and something changed, or a part is in no precision.
    """
    if found.control != 0:
        raise EngineError(
            f"The control, in which nothing is swapped, differs from the reference by {found.control:g} nat.",
            "This is a fault of qfund: report it with the model's name.",
        )
    if unknown := {swap.precision for swap in found.swaps} - set(found.together):
        raise UnknownName(f"There is no whole model in {', '.join(sorted(unknown))}.", "Measure it again.")


def of(found: Swaps, precision: str) -> tuple[Swap, ...]:
    """Those of one precision, the dearest first."""
    return tuple(sorted((row for row in found.swaps if row.precision == precision), key=lambda row: -row.kl.value))


def additivity(found: Swaps, precision: str) -> float | None:
    """KL of everything swapped over the sum of single swaps: 1 where damages add up; None where there is none."""
    total = math.fsum(row.kl.value for row in of(found, precision))
    return found.together[precision].kl.value / total if total > 0 else None


def half(found: Swaps, precision: str) -> int:
    """How many of the dearest parts make up half of the sum of single swaps; 0 where nothing is damaged."""
    values = [row.kl.value for row in of(found, precision)]
    total, held = math.fsum(values), 0.0
    for count, value in enumerate(values, 1):
        held += value
        if total > 0 and held >= total / 2:
            return count
    return 0
