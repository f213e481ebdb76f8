"""Apply a quantiser to a whole model, keep tied weights tied, and report what was converted and what was left.

A converted module keeps its class: each converted weight becomes a property that dequantises what is stored. So any
architecture runs unmodified (also where a parent reads ``child.weight`` itself); what is stored are buffers.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from qfund.core.errors import CorruptCheckpoint, NothingConverted
from qfund.core.tensors import LeftModule
from qfund.precisions.backends.conversion import MULTIPLY_ONLY, code_of, multiplies_by
from qfund.precisions.precision import Precision
from qfund.precisions.quantizers.absent import Absent, absent
from qfund.precisions.quantizers.quantizer import Product, Quantizer, Shape

Flat = Callable[[Tensor], Tensor]


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

#: Stacked experts: [experts, out, in], or [experts, in, out].
EXPERTS = View(lambda weight: weight.flatten(0, 1), lambda matrix, shape: matrix.reshape(shape))

EXPERTS_TRANSPOSED = View(
    lambda weight: weight.transpose(1, 2).flatten(0, 1),
    lambda matrix, shape: matrix.reshape(shape[0], shape[2], shape[1]).transpose(1, 2),
)

_EXPERT_WEIGHTS = ("gate_up_proj", "up_proj", "down_proj")


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


@dataclass(frozen=True, slots=True)
class Part:
    """What a buffer of a converted module is: its ``kind`` as in ``report.TensorRow``, the ``element`` that it holds,
    the dtype (``logical``) that the weight claims to have, and how many weights (``elements``) it stands for."""

    kind: str
    element: str
    logical: str
    elements: int


@dataclass(frozen=True, slots=True)
class Conversion:
    """``saturated``: name of a weight → how many of its values were clipped; those with none are not listed.
    ``notes`` are sentences for people."""

    plan: Plan
    saturated: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def plan(model: nn.Module, also: Iterable[str] = (), product: bool = False, every_matrix: bool = False) -> Plan:
    """Decide what is converted: every Linear, GPT-2 Conv1D, convolution and stack of experts, but not the output head.

    ``also`` adds kinds of modules (``"head"``, ``"embeddings"``); one that shares its weight with another takes it
    along, so that they stay tied. With ``product``, activations are quantised too, so what is converted must be
    multiplications of their own; with ``every_matrix``, every weight of two or more dimensions is converted, and
    activations only where they are within reach. Works on a model on the meta device too.

    A module that owns weights of two or more dimensions and is not converted is listed with the reason; norms and
    biases always stay.
    """
    also = frozenset(also)
    # Of the parts too: a captioner's head is known to its text decoder only.
    parts = (part for part in model.modules() if isinstance(part, PreTrainedModel))
    heads = {id(head) for part in parts if (head := part.get_output_embeddings()) is not None}
    code = code_of(model) if product else ""
    users: dict[int, list[_User]] = {}
    for name, module in model.named_modules():
        for key, parameter in module.named_parameters(recurse=False):
            if parameter.dim() >= 2 and not key.endswith("_bias"):
                elsewhere = product and multiplies_by(code, name.rpartition(".")[2])
                user = _User(name, module, key, parameter, id(module) in heads, elsewhere)
                users.setdefault(id(parameter), []).append(user)
    groups: list[tuple[Weight, ...]] = []
    left: dict[str, LeftModule] = {}
    for shared in users.values():
        asked = every_matrix or any(user.role in also for user in shared)
        reasons = [] if every_matrix else [reason for user in shared if (reason := user.why_left(asked, product))]
        if not reasons:
            groups.append(tuple(user.weight(product) for user in shared))
            continue
        for user in shared:
            why = user.why_left(asked, product) or f"shares its weight with {_others(user, shared)}"
            left.setdefault(user.name, LeftModule(user.name or "(the model itself)", type(user.module).__name__, why))
    order = {name: place for place, (name, _) in enumerate(model.named_modules())}
    return Plan(tuple(groups), tuple(sorted(left.values(), key=lambda row: order.get(row.name, -1))))


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
    elsewhere: bool  # whether somebody else multiplies by it

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
        if self.parameter.dim() == 3:
            return EXPERTS_TRANSPOSED if getattr(self.module, "is_transposed", False) else EXPERTS
        return LINEAR if self.parameter.dim() == 2 else CONVOLUTION

    def weight(self, product: bool) -> Weight:
        layer = isinstance(self.module, nn.Linear | Conv1D)
        return Weight(self.name, self.key, self.view, product and layer and self.why_left(True, True) is None)

    def why_left(self, asked: bool, product: bool) -> str | None:
        module = self.module
        if self.head and not asked:
            return "the output head: errors there go straight to the logits (converted when asked for: head)"
        if isinstance(module, nn.Embedding):
            return None if asked else "an embedding: a look-up, not a multiplication (converted when asked for)"
        if isinstance(module, nn.Linear | Conv1D) and self.key == "weight":
            if product and (self.elsewhere or isinstance(module, NonDynamicallyQuantizableLinear)):
                return "its parent multiplies with its weight itself, so its activations are out of reach"
            if product and type(module).forward not in MULTIPLY_ONLY:
                return f"{type(module).__name__} does more than multiply, so its activations are out of reach"
            return None
        if isinstance(module, _ConvTransposeNd):
            return "a transposed convolution: its output channels are not its rows"
        if isinstance(module, _ConvNd) and self.key == "weight":
            return "a convolution: its activations are not quantised" if product else None
        if self.parameter.dim() == 3 and self.key in _EXPERT_WEIGHTS and hasattr(module, "is_transposed"):
            return (
                "stacked experts: they multiply by themselves, so their activations are out of reach"
                if product
                else None
            )
        return f"no Linear layer: it uses its own {self.key} {list(self.parameter.shape)} directly"


def quantizer_of(row: Precision) -> Quantizer | None:
    """The quantiser that a row of the table names, imported now; None for a cast."""
    found: Quantizer | None = _lazily(row.quantizer)
    return found


def product_of(row: Precision) -> Product | None:
    """How the row multiplies quantised activations, imported now; None where it leaves activations alone."""
    found: Product | None = _lazily(row.product)
    return found


def _lazily(name: str | None) -> Any:
    if name is None:
        return None
    module, _, object_ = name.partition(":")
    return getattr(__import__(module, fromlist=[object_]), object_)


def plan_of(model: nn.Module, row: Precision, also: Iterable[str] = ()) -> Plan:
    """The plan of a row.

    Raises:
        NothingConverted: the model has no module that this precision converts.
    """
    found = plan(model, also, row.product is not None, row.every_matrix)
    if not found.groups:
        kinds = sorted({module.kind for module in found.left})
        raise NothingConverted(
            f"{row.label} would convert nothing in {type(model).__name__}: its weights are in its output head or in "
            f"{', '.join(kinds) or 'norms'}, which stay.",
            "Choose a float cast (bf16, fp16) for this model, or a precision that also converts what it has.",
        )
    return found


@torch.no_grad()
def quantize_model(model: nn.Module, row: Precision, also: Iterable[str] = ()) -> Conversion:
    """Convert a loaded float model in place.

    Raises:
        NothingConverted: the model has no module that this precision converts.
        CorruptCheckpoint: a weight is NaN or infinite, which no scale can hold.
    """
    quantizer, product = quantizer_of(row), product_of(row)
    assert quantizer is not None
    found = plan_of(model, row, also)
    saturated: dict[str, int] = {}
    notes = tuple(_notes(model, found, row))
    for group in found.groups:
        clipped = _convert(model, group, quantizer, product)
        if clipped:
            saturated[group[0].name] = clipped
    return Conversion(found, saturated, notes)


def convert_empty(model: nn.Module, row: Precision, also: Iterable[str] = ()) -> Conversion:
    """Convert a model whose weights are on the meta device as ``quantize_model`` does: what is stored is there too,
    tied places share it, and nothing is known to be clipped.

    Raises:
        NothingConverted: the model has no module that this precision converts.
    """
    quantizer, product = quantizer_of(row), product_of(row)
    assert quantizer is not None
    found = plan_of(model, row, also)
    notes = tuple(_notes(model, found, row))
    for group in found.groups:
        first = group[0]
        parameter: nn.Parameter = getattr(model.get_submodule(first.module), first.key)
        layouts = quantizer.layout(first.view.shape(parameter.shape), parameter.dtype)
        stored = {
            part: torch.empty(layout.shape, dtype=layout.dtype, device="meta") for part, layout in layouts.items()
        }
        for weight in group:
            _replace(model.get_submodule(weight.module), weight, parameter, quantizer, product, stored)
    return Conversion(found, notes=notes)


@torch.no_grad()
def quantize(name: str, parameter: Tensor, view: View, quantizer: Quantizer) -> tuple[dict[str, Tensor], int]:
    """What is stored of the weight ``name``, and how many of its values were clipped.

    Raises:
        CorruptCheckpoint: a value is NaN or infinite, which no scale can hold.
    """
    matrix = view.flat(parameter.detach())
    # An extreme is NaN where any value is: one pass, where ``isfinite`` takes several.
    if matrix.numel() and not all(extreme.isfinite() for extreme in torch.aminmax(matrix)):
        count = int((~matrix.isfinite()).sum())
        raise CorruptCheckpoint(
            f"{count:,} of the {matrix.numel():,} values of {name} are NaN or infinite: no scale can hold them.",
            "Check the checkpoint, or compare float casts only.",
        )
    stored = {key: tensor.contiguous() for key, tensor in quantizer.quantize(matrix).items()}
    return stored, quantizer.saturated(matrix, stored)


def _shared(model: nn.Module, found: Plan) -> Iterable[str]:
    """Embeddings that came along with their head, or the other way round."""
    for group in found.groups:
        if len(group) > 1 and any(_is_embedding(model, one) for one in group):
            yield f"{' and '.join(one.module for one in group)} share one weight: both are quantised, and stay tied."


def _ragged(model: nn.Module, found: Plan, row: Precision) -> Iterable[str]:
    """Rows that are no whole groups: libraries refuse them."""
    if row.group is None:
        return
    columns = {
        group[0].name: group[0].view.shape(model.get_submodule(group[0].module).get_parameter(group[0].key).shape)[1]
        for group in found.groups
    }
    ragged = {name: count for name, count in columns.items() if count % row.group}
    if ragged:
        name, count = next(iter(ragged.items()))
        yield (
            f"In {len(ragged):,} of {len(columns):,} weights the last group of each row is shorter than {row.group} "
            f"(first in {name}: {count:,} inputs)."
        )


def _notes(model: nn.Module, found: Plan, row: Precision) -> Iterable[str]:
    if not row.every_matrix:
        yield from _shared(model, found)
        yield from _ragged(model, found, row)
    elif row.product:
        looked_up = [weight.module for weight in _all(found) if _is_embedding(model, weight)]
        far = [weight.name for weight in _all(found) if not weight.inputs and weight.module not in looked_up]
        if far:
            yield (
                f"The inputs of {len(far):,} weight{'s' * (len(far) > 1)} are out of reach (first of {far[0]}): there "
                "only the weights are rounded."
            )


def _all(found: Plan) -> Iterable[Weight]:
    return (weight for group in found.groups for weight in group)


def _is_embedding(model: nn.Module, weight: Weight) -> bool:
    return isinstance(model.get_submodule(weight.module), nn.Embedding)


def parts_of(weight: str, shape: torch.Size, dtype: torch.dtype, view: View, quantizer: Quantizer) -> dict[str, Part]:
    """Buffer's name → what it is, for one converted parameter."""
    parts: dict[str, Part] = {}
    elements = shape.numel()
    for key, layout in quantizer.layout(view.shape(shape), dtype).items():
        data = key.startswith("data")
        element = quantizer.element if data else dtype_name(layout.dtype)
        logical = dtype_name(dtype) if data else element
        parts[f"{weight}_{key}"] = Part("weight" if data else "scale", element, logical, elements if data else 0)
        if data:  # values that are split over several tensors are counted with the first
            elements = 0
    return parts


