"""One real weight in several formats."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from qfund.core.errors import NothingConverted
from qfund.features.lesson.request.notebook import FORMATS, Bin, WeightFormat, WeightInFormats
from qfund.precisions.quantizers.plan import plan_of
from qfund.precisions.quantizers.quantizer import quantizer_of
from qfund.precisions.table import PRECISIONS

#: Rows and octaves of a weight that are looked at.
_ROWS, _OCTAVES = 1024, 14


def in_formats(model: nn.Module) -> WeightInFormats | None:
    """The largest weight that quantisers convert; None where there is none, or it is not finite."""
    try:
        groups = plan_of(model, PRECISIONS["int8"]).groups
    except NothingConverted:
        return None
    parameters = dict(model.named_parameters(remove_duplicate=False))
    chosen = max((group[0] for group in groups), key=lambda weight: parameters[weight.name].numel())
    matrix = chosen.view.flat(parameters[chosen.name].detach())
    part = matrix[:_ROWS].float().contiguous()
    if not part.isfinite().all() or not part.any():
        return None
    return WeightInFormats(
        name=chosen.name,
        shape=tuple(matrix.shape),
        rows=part.shape[0],
        largest=part.abs().max().item(),
        formats=tuple(_in_format(part, name) for name in FORMATS),
    )


def _in_format(weight: Tensor, name: str) -> WeightFormat:
    row = PRECISIONS[name]
    quantizer = quantizer_of(row)
    step = None
    if quantizer is None:
        back = weight.to(getattr(torch, row.dtype)).float()
        bits = float(row.bits)
    else:
        stored = quantizer.quantize(weight)
        shape = weight.shape[0], weight.shape[1]
        back = quantizer.dequantize(stored, shape, weight.dtype)
        bits = 8 * sum(part.numel() * part.element_size() for part in stored.values()) / weight.numel()
        step = stored["scale"].flatten()[0].item() if quantizer.element.startswith("int") else None
    exact, error = weight.double(), (back.double() - weight.double()).abs()
    noise = error.square().sum().item()
    return WeightFormat(
        precision=name,
        bits=bits,
        sqnr=10 * math.log10(exact.square().sum().item() / noise) if noise else None,
        mean=error.mean().item(),
        largest=error.max().item(),
        distinct=int(back[0].unique().numel()),
        step=step,
        bins=tuple(_bins(exact.abs().flatten(), error.flatten())),
    )


def _bins(magnitude: Tensor, error: Tensor) -> Iterable[Bin]:
    """Octaves of |weight| from the largest down."""
    exponents = torch.frexp(magnitude).exponent - 1  # of 0 too, which no octave holds
    top = int(exponents[magnitude > 0].max())
    for exponent in range(top - _OCTAVES + 1, top + 1):
        chosen = (exponents == exponent) & (magnitude > 0)
        if count := int(chosen.sum()):
            yield Bin(exponent, count, error[chosen].mean().item(), magnitude[chosen].mean().item())
