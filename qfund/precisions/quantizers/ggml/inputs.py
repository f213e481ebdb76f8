"""How llama.cpp's kernels multiply with the types of a GGUF file: the inputs are rounded to 8 bits too, block by block.

The integer products of a block are exact, so that rounding the inputs and multiplying in float32 gives the same but
for the rounding of sums.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from qfund.precisions.quantizers.quantizer import Quantizer, Shape


def rounded_inputs(
    x: Tensor, quantizer: Quantizer, stored: Mapping[str, Tensor], shape: Shape, bias: Tensor | None
) -> Tensor:
    """Inputs rounded as the type of the weight [out, in] asks for: y = x·w + b in float32.

    - K types and IQ4_XS: blocks of 256 with a float32 scale (Q8_K).
    - Others: blocks of 32 with a float16 scale (Q8_0). Types with a minimum (Q4_1, Q5_1) multiply that with the sum of
      a block, which is rounded to float16 (Q8_1).
    - F16, where the rows are no whole blocks of any type: float16.
    """
    from qfund.precisions.quantizers.ggml.blocks import Blocks

    assert isinstance(quantizer, Blocks)
    kind = quantizer.fitting(shape[1])
    weight = quantizer.dequantize(stored, shape, torch.float32)
    wide = x.float()
    if kind.name == "F16":
        return F.linear(wide.half().float(), weight, bias).to(x.dtype)
    blocks = wide.unflatten(-1, (-1, kind.size))
    seen = q8_k(blocks) if kind.size == 256 else q8_0(blocks)
    y = F.linear(seen.flatten(-2), weight, bias)
    if kind.name in ("Q4_1", "Q5_1"):
        sums = seen.sum(-1)
        minima = stored["data"].view(shape[0], -1, kind.bytes)[..., 2:4].contiguous().view(torch.float16)[..., 0]
        y = y + F.linear(sums.half().float() - sums, minima.float())
    return y.to(x.dtype)


def q8_k(blocks: Tensor) -> Tensor:
    """[…, 256] → what they stand for as integers of −127 … 127 times a float32 scale."""
    inverse = 127 / blocks.abs().amax(-1, keepdim=True)
    return torch.where(inverse.isinf(), 0.0, (blocks * inverse).round() * (1 / inverse))


def q8_0(blocks: Tensor) -> Tensor:
    """[…, 32] → what they stand for as integers of −127 … 127 times a float16 scale."""
    most = blocks.abs().amax(-1, keepdim=True)
    codes = torch.where(most == 0, 0.0, (blocks * (127 / most)).round())
    return codes * (most / 127).half().float()


INPUTS = rounded_inputs
