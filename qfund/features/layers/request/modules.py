"""What rounding does to each module's own output, for the inputs that the reference gives it."""

from dataclasses import dataclass, field

from qfund.core.environment import Environment
from qfund.core.metrics.histogram import Histogram
from qfund.core.request import LATER
from qfund.features.layers.request.asked import Asked
from qfund.inputs.facts import InputFacts


@dataclass(frozen=True, slots=True)
class LayersRequest(Asked):
    """Every module × precision, from one pass. ``gradient``: also what each costs at the outputs, foretold by one
    backward pass per batch, with the whole model in memory."""

    gradient: bool = field(default=False, metadata=LATER)


@dataclass(frozen=True, slots=True)
class Injected:
    """How far a module's output y′ is from the reference's y, both of the same inputs, over all positions.

    ``relative_l2`` is √(Σ(y′ − y)² / Σy²), ``sqnr`` 10·log10(Σy² / Σ(y′ − y)²) in dB (None where nothing differs) and
    ``cosine`` Σy′y / √(Σy′² Σy²): of all outputs as one vector. ``bytes`` is what the module's weights take in this
    precision, scales included. ``nonfinite`` outputs are left out. ``score`` is the mean KL divergence at the model's
    outputs, in nat, that gradients foretell for this rounding alone; None where they were not asked for.
    """

    relative_l2: float
    sqnr: float | None
    cosine: float
    bytes: int
    nonfinite: int = 0
    score: float | None = None


@dataclass(frozen=True, slots=True)
class Values:
    """How large numbers are: root mean square, largest magnitude, and |value| by powers of ten."""

    rms: float
    largest: float
    spread: Histogram


@dataclass(frozen=True, slots=True)
class Channel:
    """An input of a module whose largest magnitude stands out: ``times`` that of the median input."""

    index: int
    largest: float
    times: float


@dataclass(frozen=True, slots=True)
class Group:
    """The 32 neighbouring weights of a row with the largest magnitude: they share a scale in most formats."""

    row: int
    start: int
    largest: float
    times: float


@dataclass(frozen=True, slots=True)
class Module:
    """One module of the model.

    Attributes:
        kind: the last part of its name: ``q_proj``.
        block: the number of the block (layer) that it is in; None for those outside.
        shape: of its weight as a matrix [out, in].
        injected: by precision; those that leave this module alone are not there.
        inputs, channels: what it is given, and its loudest inputs; None where that is no single tensor of floats.
        weights, group: of its weight in the reference, and the group with its largest number.
    """

    name: str
    kind: str
    block: int | None
    shape: tuple[int, int]
    bytes: int
    injected: dict[str, Injected]
    weights: Values
    group: Group
    inputs: Values | None = None
    channels: tuple[Channel, ...] = ()

    @property
    def parameters(self) -> int:
        return self.shape[0] * self.shape[1]


@dataclass(frozen=True, slots=True)
class Layers:
    """``modules`` in the model's order. ``whole`` says why whole models were loaded; None where it was streamed."""

    request: LayersRequest
    qfund: str
    created: str
    environment: Environment
    architecture: str
    input: InputFacts
    modules: tuple[Module, ...]
    seconds: float
    whole: str | None = None
    notes: tuple[str, ...] = ()


def worst(found: Layers, precision: str, count: int = 5) -> tuple[Module, ...]:
    """The modules whose own outputs this precision changes most."""
    held = [module for module in found.modules if precision in module.injected]
    return tuple(sorted(held, key=lambda module: -module.injected[precision].relative_l2)[:count])
