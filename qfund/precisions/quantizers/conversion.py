"""Apply a quantiser to a whole model, keep tied weights tied, and report what was converted and what was left.

A converted module keeps its class: each converted weight becomes a property that dequantises what is stored. So any
architecture runs unmodified (also where a parent reads ``child.weight`` itself); what is stored are buffers.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from qfund.precisions.precision import GGUF, Precision
from qfund.precisions.quantizers.absent import Absent, absent
from qfund.precisions.quantizers.pieces import dequantize, quantize
from qfund.precisions.quantizers.plan import Plan, View, Weight, columns_of, plan_of, quantizers
from qfund.precisions.quantizers.quantizer import Product, Quantizer, dtype_name, product_of

#: Takes what was read of a weight, by the name of one of its places.
Take = Callable[[str, Tensor], None]


@dataclass(frozen=True, slots=True)
class Part:
    """What a buffer of a converted module is: its ``kind`` as in ``TensorRow``, the ``element`` that it holds,
    the dtype (``logical``) that the weight claims to have, and how many weights (``elements``) it stands for."""

    kind: str
    element: str
    logical: str
    elements: int


@dataclass(frozen=True, slots=True)
class Conversion:
    """``saturated``: name of a weight → how many of its values were clipped; those with none are not listed.
    ``notes`` are sentences for people. ``quantizers``: name of a weight's first place → what quantises it."""

    plan: Plan
    saturated: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    quantizers: Mapping[str, Quantizer] = field(default_factory=dict)


@torch.no_grad()
def quantize_model(model: nn.Module, row: Precision, also: Iterable[str] = ()) -> Conversion:
    """Convert a loaded float model in place.

    Raises:
        NothingConverted: the model has no module that this precision converts.
        CorruptCheckpoint: a weight is NaN or infinite, which no scale can hold.
    """
    return _convert(model, row, also, quantize)


@torch.no_grad()
def quantize_as_read(
    model: nn.Module, row: Precision, also: Iterable[str], read: Callable[[Collection[str], Take], None]
) -> Conversion:
    """Convert a model whose weights are on the meta device as ``quantize_model`` does, each as soon as it is read.

    ``read`` is given the names of all that will be converted, and a function that takes what was read of one of these.
    It fills the model with all else, and may leave to the end what it cannot give by itself.

    Raises:
        NothingConverted, CorruptCheckpoint: as ``quantize_model``.
    """
    made: dict[str, tuple[dict[str, Tensor], int]] = {}

    def begin(chosen: Mapping[str, tuple[Weight, Quantizer]]) -> None:
        def take(name: str, tensor: Tensor) -> None:
            first, quantizer = chosen[name]
            if first.name not in made:  # what is tied may be stored several times
                made[first.name] = quantize(first.name, tensor, first.view, quantizer)

        read(chosen.keys(), take)

    def put(name: str, parameter: Tensor, view: View, quantizer: Quantizer) -> tuple[dict[str, Tensor], int]:
        return made.pop(name) if name in made else quantize(name, parameter, view, quantizer)

    return _convert(model, row, also, put, begin)


def convert_empty(model: nn.Module, row: Precision, also: Iterable[str] = ()) -> Conversion:
    """Convert a model whose weights are on the meta device as ``quantize_model`` does: what is stored is there too,
    tied places share it, and nothing is known to be clipped.

    Raises:
        NothingConverted: the model has no module that this precision converts.
    """

    def empty(name: str, parameter: Tensor, view: View, quantizer: Quantizer) -> tuple[dict[str, Tensor], int]:
        layouts = quantizer.layout(view.shape(parameter.shape), parameter.dtype)
        return {key: torch.empty(layout.shape, dtype=layout.dtype, device="meta") for key, layout in layouts.items()}, 0

    return _convert(model, row, also, empty)


