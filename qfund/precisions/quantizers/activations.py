"""How a layer multiplies when its activations are rounded too, as they come: to a 16-bit float, or with one scale per
token.

A token of zeros gives zeros (plus the bias). A token with an infinity or a NaN comes out with no finite number in it.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from qfund.precisions.quantizers.float8 import FP8_E4M3
from qfund.precisions.quantizers.integer import INT8_PER_CHANNEL, Integer
from qfund.precisions.quantizers.quantizer import Quantizer, Shape

#: Activations as 8-bit integers with a zero-point per token, scale and arithmetic in their own dtype.
_INT8_TOKENS_ASYMMETRIC = Integer(bits=8, symmetric=False)


def int8_dynamic(
    x: Tensor, quantizer: Quantizer, stored: Mapping[str, Tensor], shape: Shape, bias: Tensor | None
) -> Tensor:
    """int8 tokens × int8 weights [out, in] with one scale per output channel: int32 sums, y = (q_x·q_w) s_x s_w + b.

    Torchao's ``Int8DynamicActivationInt8WeightConfig``, bit for bit on a CPU: the sum times s_x is rounded to the
    dtype of ``x``, the rest is computed in float32 and rounded once more.
    """
    tokens = INT8_PER_CHANNEL.quantize(_tokens(x))
    y = (_int_product(tokens["data"], stored["data"]).float() * tokens["scale"]).to(x.dtype)
    y = y * stored["scale"].flatten()
    if bias is not None:
        y = y + bias
    return y.to(x.dtype).reshape(*x.shape[:-1], shape[0])


def int4_dynamic(
    x: Tensor, quantizer: Quantizer, stored: Mapping[str, Tensor], shape: Shape, bias: Tensor | None
) -> Tensor:
    """Tokens rounded to asymmetric int8 and back, × dequantised weights, in the dtype of ``x``.

    Torchao's ``Int8DynamicActivationIntxWeightConfig``, bit for bit on a CPU. Kernels for it multiply the integers.
    """
    tokens = _tokens(x)
    rounded = _INT8_TOKENS_ASYMMETRIC
    seen = rounded.dequantize(rounded.quantize(tokens), (tokens.shape[0], tokens.shape[1]), x.dtype)
    return F.linear(seen.reshape(x.shape), quantizer.dequantize(stored, shape, x.dtype), bias)


def fp8_dynamic(
    x: Tensor, quantizer: Quantizer, stored: Mapping[str, Tensor], shape: Shape, bias: Tensor | None
) -> Tensor:
    """e4m3 tokens × e4m3 weights [out, in] with one scale per output channel: y = (q_x·q_w) s_x s_w + b, in float32.

    Tokens become e4m3 as the weights did. Emulated: the codes are multiplied as float32, in which each product of two
    e4m3 numbers is exact (8 bits of 24), so that hardware differs only in how it orders and rounds the sums.
    """
    tokens = _tokens(x)
    rounded = FP8_E4M3.quantize(tokens)
    # It clamps codes and scales, and would make a finite number of an infinity.
    scale = rounded["scale"].masked_fill(~tokens.isfinite().all(1, keepdim=True), torch.nan)
    y = (rounded["data"].float() @ stored["data"].float().T) * scale * stored["scale"].flatten()
    if bias is not None:
        y = y + bias
    return y.to(x.dtype).reshape(*x.shape[:-1], shape[0])


@dataclass(frozen=True, slots=True)
class Rounded:
    """Inputs rounded to a 16-bit float × weights [out, in] stored in it: y = x·w + b, in the dtype of ``x``.

    Two such numbers have an exact product in float32 (2 · 8 bits of bf16, 2 · 11 of fp16, in 24), so only the sums are
    rounded, in float32: what llama.cpp does with a BF16 or F16 matrix.
    """

    dtype: torch.dtype

    def __call__(
        self, x: Tensor, quantizer: Quantizer, stored: Mapping[str, Tensor], shape: Shape, bias: Tensor | None
    ) -> Tensor:
        return F.linear(x.to(self.dtype).to(x.dtype), quantizer.dequantize(stored, shape, x.dtype), bias)


BF16_INPUTS = Rounded(torch.bfloat16)
FP16_INPUTS = Rounded(torch.float16)
INT8_DYNAMIC = int8_dynamic
INT4_DYNAMIC = int4_dynamic
FP8_DYNAMIC = fp8_dynamic


def _tokens(x: Tensor) -> Tensor:
    """[…, in] → [tokens, in]."""
    return x.reshape(x.numel() // x.shape[-1], x.shape[-1])


def _int_product(x: Tensor, weight: Tensor) -> Tensor:
    """[tokens, in] int8 × [out, in] int8 → [tokens, out] int32, exact up to 131 071 columns."""
    (rows, columns), outputs = x.shape, weight.shape[0]
    if not _int_mm_is_exact(x.device):
        return _by_floats(x, weight)
    if x.device.type == "cuda":  # which wants more than 16 rows, and multiples of 8 otherwise
        more_rows, more_columns, more_outputs = max(17 - rows, 0), -columns % 8, -outputs % 8
    else:  # of a single column, or a single row with an odd stride, a CPU makes garbage (pytorch issue 195066)
        more_rows, more_columns, more_outputs = int(rows == 1), int(columns == 1), int(outputs == 1)
    if more_rows or more_columns:
        x = F.pad(x, (0, more_columns, 0, more_rows))
    if more_outputs or more_columns:
        weight = F.pad(weight, (0, more_columns, 0, more_outputs))
    return torch._int_mm(x, weight.T)[:rows, :outputs]


@functools.cache
def _int_mm_is_exact(device: torch.device) -> bool:
    """Tried out: not every device has it, and on CPUs without VNNI it has overflowed (pytorch issue 136746)."""
    extremes = torch.tensor([-128, 127], dtype=torch.int8, device=device).repeat(32, 16)
    try:
        return torch.equal(torch._int_mm(extremes, extremes.T), _by_floats(extremes, extremes))
    except (NotImplementedError, RuntimeError):
        return False


def _by_floats(x: Tensor, weight: Tensor) -> Tensor:
    """The same product from float32 ones of 1024 columns, whose sums are whole numbers of up to 2**24, and so exact."""
    parts = zip(x.split(1024, 1), weight.split(1024, 1), strict=True)
    return torch.stack([(left.float() @ right.float().T).to(torch.int32) for left, right in parts]).sum(
        0, dtype=torch.int32
    )
