"""Which weights of a model a precision converts, and which modules it leaves, with the reason."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pkgutil import resolve_name

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear
from transformers.pytorch_utils import Conv1D

from qfund.core.errors import NothingConverted
from qfund.core.tensors import LeftModule
from qfund.precisions.backends.conversion import multiplied, multiplies_only
from qfund.precisions.precision import Precision
from qfund.precisions.quantizers.heads import output_heads
from qfund.precisions.quantizers.quantizer import Chooser, Quantizer, Shape, quantizer_of
from qfund.precisions.quantizers.stacks import Stack, stacks

Flat = Callable[[Tensor], Tensor]
#: Why a weight stays although every matrix is converted, or None: its name, its module, and whether it is a stack.
Kept = Callable[[str, nn.Module, bool], str | None]


@dataclass(frozen=True, slots=True)
class View:
    """How a parameter reads as a matrix [out, in] (``flat``), and the matrix as the parameter again (``unflat``)."""

    flat: Flat
    unflat: Callable[[Tensor, torch.Size], Tensor]

    def shape(self, shape: torch.Size) -> Shape:
        """Of the matrix."""
        rows, columns = self.flat(torch.empty(shape, device="meta")).shape
        return rows, columns


LINEAR = View(lambda weight: weight, lambda matrix, shape: matrix)
#: GPT-2's Conv1D holds [in, out].
TRANSPOSED = View(lambda weight: weight.T, lambda matrix, shape: matrix.T)
CONVOLUTION = View(lambda weight: weight.flatten(1), lambda matrix, shape: matrix.reshape(shape))


@cache
def stacked(stack: Stack) -> View:
    """All matrices of a stack below each other."""
    if not stack.transposed:
        return View(lambda weight: weight.reshape(-1, stack.ins), lambda matrix, shape: matrix.reshape(shape))
    return View(
        lambda weight: weight.reshape(-1, stack.ins, stack.outs).transpose(1, 2).flatten(0, 1),
        lambda matrix, shape: matrix.reshape(-1, stack.outs, stack.ins).transpose(1, 2).reshape(shape),
    )


@dataclass(frozen=True, slots=True)
class Weight:
    """A parameter that is converted: ``weight`` of a Linear, ``down_proj`` of stacked experts. ``inputs`` says whether
    the inputs that it is multiplied with are within reach: its module is a linear layer that does no more than that."""

    module: str
    key: str
    view: View
    inputs: bool = False

    @property
    def name(self) -> str:
        return f"{self.module}.{self.key}".lstrip(".")


@dataclass(frozen=True, slots=True)
class Plan:
    """What a quantiser converts in a model, and which modules it leaves, with the reason.

    Each of ``groups`` is one parameter and holds all places that share it.
    """

    groups: tuple[tuple[Weight, ...], ...]
    left: tuple[LeftModule, ...]

    @property
    def converted(self) -> tuple[str, ...]:
        """Names of modules."""
        return tuple(dict.fromkeys(weight.module for group in self.groups for weight in group))


def plan_conversion(
    model: nn.Module,
    also: Iterable[str] = (),
    product: bool = False,
    every_matrix: bool = False,
    kept: Kept | None = None,
) -> Plan:
    """Decide what is converted: every Linear, GPT-2 Conv1D, convolution and stack of experts, but not the output head.

    ``also`` adds kinds of modules (``"head"``, ``"embeddings"``); one that shares its weight with another takes it
    along, so that they stay tied. With ``product``, activations are quantised too, so what is converted must be
    multiplications of their own; with ``every_matrix``, every weight of two or more dimensions is converted but for
    those of which ``kept`` says why not, and activations only where they are within reach. Works on a model on the
    meta device too.

    A module that owns weights of two or more dimensions and is not converted is listed with the reason; norms and
    biases always stay.
    """
    also = frozenset(also)
    heads = output_heads(model)
    elsewhere = multiplied(model) if product else frozenset[str]()
    stack_of = stacks(model, _direct(model))
    users: dict[int, list[_User]] = {}
    for name, module in model.named_modules():
        for key, parameter in module.named_parameters(recurse=False):
            if parameter.dim() >= 2 and not key.endswith("_bias"):
                stack = stack_of.get(id(parameter))
                # Heads of several codebooks are a stack, which transformers does not name as output embeddings.
                head = module in heads or (stack is not None and name.endswith(("head", "heads")))
                user = _User(name, module, key, parameter, head, name.rpartition(".")[2] in elsewhere, stack)
                users.setdefault(id(parameter), []).append(user)
    groups: list[tuple[Weight, ...]] = []
    left: dict[str, LeftModule] = {}
    for shared in users.values():
        requested = every_matrix or any(user.role in also for user in shared)
        if every_matrix:
            why_kept = [kept and kept(user.full_name, user.module, user.stack is not None) for user in shared]
        else:
            why_kept = [user.why_left(requested, product) for user in shared]
        reasons = [reason for reason in why_kept if reason]
        if not reasons:
            groups.append(tuple(user.weight(product) for user in shared))
            continue
        for user, own in zip(shared, why_kept, strict=True):
            why = own or f"shares its weight with {_others(user, shared)}"
            left.setdefault(user.name, LeftModule(user.name or "(the model itself)", type(user.module).__name__, why))
    order = {name: place for place, (name, _) in enumerate(model.named_modules())}
    return Plan(tuple(groups), tuple(sorted(left.values(), key=lambda row: order.get(row.name, -1))))


def _direct(model: nn.Module) -> Iterator[str]:
    """Modules whose weights are multiplied by their own code or by that of the module above."""
    for name, module in model.named_modules():
        if not isinstance(module, nn.Linear | Conv1D | nn.Embedding | _ConvNd):
            yield name


def _others(user: "_User", shared: list["_User"]) -> str:
    return ", ".join(other.name for other in shared if other is not user)


@dataclass(frozen=True, slots=True)
class _User:
    """One place that holds a parameter."""

    name: str
    module: nn.Module
    key: str
    parameter: nn.Parameter
    head: bool
    elsewhere: bool  # whether its parent multiplies by it, without calling the module
    stack: Stack | None

    @property
    def full_name(self) -> str:
        return f"{self.name}.{self.key}".lstrip(".")

    @property
    def role(self) -> str | None:
        """The name under which it is converted only when asked for."""
        if self.head:
            return "head"
        return "embeddings" if isinstance(self.module, nn.Embedding) else None

    @property
    def view(self) -> View:
        if isinstance(self.module, Conv1D):
            return TRANSPOSED
        if isinstance(self.module, _ConvNd):
            return CONVOLUTION
        if self.stack is not None:
            return stacked(self.stack)
        return LINEAR if self.parameter.dim() == 2 else CONVOLUTION

    def weight(self, product: bool) -> Weight:
        layer = isinstance(self.module, nn.Linear | Conv1D)
        return Weight(self.name, self.key, self.view, product and layer and self.why_left(True, True) is None)

    def why_left(self, requested: bool, product: bool) -> str | None:
        module = self.module
        if self.head and not requested:
            return "the output head: errors there go straight to the logits (converted when asked for: head)"
        if isinstance(module, nn.Embedding):
            return None if requested else "an embedding: a look-up, not a multiplication (converted when asked for)"
        if isinstance(module, nn.Linear | Conv1D) and self.key == "weight":
            if product and (self.elsewhere or isinstance(module, NonDynamicallyQuantizableLinear)):
                return "its parent multiplies with its weight itself, so its activations are out of reach"
            if product and not multiplies_only(module):
                return f"{type(module).__name__} does more than multiply, so its activations are out of reach"
            return None
        if isinstance(module, _ConvTransposeNd):
            return "a transposed convolution: its output channels are not its rows"
        if isinstance(module, _ConvNd) and self.key == "weight":
            return "a convolution: its activations are not quantised" if product else None
        if self.stack is not None:
            return (
                "stacked experts: they multiply by themselves, so their activations are out of reach"
                if product
                else None
            )
        return f"no Linear layer: it uses its own {self.key} {list(self.parameter.shape)} directly"


def plan_of(model: nn.Module, row: Precision, also: Iterable[str] = ()) -> Plan:
    """The plan of a row.

    Raises:
        NothingConverted: the model has no module that this precision converts.
    """
    found = plan_conversion(model, also, row.product is not None, row.every_matrix, kept_by(row))
    if not found.groups:
        kinds = sorted({module.kind for module in found.left})
        raise NothingConverted(
            f"{row.label} would convert nothing in {type(model).__name__}: its weights are in its output head or in "
            f"{', '.join(kinds) or 'norms'}, which stay.",
            "Choose a float cast (bf16, fp16) for this model, or a precision that also converts what it has.",
        )
    return found


def kept_by(row: Precision) -> Kept | None:
    """Which matrices the row keeps although it converts every other, imported now."""
    return resolve_name(row.kept) if isinstance(row.kept, str) else row.kept


def quantizers(model: nn.Module, row: Precision, groups: Sequence[Sequence[Weight]]) -> list[Quantizer]:
    """The quantiser of each weight of a plan: the row's, or what it chooses for the weight (a mix of GGUF types)."""
    quantizer = quantizer_of(row)
    assert quantizer is not None
    if not isinstance(quantizer, Chooser):
        return [quantizer] * len(groups)
    names = [[weight.name for weight in group] for group in groups]
    return list(quantizer.choose(model, names, [columns_of(model, first) for first, *_ in groups]))


def columns_of(model: nn.Module, weight: Weight) -> int:
    """How many inputs the matrix has."""
    return weight.view.shape(model.get_submodule(weight.module).get_parameter(weight.key).shape)[1]
