"""A model without weights: what it will store in any precision of one base dtype, known from shapes alone."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers.core_model_loading import build_glob_alternation

from qfund.checkpoints.checkpoint import Checkpoint
from qfund.core.tensors import TensorRow
from qfund.models.footprint import Footprint, tensor_row
from qfund.models.match.names import Matching, match, sentences, untie
from qfund.models.meta import build
from qfund.precisions.precision import Precision
from qfund.precisions.quantizers.conversion import Part, parts_of
from qfund.precisions.quantizers.heads import heads_of, output_heads
from qfund.precisions.quantizers.plan import (
    Plan,
    View,
    Weight,
    kept_by,
    plan_conversion,
    plan_of,
    quantizers,
)
from qfund.precisions.quantizers.quantizer import Layout, Quantizer, dtype_name
from qfund.precisions.unconverted import unconverted


@dataclass(frozen=True, slots=True)
class _Slot:
    """A place that holds a parameter or a buffer, and its row as long as it is not quantised."""

    name: str
    module: str
    layout: Layout
    row: TensorRow


class Skeleton:
    """The model on the meta device, in a base dtype; built once, asked for every precision on that base."""

    def __init__(self, checkpoint: Checkpoint, dtype: torch.dtype, matching: Matching | None = None) -> None:
        """``matching`` is that of a skeleton of this checkpoint, where there is one yet.

        Raises:
            UnsupportedModel: the architecture cannot be built, or a weight is stored in whole numbers.
            CorruptCheckpoint: nothing of what is stored is what the model needs.
        """
        self.model = build(checkpoint, dtype)
        self.matching = match(checkpoint, self.model, dtype) if matching is None or matching.twice else matching
        untie(self.model, self.matching.untied)
        self._slots = tuple(_slots(self.model, dtype))
        self._plans: dict[tuple[object, ...], Plan] = {}

    @property
    def rows(self) -> dict[str, TensorRow]:
        """Of parameters and buffers, by name, unquantised."""
        return {slot.name: slot.row for slot in self._slots}

    @property
    def kinds(self) -> dict[str, str]:
        """Module → class, of modules that hold tensors themselves, in the model's order."""
        held = dict.fromkeys(slot.module for slot in self._slots)
        return {name: type(self.model.get_submodule(name)).__name__ for name in held}

    @property
    def places(self) -> dict[str, str]:
        """Parameter or buffer → the part of a footprint that it is when it is not quantised (``plan.PARTS``)."""
        heads = output_heads(self.model)
        layers = {weight.name for group in plan_conversion(self.model).groups for weight in group}
        modules = dict(self.model.named_modules())

        def place(slot: _Slot) -> str:
            module = modules[slot.module]
            if slot.row.kind == "buffer":
                return "buffers"
            if module in heads:
                return "head"
            if isinstance(module, nn.Embedding):
                return "embeddings"
            if slot.name in layers:
                return "layers"
            return "norms" if "norm" in type(module).__name__.lower() else "other"

        return {slot.name: place(slot) for slot in self._slots}

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of parameters."""
        return {slot.name: slot.layout.shape for slot in self._slots if slot.row.kind == "weight"}

    def footprint(self, row: Precision, also: tuple[str, ...] = ()) -> Footprint:
        """What a model loaded in this precision will store.

        Raises:
            NothingConverted: the model has no module that this precision converts.
        """
        return Footprint(tuple(self._rows(row, also)))

    def stays(self, row: Precision, also: tuple[str, ...] = ()) -> str:
        """What of the matrices a quantiser leaves, as the predicate of a sentence; empty where it is little."""
        if row.quantizer is None or row.every_matrix:
            return ""
        found = unconverted(self._rows(row, also), self._plan(row, also).left)
        return found.phrase if found else ""

    def _plan(self, row: Precision, also: tuple[str, ...]) -> Plan:
        key = row.product is not None, row.every_matrix, row.kept, also
        if key not in self._plans:
            self._plans[key] = plan_conversion(
                self.model, also, row.product is not None, row.every_matrix, kept_by(row)
            )
        return self._plans[key]

    def _rows(self, row: Precision, also: tuple[str, ...]) -> Iterator[TensorRow]:
        groups = self._plan(row, also).groups if row.quantizer else ()
        if row.quantizer and not groups:
            plan_of(self.model, row, also)  # raises
        chosen = quantizers(self.model, row, groups) if groups else []
        codes = {quantizer: _Codes(quantizer) for quantizer in chosen}
        if row.head:
            heads_of(self.model, row)  # raises where there is none
        converted = {
            weight.name: (codes[quantizer], weight, group[0])
            for group, quantizer in zip(groups, chosen, strict=True)
            for weight in group
        }
        later: list[TensorRow] = []  # what stands for converted weights comes after the module's own
        module = ""
        for slot in self._slots:
            if slot.module != module:
                yield from later
                later, module = [], slot.module
            if slot.name in converted:
                coded, weight, first = converted[slot.name]
                later += coded.rows(weight, first, slot.layout)
            else:
                yield slot.row
        yield from later


class Skeletons:
    """One checkpoint's skeletons, each built when a precision on its base is first asked for."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint
        self._built: dict[str, Skeleton] = {}

    def footprint(self, row: Precision, also: Iterable[str] = ()) -> Footprint:
        """What ``footprint.stored`` will count in this precision, without reading a weight.

        Raises:
            UnsupportedModel: the architecture cannot be built.
            CorruptCheckpoint: nothing of what is stored is what the model needs.
            NothingConverted: the model has no module that this precision converts.
        """
        return self.skeleton(row.dtype).footprint(row, tuple(also))

    def skeleton(self, dtype: str) -> Skeleton:
        """The model in this base dtype. Raises as ``footprint``."""
        if dtype not in self._built:
            matching = next((one.matching for one in self._built.values()), None)
            self._built[dtype] = Skeleton(self._checkpoint, getattr(torch, dtype), matching)
        return self._built[dtype]

    def stays(self, row: Precision, also: Iterable[str] = ()) -> str:
        """As ``Skeleton.stays``."""
        return self.skeleton(row.dtype).stays(row, tuple(also))

    @property
    def unread(self) -> tuple[str, ...]:
        """Stored tensors that no module reads, as far as a model was built."""
        return next((one.matching.unread for one in self._built.values()), ())

    @property
    def notes(self) -> tuple[str, ...]:
        """What whoever reads these footprints has to know of the files."""
        built = next(iter(self._built.values()), None)
        return tuple(sentences(self._checkpoint, built.matching)) if built else ()


