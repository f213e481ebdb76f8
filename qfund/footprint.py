"""The bytes that a model's stored tensors take: counted in a loaded model, and foretold from shapes alone."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers.core_model_loading import build_glob_alternation

from qfund.checkpoint import Checkpoint
from qfund.errors import UnsupportedModel
from qfund.precisions import Precision
from qfund.quantizers import walk
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
    def dtypes(self) -> dict[str, DtypeShare]:
        """dtype → parameters (elements of weights) and bytes (of weights, scales and buffers)."""
        shares: dict[str, DtypeShare] = {}
        for row in self.tensors:
            if row.shared_with is None:
                held = shares.get(row.dtype, DtypeShare(0, 0))
                count = _elements(row.shape) if row.kind == "weight" else 0
                shares[row.dtype] = DtypeShare(held.parameters + count, held.bytes + row.bytes)
        return dict(sorted(shares.items(), key=lambda pair: -pair[1].bytes))


_KINDS = ("weight", "scale", "buffer")


def _elements(shape: Iterable[int]) -> int:
    return torch.Size(shape).numel()


def _dtype_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def stored(model: nn.Module) -> Footprint:
    """Count what a loaded model stores. A tensor whose memory another one already holds is listed with 0 bytes."""
    rows: list[TensorRow] = []
    seen: dict[tuple[int, int], str] = {}
    for name, tensor, kind in _tensors(model):
        place = (tensor.data_ptr(), tensor.numel())
        shared = seen.setdefault(place, name) if tensor.numel() else name
        rows.append(
            TensorRow(
                name=name,
                shape=tuple(tensor.shape),
                dtype=_dtype_name(tensor.dtype),
                bytes=tensor.numel() * tensor.element_size() if shared == name else 0,
                kind=kind,
                shared_with=None if shared == name else shared,
            )
        )
    return Footprint(tuple(rows))


def _tensors(model: nn.Module) -> Iterable[tuple[str, Tensor, str]]:
    for prefix, module in model.named_modules():
        quantized = hasattr(type(module), "quantizer")
        for key, parameter in module.named_parameters(recurse=False):
            yield f"{prefix}.{key}".lstrip("."), parameter, "weight"
        for key, buffer in module.named_buffers(recurse=False):
            kind = "buffer"
            if quantized and key.startswith(walk.PREFIX):
                kind = "weight" if key == f"{walk.PREFIX}data" else "scale"
            yield f"{prefix}.{key}".lstrip("."), buffer, kind


def predict(checkpoint: Checkpoint, row: Precision) -> Footprint:
    """What ``stored`` will count for this checkpoint in this precision, without reading a weight.

    The model is built on the meta device in the row's dtype; transformers' own plan says which modules it keeps in
    another; a quantiser's ``layout`` replaces what it converts.
    """
    dtype = getattr(torch, row.dtype)
    config = read_config(checkpoint)
    try:
        with torch.device("meta"):
            model = model_class(checkpoint)._from_config(config, dtype=dtype)
    except Exception as error:  # architectures raise whatever their code raises, ImportError for a missing library
        raise UnsupportedModel(
            f"{checkpoint.architecture} cannot be built from its config.json: {type(error).__name__}: {error}",
            "Check the file, install what the model needs, or choose another model.",
        ) from error
    kept = _kept_dtypes(model, dtype)
    quantizer = walk.quantizer_of(row)
    converted = set(walk.plan(model).converted) if quantizer else set()
    rows: list[TensorRow] = []
    seen: dict[int, str] = {}
    for prefix, module in model.named_modules():
        tensors = [
            *((key, tensor, "weight") for key, tensor in module.named_parameters(recurse=False)),
            *((key, tensor, "buffer") for key, tensor in module.named_buffers(recurse=False)),
        ]
        for key, tensor, kind in tensors:
            name = f"{prefix}.{key}".lstrip(".")
            if quantizer and prefix in converted and key == "weight":
                for part, layout in quantizer.layout(*walk.out_in(module, tensor)).items():
                    part_kind = "weight" if part == "data" else "scale"
                    rows.append(_foretold(f"{prefix}.{walk.PREFIX}{part}", layout, part_kind))
                continue
            shared = seen.setdefault(id(tensor), name)
            layout = walk.Layout(kept(name, tensor), tuple(tensor.shape))
            rows.append(_foretold(name, layout, kind, None if shared == name else shared))
    return Footprint(tuple(rows))


def _foretold(name: str, layout: walk.Layout, kind: str, shared: str | None = None) -> TensorRow:
    return TensorRow(name, layout.shape, _dtype_name(layout.dtype), 0 if shared else layout.bytes, kind, shared)


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
