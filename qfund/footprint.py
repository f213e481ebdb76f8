"""The bytes that a model's stored tensors take: counted in a loaded model, and foretold from shapes alone."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers.core_model_loading import build_glob_alternation

from qfund.backends.counting import stored_parts
from qfund.checkpoint import Checkpoint
from qfund.errors import UnsupportedModel
from qfund.precisions import Precision
from qfund.quantizers import walk
from qfund.quantizers.quantizer import Layout, Quantizer
from qfund.report import DtypeShare, TensorRow
from qfund.tasks import model_class, read_config


@dataclass(frozen=True, slots=True)
class Footprint:
    """Rows of every stored tensor, tied ones counted once."""

    tensors: tuple[TensorRow, ...]

    @property
    def bytes(self) -> int:
        return sum(row.bytes for row in self.tensors)

    @property
    def parts(self) -> dict[str, int]:
        """Bytes of weights, scales and buffers."""
        return {f"{kind}s": sum(row.bytes for row in self.tensors if row.kind == kind) for kind in _KINDS}

    @property
    def parameters(self) -> int:
        return sum(share.parameters for share in self.dtypes.values())

    @property
    def _coded(self) -> list[TensorRow]:
        """Weights that are stored as something else than what they claim to be, or claim to be codes."""
        weights = (row for row in self.tensors if row.kind == "weight")
        return [row for row in weights if row.dtype != row.logical or row.dtype in _CODES]

    @property
    def quantized(self) -> int:
        """How many weights are stored as codes."""
        return sum(row.parameters for row in self._coded)

    @property
    def bits_per_weight(self) -> float | None:
        """Of the weights that are stored as codes, scales and zero-points included; None where there are none."""
        codes = sum(row.bytes for row in self._coded)
        return 8 * (codes + self.parts["scales"]) / self.quantized if self.quantized else None

    @property
    def dtypes(self) -> dict[str, DtypeShare]:
        """dtype → parameters (elements of weights) and bytes (of weights, scales and buffers)."""
        shares: dict[str, DtypeShare] = {}
        for row in self.tensors:
            if row.shared_with is None:
                held = shares.get(row.dtype, DtypeShare(0, 0))
                shares[row.dtype] = DtypeShare(held.parameters + row.parameters, held.bytes + row.bytes)
        return dict(sorted(shares.items(), key=lambda pair: -pair[1].bytes))


#: What a library's codes may claim to be.
_CODES = ("int8", "uint8", "int16", "int32")
_KINDS = ("weight", "scale", "buffer")


def stored(model: nn.Module) -> Footprint:
    """Count what a loaded model stores. A tensor whose memory another one already holds is listed with 0 bytes."""
    rows: list[TensorRow] = []
    seen: dict[tuple[int, int], str] = {}
    for name, tensor, part in _tensors(model):
        place = (tensor.data_ptr(), tensor.numel())
        shared = seen.setdefault(place, name) if tensor.numel() else name
        layout = Layout(tensor.dtype, tuple(tensor.shape))
        rows.append(_row(name, layout, part, None if shared == name else shared))
    return Footprint(tuple(rows))


def _tensors(model: nn.Module) -> Iterable[tuple[str, Tensor, walk.Part]]:
    for prefix, module in model.named_modules():
        quantized: dict[str, walk.Part] = getattr(type(module), "quantized", {})
        for key, parameter in module.named_parameters(recurse=False):
            yield f"{prefix}.{key}".lstrip("."), parameter, _plain("weight", parameter.dtype, parameter.numel())
        for key, buffer in module.named_buffers(recurse=False):
            yield f"{prefix}.{key}".lstrip("."), buffer, quantized.get(key) or _plain("buffer", buffer.dtype, 0)


def _plain(kind: str, dtype: torch.dtype, elements: int) -> walk.Part:
    """A tensor that is what it says."""
    name = walk.dtype_name(dtype)
    return walk.Part(kind, name, name, elements)


def _row(name: str, layout: Layout, part: walk.Part, shared: str | None) -> TensorRow:
    return TensorRow(
        name=name,
        shape=layout.shape,
        dtype=part.element,
        storage=walk.dtype_name(layout.dtype),
        logical=part.logical,
        parameters=0 if shared else part.elements,
        bytes=0 if shared else layout.bytes,
        kind=part.kind,
        shared_with=shared,
    )


def of_library(model: nn.Module) -> Footprint:
    """Count a model that a library quantised: the inner tensors of its parameters, each once."""
    rows = []
    for part in stored_parts(model):
        module = model.get_submodule(part.name.rpartition(".")[0])
        plain = part.kind == "weight" and part.dtype == part.claims and not part.part
        codes = part.kind == "weight" and not plain
        elements = math.prod(part.shape) if plain else 0
        if codes or (plain and part.dtype in _CODES):
            elements = getattr(module, "in_features", 0) * getattr(module, "out_features", 0) or math.prod(part.shape)
        rows.append(
            TensorRow(
                name=f"{part.name}.{part.part}".rstrip("."),
                shape=part.shape,
                dtype=part.dtype,
                storage=part.dtype,
                logical=part.claims,
                parameters=0 if part.shared_with else elements,
                bytes=part.bytes,
                kind=part.kind,
                shared_with=part.shared_with,
            )
        )
    return Footprint(tuple(rows))


def predict(checkpoint: Checkpoint, row: Precision, also: Iterable[str] = ()) -> Footprint:
    """What ``stored`` will count for this checkpoint in this precision, without reading a weight.

    The model is built on the meta device in the row's dtype; transformers' own plan says which modules it keeps in
    another; a quantiser's ``layout`` replaces what it converts.

    Raises:
        UnsupportedModel: the architecture cannot be built.
        NothingConverted: the model has no module that this precision converts.
    """
    dtype = getattr(torch, row.dtype)
    model = _on_meta(checkpoint, dtype)
    kept = _kept_dtypes(model, dtype)
    quantizer = walk.quantizer_of(row)
    groups = walk.plan_of(model, row, also).groups if quantizer else ()
    converted = {weight.name: (weight, group[0]) for group in groups for weight in group}
    rows: list[TensorRow] = []
    seen: dict[int, str] = {}
    for prefix, module in model.named_modules():
        replaced: list[TensorRow] = []  # buffers that come after the module's own
        tensors = [
            *((key, tensor, "weight") for key, tensor in module.named_parameters(recurse=False)),
            *((key, tensor, "buffer") for key, tensor in module.named_buffers(recurse=False)),
        ]
        for key, tensor, kind in tensors:
            name = f"{prefix}.{key}".lstrip(".")
            found = kept(name, tensor)
            if quantizer and name in converted:
                replaced += _foretold(*converted[name], tensor.shape, found, quantizer)
                continue
            shared = seen.setdefault(id(tensor), name)
            part = _plain(kind, found, tensor.numel() if kind == "weight" else 0)
            rows.append(_row(name, Layout(found, tuple(tensor.shape)), part, None if shared == name else shared))
        rows += replaced
    return Footprint(tuple(rows))


def _foretold(
    weight: walk.Weight, first: walk.Weight, shape: torch.Size, dtype: torch.dtype, quantizer: Quantizer
) -> Iterable[TensorRow]:
    """The rows that stand for one converted parameter; ``first`` is the place where its bytes are counted."""
    layouts = quantizer.layout(weight.view.shape(shape), dtype)
    parts = walk.parts_of(weight.key, shape, dtype, weight.view, quantizer)
    for (buffer, part), layout in zip(parts.items(), layouts.values(), strict=True):
        where = f"{first.module}.{first.key}_{buffer.removeprefix(weight.key + '_')}".lstrip(".")
        yield _row(f"{weight.module}.{buffer}".lstrip("."), layout, part, None if weight is first else where)


def _on_meta(checkpoint: Checkpoint, dtype: torch.dtype) -> Any:
    config = read_config(checkpoint)
    try:
        with torch.device("meta"):
            return model_class(checkpoint)._from_config(config, dtype=dtype)
    except Exception as error:  # architectures raise whatever their code raises, ImportError for a missing library
        raise UnsupportedModel(
            f"{checkpoint.architecture} cannot be built from its config.json: {type(error).__name__}: {error}",
            "Check the file, install what the model needs, or choose another model.",
        ) from error


def _kept_dtypes(model: Any, dtype: torch.dtype) -> Callable[[str, Tensor], torch.dtype]:
    """Tensor's name → the dtype it will have: transformers keeps some modules in float32."""
    plan: dict[str, torch.dtype] = model._get_dtype_plan(dtype)
    if not plan:
        return lambda name, tensor: tensor.dtype
    pattern, by_group, _ = build_glob_alternation(list(plan))

    def kept(name: str, tensor: Tensor) -> torch.dtype:
        match = pattern.search(name) if tensor.is_floating_point() else None
        return plan[by_group[match.lastgroup]] if match and match.lastgroup else tensor.dtype

    return kept
