"""A recipe: a precision for each module under a budget, found on one text and measured on another."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from qfund.core.environment import Environment
from qfund.core.errors import EngineError, InvalidSpec
from qfund.core.estimate import Estimate
from qfund.core.names import look_up
from qfund.core.request import LATER
from qfund.features.layers.request import asked
from qfund.features.layers.request.asked import MAX_TOKENS, Asked
from qfund.inputs.facts import InputFacts
from qfund.precisions.table import PRECISIONS

#: Modules that kernels and exporters want in one precision.
ALIKE = {
    "qkv": "the projections of queries, keys and values of a block",
    "gate-up": "the gate and the up projection of a block",
    "block": "all modules of a block",
    "kind": "every kind of module in all blocks (every q_proj)",
}
#: By the last part of a module's name.
FUSED = {
    "qkv": ("q_proj", "k_proj", "v_proj", "query", "key", "value", "q", "k", "v"),
    "gate-up": ("gate_proj", "up_proj", "w1", "w3", "wi_0", "wi_1"),
}
#: How damages are measured on the search text.
SCORES = {
    "swaps": "single swaps: each part in each precision, all else the reference",
    "gradient": "gradients: one backward pass per batch, with the whole model in memory in all precisions",
}


@dataclass(frozen=True, slots=True)
class RecipeRequest(Asked):
    """Exactly one of ``budget`` (bytes of the whole model), ``bits`` (per weight of the modules that can be chosen for,
    scales included) and ``kl`` (mean KL divergence as foretold, in nat: the fewest bytes within it) bounds it.
    ``precisions`` are to choose from, and the reference beside them.

    Attributes:
        alike: names of ``ALIKE``: what has to be in one precision.
        max_tokens: of the text on which damages are measured; ``test_tokens`` after them are what recipe and uniform
            precisions are compared on.
        by: a name of ``SCORES``.
    """

    budget: int | None = None
    bits: float | None = None
    alike: tuple[str, ...] = ("qkv", "gate-up")
    test_tokens: int = 4096
    kl: float | None = field(default=None, metadata=LATER)
    by: str = field(default="swaps", metadata=LATER)


@dataclass(frozen=True, slots=True)
class Mixture:
    """A precision for each module that can be chosen for, and what that comes to.

    Attributes:
        precision: the name where all modules have one; None for a mix.
        modules: module → precision.
        bytes: of the whole model; ``bits`` per weight of these modules.
        predicted: the sum of the damages of single swaps on the search text, in nat; ``kl`` is the mean KL divergence
            measured on the test text and ``changed`` the share of its positions with another likeliest output.
    """

    precision: str | None
    modules: dict[str, str]
    bytes: int
    bits: float
    predicted: float
    kl: Estimate | None = None
    changed: Estimate | None = None


@dataclass(frozen=True, slots=True)
class Recipe:
    """
    Attributes:
        search_tokens, test_tokens: what is read of either part of the input, special tokens included.
        recipe: the best mix by prediction.
        uniform: every precision for all modules, of those that were to be chosen from.
        rival: the uniform precision of no more bytes that is best on the search text; None where none is so small.
        difference: mean KL of the recipe − that of the rival, on the test text, position by position, with its
            interval.
        frontier: what the best mixes of other budgets would come to: predicted only.
        smallest: bytes of the smallest model that these precisions make.
    """

    request: RecipeRequest
    qfund: str
    created: str
    environment: Environment
    architecture: str
    input: InputFacts
    search_tokens: int
    test_tokens: int
    budget: int
    recipe: Mixture
    uniform: tuple[Mixture, ...]
    rival: str | None
    difference: Estimate | None
    frontier: tuple[Mixture, ...]
    smallest: int
    seconds: float
    notes: tuple[str, ...] = ()

    @property
    def recommended(self) -> Mixture:
        """The recipe only where it is better beyond doubt, or nothing uniform is as small."""
        if self.rival is None or self.better:
            return self.recipe
        return next(row for row in self.uniform if row.precision == self.rival)

    @property
    def better(self) -> bool:
        """Whether the interval of the difference lies on the recipe's side."""
        return self.difference is not None and self.difference.high is not None and self.difference.high < 0