def dtype_name(dtype: torch.dtype) -> str:
    """``float32``."""
    return str(dtype).removeprefix("torch.")


def _convert(model: nn.Module, group: tuple[Weight, ...], quantizer: Quantizer, product: Product | None) -> int:
    """Convert one parameter wherever it is used; how many of its values were clipped."""
    first = group[0]
    parameter: nn.Parameter = getattr(model.get_submodule(first.module), first.key)
    stored, clipped = quantize(first.name, parameter, first.view, quantizer)
    for weight in group:
        _replace(model.get_submodule(weight.module), weight, parameter, quantizer, product, stored)
    return clipped


def _replace(
    module: nn.Module,
    weight: Weight,
    parameter: nn.Parameter,
    quantizer: Quantizer,
    product: Product | None,
    stored: Mapping[str, Tensor],
) -> None:
    key, view, shape, dtype = weight.key, weight.view, parameter.shape, parameter.dtype
    matrix = view.shape(shape)
    names = {part: f"{key}_{part}" for part in stored}

    def held(self: Any) -> dict[str, Tensor]:
        return {part: getattr(self, name) for part, name in names.items()}

    def read(self: Any) -> Tensor:
        if any(isinstance(tensor, Absent) for tensor in held(self).values()):
            return absent(torch.empty(shape, dtype=dtype, device="meta"))
        return view.unflat(quantizer.dequantize(held(self), matrix, dtype), shape)

    def forward(self: Any, x: Tensor) -> Tensor:
        assert product is not None
        return product(x, quantizer, held(self), matrix, self.bias)

    delattr(module, key)
    for part, tensor in stored.items():
        module.register_buffer(names[part], tensor)
    original = type(module)
    parts = parts_of(key, shape, dtype, view, quantizer)
    members: dict[str, Any] = {"quantized": {**getattr(original, "quantized", {}), **parts}}
    # nn.Module looks attributes up on the class first, so a property there stands for the deleted parameter.
    members[key] = property(read)
    if product is not None and weight.inputs:
        members["forward"] = forward
    module.__class__ = type(original.__name__, (original,), members)


