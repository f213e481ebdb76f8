"""The bytes that a loaded model's stored tensors take, each counted once."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from qfund.checkpoints.quantization import beside_codes
from qfund.core.tensors import DtypeShare, TensorRow
from qfund.models.counting import StoredPart, stored_parts
from qfund.precisions.quantizers.conversion import Part
from qfund.precisions.quantizers.quantizer import Layout, dtype_name


@dataclass(frozen=True, slots=True)
class Footprint:
    """Rows of every stored tensor, tied ones counted once."""

    tensors: tuple[TensorRow, ...]

    @property
    def bytes(self) -> int:
        return sum(row.bytes for row in self.tensors)

    @property
    def by_module(self) -> dict[str, int]:
        """Module → bytes of its own tensors; those of modules inside of it are the inner one's."""
        found: dict[str, int] = {}
        for row in self.tensors:
            module = _owner(row.name)
            found[module] = found.get(module, 0) + row.bytes
        return found

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
_CODES = ("int8", "uint8", "int16", "int32", "float8_e4m3fn", "float8_e5m2", "float8_e8m0fnu", "float4_e2m1fn_x2")
_KINDS = ("weight", "scale", "buffer")


def stored(model: nn.Module) -> Footprint:
    """Count what a loaded model stores. A tensor whose memory another one already holds is listed with 0 bytes.

    Of a model whose weights come and go (``qfund.stream``) too: there, tied places share one empty tensor.
    """
    rows: list[TensorRow] = []
    seen: dict[tuple[int, int], str] = {}
    for name, tensor, part in _tensors(model):
        place = (id(tensor) if tensor.device.type == "meta" else tensor.data_ptr(), tensor.numel())
        shared = seen.setdefault(place, name) if tensor.numel() else name
        layout = Layout(tensor.dtype, tuple(tensor.shape))
        rows.append(tensor_row(name, layout, part, None if shared == name else shared))
    return Footprint(tuple(rows))


def _tensors(model: nn.Module) -> Iterable[tuple[str, Tensor, Part]]:
    for prefix, module in model.named_modules():
        quantized: dict[str, Part] = getattr(type(module), "quantized", {})
        for key, parameter in module.named_parameters(recurse=False):
            yield f"{prefix}.{key}".lstrip("."), parameter, _plain("weight", parameter.dtype, parameter.numel())
        for key, buffer in module.named_buffers(recurse=False):
            yield f"{prefix}.{key}".lstrip("."), buffer, quantized.get(key) or _plain("buffer", buffer.dtype, 0)


def _plain(kind: str, dtype: torch.dtype, elements: int) -> Part:
    """A tensor that is what it says."""
    name = dtype_name(dtype)
    return Part(kind, name, name, elements)


def tensor_row(name: str, layout: Layout, part: Part, shared: str | None) -> TensorRow:
    """``shared`` names the tensor where these bytes and parameters are counted."""
    return TensorRow(
        name=name,
        shape=layout.shape,
        dtype=part.element,
        storage=dtype_name(layout.dtype),
        logical=part.logical,
        parameters=0 if shared else part.elements,
        bytes=0 if shared else layout.bytes,
        kind=part.kind,
        shared_with=shared,
    )


def of_library(model: nn.Module) -> Footprint:
    """Count a model that a library quantised: the inner tensors of its parameters, each once. In a module that holds
    codes, what its name says to be scales is such, be it a parameter or a buffer."""
    parts = stored_parts(model)
    coded = {_owner(part.name) for part in parts if _is_codes(part)}
    rows = []
    for part in parts:
        owner, leaf = _owner(part.name), part.name.rpartition(".")[2]
        kind, codes = part.kind, _is_codes(part)
        if owner in coded and not part.part and (beside := beside_codes(leaf)) is not None:
            kind = beside
        elif codes:
            kind = "weight"
        elements = math.prod(part.shape) if kind == "weight" else 0
        if codes:
            elements = _weights(model.get_submodule(owner)) or elements
        rows.append(
            TensorRow(
                name=f"{part.name}.{part.part}".rstrip("."),
                shape=part.shape,
                dtype=part.dtype,
                storage=part.dtype,
                logical=part.claims,
                parameters=0 if part.shared_with else elements,
                bytes=part.bytes,
                kind=kind,
                shared_with=part.shared_with,
            )
        )
    return Footprint(tuple(rows))


def _owner(tensor: str) -> str:
    return tensor.rpartition(".")[0]


def _is_codes(part: StoredPart) -> bool:
    """Whether it is a weight whose elements are codes: it holds not what it claims, or nothing to compute with."""
    leaf = part.name.rpartition(".")[2]
    if part.kind == "scale" or beside_codes(leaf) is not None:
        return False
    if part.kind == "buffer":
        return "weight" in leaf and part.dtype in _CODES
    return part.dtype in _CODES or bool(part.part) or part.dtype != part.claims


def _weights(module: Any) -> int:
    """Elements of its weight as it was before it was quantised; 0 where the module does not say."""
    names = ("in_features", "out_features"), ("num_embeddings", "embedding_dim")
    return max(getattr(module, one, 0) * getattr(module, other, 0) for one, other in names)