def _convert(
    model: nn.Module,
    row: Precision,
    also: Iterable[str],
    make: Callable[[str, Tensor, View, Quantizer], tuple[dict[str, Tensor], int]],
    begin: Callable[[Mapping[str, tuple[Weight, Quantizer]]], None] = lambda chosen: None,
) -> Conversion:
    """Put what ``make`` gives (as ``quantize`` does) in the place of every weight of the row's plan; before that,
    ``begin`` is told of all places: the first one of the same weight, and what quantises it."""
    product = product_of(row)
    plan = plan_of(model, row, also)
    chosen = quantizers(model, row, plan.groups)
    notes = tuple(_notes(model, plan, row, chosen))
    pairs = list(zip(plan.groups, chosen, strict=True))
    begin({weight.name: (group[0], quantizer) for group, quantizer in pairs for weight in group})
    saturated: dict[str, int] = {}
    for group, quantizer in pairs:
        first = group[0]
        parameter: nn.Parameter = getattr(model.get_submodule(first.module), first.key)
        stored, clipped = make(first.name, parameter, first.view, quantizer)
        for weight in group:
            _replace(model.get_submodule(weight.module), weight, parameter, quantizer, product, stored)
        if clipped:
            saturated[first.name] = clipped
    by_name = {group[0].name: quantizer for group, quantizer in pairs}
    return Conversion(plan, saturated, notes, by_name)


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
        return view.unflat(dequantize(quantizer, held(self), matrix, dtype), shape).to(self.computes_in or dtype)

    def cast(self: Any, change: Callable[[Tensor], Tensor], *more: Any) -> Any:
        """A model's code may cast a layer as it runs (routers of experts to float32): the weight is read in that dtype,
        and what is stored stays as it is."""
        self.computes_in = change(torch.empty(0, dtype=self.computes_in or dtype)).dtype
        codes = {id(tensor) for tensor in held(self).values()}

        def kept(tensor: Tensor) -> Tensor:
            changed = change(tensor)
            return tensor.to(changed.device) if id(tensor) in codes else changed

        return original._apply(self, kept, *more)

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
    members |= {key: property(read), "computes_in": None, "_apply": cast}
    if product is not None and weight.inputs:
        members["forward"] = forward
    module.__class__ = type(original.__name__, (original,), members)


def _notes(model: nn.Module, plan: Plan, row: Precision, chosen: Sequence[Quantizer]) -> Iterator[str]:
    if not row.every_matrix:
        yield from _shared(model, plan)
        yield from _ragged(model, plan, row)
        return
    if row.family == GGUF:
        yield from _types(plan, chosen)
        yield from _fallen_back(model, plan, row)
        if said := getattr(row.quantizer, "said", None):  # of an importance matrix
            yield said([first.name for first, *_ in plan.groups])
    if row.product:
        yield from _out_of_reach(model, plan)


def _types(plan: Plan, chosen: Sequence[Quantizer]) -> Iterator[str]:
    """Of a file with several types, the first with the most tensors."""
    count = Counter(quantizer.element.upper() for quantizer in chosen)
    if len(count) > 1:
        yield f"Types of tensors: {', '.join(f'{name} {number:,}' for name, number in count.most_common())}."


def _fallen_back(model: nn.Module, plan: Plan, row: Precision) -> Iterator[str]:
    """Rows that are no whole blocks of the type that a GGUF file is named after."""
    assert row.group is not None
    columns = {first.name: columns_of(model, first) for first, *_ in plan.groups}
    if ragged := {name: count for name, count in columns.items() if count % row.group}:
        name, count = next(iter(ragged.items()))
        yield (
            f"In {len(ragged):,} of {len(columns):,} weights the rows are no whole blocks of {row.group} (first in "
            f"{name}: {count:,} inputs): they take the types that llama-quantize falls back to."
        )


def _shared(model: nn.Module, plan: Plan) -> Iterator[str]:
    """Embeddings that came along with their head, or the other way round."""
    for group in plan.groups:
        if len(group) > 1 and any(_is_embedding(model, weight) for weight in group):
            names = " and ".join(weight.module for weight in group)
            yield f"{names} share one weight: both are quantised, and stay tied."


def _ragged(model: nn.Module, plan: Plan, row: Precision) -> Iterator[str]:
    """Rows that are no whole groups: libraries refuse them."""
    if row.group is None:
        return
    columns = {first.name: columns_of(model, first) for first, *_ in plan.groups}
    ragged = {name: count for name, count in columns.items() if count % row.group}
    if ragged:
        name, count = next(iter(ragged.items()))
        yield (
            f"In {len(ragged):,} of {len(columns):,} weights the last group of each row is shorter than {row.group} "
            f"(first in {name}: {count:,} inputs)."
        )


def _out_of_reach(model: nn.Module, plan: Plan) -> Iterator[str]:
    """Weights whose inputs are not rounded; those of embeddings are looked up and have none."""
    weights = [weight for group in plan.groups for weight in group if not weight.inputs]
    embeddings = {weight.module for group in plan.groups for weight in group if _is_embedding(model, weight)}
    if far := [weight.name for weight in weights if weight.module not in embeddings]:
        yield (
            f"The inputs of {len(far):,} weight{'s' * (len(far) > 1)} are out of reach (first of {far[0]}): there "
            "only the weights are rounded."
        )


def _is_embedding(model: nn.Module, weight: Weight) -> bool:
    return isinstance(model.get_submodule(weight.module), nn.Embedding)
