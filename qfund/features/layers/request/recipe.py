"""A recipe: a precision for each module under a budget, found on one text and measured on another."""

import math
from dataclasses import dataclass, field, replace

from qfund.core.environment import Environment
from qfund.core.errors import EngineError, InvalidSpec
from qfund.core.estimate import Estimate
from qfund.core.names import look_up
from qfund.core.request import LATER
from qfund.features.layers.request import asked
from qfund.features.layers.request.asked import MAX_TOKENS, Asked
from qfund.features.memory.request import budgets
from qfund.features.memory.request.fits import Workload, checked_workload
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
    "injected": "modules' own errors: one streamed pass, the cheapest, and a poor guide to what outputs lose",
}
#: The same in a sentence that says what something was foretold from.
FROM = {"swaps": "single swaps", "gradient": "gradients", "injected": "modules' own errors"}


@dataclass(frozen=True, slots=True)
class RecipeRequest(Asked):
    """One budget bounds it: ``budget`` (bytes of the whole model), ``bits`` (per weight of the modules that can be
    chosen for, scales included), ``gpu`` (one of ``qfund fits``: what is left there beside the cache and activations of
    ``batch`` sequences of ``gpu_context`` tokens), or a margin: the fewest bytes within ``kl`` (mean KL divergence, in
    nat) and ``changed`` (share of positions with another likeliest output), as single swaps foretell them.
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
    changed: float | None = field(default=None, metadata=LATER)
    gpu: str | None = field(default=None, metadata=LATER)
    gpu_context: int = field(default=8192, metadata=LATER)
    batch: int = field(default=1, metadata=LATER)

    @property
    def margin(self) -> bool:
        """Whether the fewest bytes are asked for, and no budget is given."""
        return self.kl is not None or self.changed is not None


@dataclass(frozen=True, slots=True)
class Mixture:
    """A precision for each module that can be chosen for, and what that comes to.

    Attributes:
        precision: the name where all modules have one; None for a mix.
        modules: module → precision.
        bytes: of the whole model; ``bits`` per weight of these modules.
        predicted: the sum of the damages on the search text, in nat; ``kl`` is the mean KL divergence
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
    bounds = [request.budget, request.bits, request.gpu, request.margin or None]
    if bounds.count(None) != len(bounds) - 1:
        raise InvalidSpec(
            "A recipe needs one budget: bytes of the model, bits per weight, a GPU, or a margin on its outputs.",
            "Give --budget 3GiB, --bits 4.5, --gpu 4090, or --kl 0.01 and --changed 0.02.",
        )
    if request.gpu is not None:
        request = replace(request, gpu=budgets.gpu(request.gpu).name)
        checked_workload(workload(request))
    if request.changed is not None and not 0 < request.changed < 1:
        raise InvalidSpec(f"{request.changed:g} of all positions may change.", "Give a share above 0, below 1: 0.02.")
    if request.changed is not None and request.by != "swaps":
        raise InvalidSpec(
            f"{FROM[request.by].capitalize()} do not foretell which likeliest outputs change.",
            "Give --kl, or --by swaps.",
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


def workload(request: RecipeRequest) -> Workload:
    """What the GPU is to do, of a request that names one."""
    return Workload(budgets.gpu(request.gpu or "").bytes, request.gpu_context, request.batch)


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