def heads_of(model: nn.Module, row: Precision) -> dict[str, nn.Module]:
    """The output heads by name, of the model and of its parts.

    Raises:
        NothingConverted: there is none, or its product is not its own, where the row has a word on heads.
    """
    parts = (part for part in model.modules() if isinstance(part, PreTrainedModel))
    heads = {id(head) for part in parts if (head := part.get_output_embeddings()) is not None}
    found = {name: module for name, module in model.named_modules() if id(module) in heads}
    out_of_reach = any(type(head).forward not in MULTIPLY_ONLY for head in found.values())
    if row.head and (not found or out_of_reach):
        why = "does more than multiply" if found else "is not there: it predicts no tokens"
        raise NothingConverted(
            f"{row.label} would change nothing in {type(model).__name__}: its output head {why}.",
            "Choose the cast of the whole model.",
        )
    return found


def widen_heads(model: nn.Module, row: Precision) -> None:
    """Let output heads multiply in the dtype that the row names for them; what they store stays as it is.

    Raises:
        NothingConverted: as ``heads_of``.
    """
    if row.head is None:
        return
    wide: torch.dtype = getattr(torch, row.head)

    def forward(self: Any, x: Tensor) -> Tensor:
        bias = None if self.bias is None else self.bias.to(wide)
        return nn.functional.linear(x.to(wide), self.weight.to(wide), bias)

    for head in heads_of(model, row).values():
        original = type(head)
        head.__class__ = type(original.__name__, (original,), {"forward": forward})