def predict(checkpoint: Checkpoint, row: Precision, also: Iterable[str] = ()) -> Footprint:
    """``Skeletons.footprint`` for one precision."""
    return Skeletons(checkpoint).footprint(row, also)


class _Codes:
    """The rows that stand for converted parameters. Blocks repeat: equal shapes are laid out once."""

    def __init__(self, quantizer: Quantizer) -> None:
        self._quantizer = quantizer
        self._known: dict[tuple[str, View, Layout], list[tuple[str, TensorRow]]] = {}

    def rows(self, weight: Weight, first: Weight, layout: Layout) -> Iterator[TensorRow]:
        """Of one parameter at one of its places; ``first`` is the place where its bytes are counted."""
        key = weight.key, weight.view, layout
        if key not in self._known:
            shape, dtype = torch.Size(layout.shape), layout.dtype
            parts = parts_of(weight.key, shape, dtype, weight.view, self._quantizer)
            layouts = self._quantizer.layout(weight.view.shape(shape), dtype)
            stored = zip(parts.items(), layouts.values(), strict=True)
            self._known[key] = [
                (name.removeprefix(weight.key), tensor_row(name, held, part, None)) for (name, part), held in stored
            ]
        name = weight.name
        for suffix, like in self._known[key]:
            shared = None if weight is first else f"{first.name}{suffix}"
            # By place: there are tens of thousands of these.
            yield TensorRow(
                f"{name}{suffix}",
                like.shape,
                like.dtype,
                like.storage,
                like.logical,
                0 if shared else like.parameters,
                0 if shared else like.bytes,
                like.kind,
                shared,
            )


def _slots(model: Any, dtype: torch.dtype) -> Iterator[_Slot]:
    kept = _kept(model, dtype)
    owners: dict[int, str] = {}
    for prefix, module in model.named_modules():
        held = [(key, tensor, "weight") for key, tensor in module.named_parameters(recurse=False)]
        held += [(key, tensor, "buffer") for key, tensor in module.named_buffers(recurse=False)]
        for key, tensor, kind in held:
            name = f"{prefix}.{key}".lstrip(".")
            layout = Layout(kept(name, tensor), tuple(tensor.shape))
            elements = tensor.numel() if kind == "weight" else 0
            element, owner = dtype_name(layout.dtype), owners.setdefault(id(tensor), name)
            part = Part(kind, element, element, elements)
            yield _Slot(name, prefix, layout, tensor_row(name, layout, part, None if owner == name else owner))


def _kept(model: Any, dtype: torch.dtype) -> Any:
    """Tensor's name → the dtype it will have: transformers keeps some modules in float32."""
    plan: dict[str, torch.dtype] = model._get_dtype_plan(dtype)
    if not plan:
        return lambda name, tensor: tensor.dtype
    pattern, by_group, _ = build_glob_alternation(list(plan))

    def kept(name: str, tensor: torch.Tensor) -> torch.dtype:
        match = pattern.search(name) if tensor.is_floating_point() else None
        return plan[by_group[match.lastgroup]] if match and match.lastgroup else tensor.dtype

    return kept