def checked(request: RecipeRequest) -> RecipeRequest:
    """
    Raises:
        InvalidSpec: no budget or two, or one that no model can have; a text that is too short.
        QfundError: as ``asked.checked``.
    """
    request = asked.checked(request)
    if [request.budget, request.bits, request.kl].count(None) != 2:
        raise InvalidSpec(
            "A recipe needs one budget: bytes of the model, bits per weight, or a KL divergence.",
            "Give --budget 3GiB, --bits 4.5 or --kl 0.01.",
        )
    if request.budget is not None and request.budget <= 0:
        raise InvalidSpec(f"The budget is {request.budget:,} bytes.", "Give an amount of memory: 3GiB.")
    if request.bits is not None and not (math.isfinite(request.bits) and 0 < request.bits <= 64):
        raise InvalidSpec(f"{request.bits:g} bits per weight are asked for.", "Give a number above 0, at most 64.")
    if request.kl is not None and not (math.isfinite(request.kl) and request.kl > 0):
        raise InvalidSpec(f"A KL divergence of {request.kl:g} nat is asked for.", "Give a number above 0: 0.01.")
    if not 2 <= request.test_tokens <= MAX_TOKENS:
        raise InvalidSpec(f"test_tokens is {request.test_tokens:,}.", f"Give a number from 2 to {MAX_TOKENS:,}.")
    look_up(SCORES, request.by, "way to measure damages")
    for name in request.alike:
        look_up(ALIKE, name, "group of modules")
    return replace(request, alike=tuple(name for name in ALIKE if name in request.alike))


def consistent(found: Recipe) -> None:
    """
    Raises:
        EngineError: the recipe is above its budget, or leaves a module out.
    """
    if found.recipe.bytes > found.budget:
        raise EngineError(
            f"The recipe takes {found.recipe.bytes:,} bytes, more than the {found.budget:,} that were asked for.",
            "This is a fault of qfund: report it with the model's name.",
        )
    if any(set(row.modules) != set(found.recipe.modules) for row in found.uniform):
        raise EngineError("The recipe and a uniform precision do not choose for the same modules.", "Measure it again.")


@dataclass(frozen=True, slots=True)
class Choice:
    """Modules that get one precision: what each costs in bytes and in damage (nat)."""

    modules: tuple[str, ...]
    bytes: Mapping[str, int]
    damage: Mapping[str, float]


def solve(choices: Sequence[Choice], budget: int) -> list[str] | None:
    """The precision of each choice with the smallest sum of damages whose bytes are at most ``budget``; None where
    nothing is that small. Of equal damages the fewer bytes.

    A multiple-choice knapsack (P. Sinha and A. Zoltners, "The multiple-choice knapsack problem", Operations Research
    27, 1979) as a mixed-integer programme, solved by HiGHS to optimality.
    """
    if sum(min(choice.bytes.values()) for choice in choices) > budget:
        return None
    return _solved(choices, [choice.damage for choice in choices], [choice.bytes for choice in choices], budget)


def smallest(choices: Sequence[Choice], damage: float) -> list[str] | None:
    """The precision of each choice with the fewest bytes whose damages (nat) sum to at most ``damage``, to one part in
    a million; None where nothing is that good. Of equal bytes the smaller damage. Solved as ``solve``."""
    if math.fsum(min(choice.damage.values()) for choice in choices) > damage:
        return None
    return _solved(choices, [choice.bytes for choice in choices], [choice.damage for choice in choices], damage)


def _solved(
    choices: Sequence[Choice],
    least: Sequence[Mapping[str, float]],
    bounded: Sequence[Mapping[str, float]],
    bound: float,
) -> list[str] | None:
    """One name of each choice: the smallest sum of ``least`` where that of ``bounded`` is at most ``bound``."""
    import numpy as np
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import coo_array

    pairs = [(number, name) for number, choice in enumerate(choices) for name in choice.bytes]
    cost = np.array([least[number][name] for number, name in pairs], dtype=np.float64)
    held = np.array([bounded[number][name] for number, name in pairs], dtype=np.float64)
    owner = np.array([number for number, _ in pairs])
    once = coo_array((np.ones(len(pairs)), (owner, np.arange(len(pairs)))), shape=(len(choices), len(pairs)))
    # Both in units of their own scale: HiGHS takes differences below 1e-7 for none.
    scale = float(held.max()) or 1.0
    found = milp(
        cost / (cost.max() or 1.0) + 1e-6 * held / (held.sum() or 1.0),
        integrality=np.ones(len(pairs)),
        bounds=Bounds(0, 1),
        constraints=[LinearConstraint(once, 1, 1), LinearConstraint(held / scale, -np.inf, bound / scale)],
        options={"mip_rel_gap": 1e-6},
    )
    if found.x is None:
        return None
    chosen = {number: name for (number, name), share in zip(pairs, found.x, strict=True) if share > 0.5}
    return [chosen[number] for number in range(len(choices))]


def document(found: Recipe) -> dict[str, object]:
    """The recipe alone, as it is kept in a file."""
    return {"model": found.request.model, "reference": found.request.reference, "modules": found.recipe.modules}


def label(mixture: Mixture) -> str:
    """``INT4``, or the precisions of a mix by how many modules have them."""
    if mixture.precision:
        return PRECISIONS[mixture.precision].label
    counts: dict[str, int] = {}
    for name in mixture.modules.values():
        counts[name] = counts.get(name, 0) + 1
    order = sorted(counts, key=lambda name: -counts[name])
    return ", ".join(f"{counts[name]} × {PRECISIONS[name].label}" for name in order)
