"""bitsandbytes: LLM.int8() and the 4-bit formats of QLoRA, in modules of its own."""

import logging
from dataclasses import dataclass
from typing import Any

import bitsandbytes
import torch
from bitsandbytes import functional
from torch import Tensor, nn

from qfund.precisions.backends.conversion import Converter

_nn: Any = bitsandbytes.nn  # its annotations contradict themselves

# Every product of every layer logs that its inputs are cast to fp16; that is said in the table, once.
logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)


class _BitsAndBytes(Converter):
    library = "bitsandbytes"
    keeps_dtype = False

    def unfit(self, module: nn.Linear) -> str | None:
        return None


@dataclass(frozen=True)
class Int8(_BitsAndBytes):
    """Linear8bitLt. Activation columns with a value beyond ``threshold`` are multiplied in fp16; 0 means none are."""

    threshold: float
    decodes = False

    def quantize(self, module: nn.Linear) -> nn.Module:
        found: Any = _nn.Linear8bitLt(*_sizes(module), has_fp16_weights=False, threshold=self.threshold, device="meta")
        # From the CPU: bitsandbytes quantises only what it moves away from there.
        weight = _nn.Int8Params(module.weight.detach().cpu(), requires_grad=False)
        return _filled(found, weight, module)

    def converted(self, module: nn.Module) -> bool:
        return isinstance(module, _nn.Linear8bitLt)

    def values(self, module: nn.Module) -> Tensor:
        weight: Any = module.weight
        state: Any = module.state
        scale = state.SCB if weight.SCB is None else weight.SCB  # the first forward moves it
        values: Tensor = functional.int8_vectorwise_dequant(weight.data, scale)
        return values


@dataclass(frozen=True)
class Bits4(_BitsAndBytes):
    """Linear4bit in blocks of 64 along the flattened weight; ``element`` is ``"nf4"`` or ``"fp4"``."""

    element: str

    def quantize(self, module: nn.Linear) -> nn.Module:
        options: dict[str, Any] = {"quant_type": self.element, "compress_statistics": False}
        found: Any = _nn.Linear4bit(*_sizes(module), device="meta", **options)
        # On CPUs with AVX512-BF16 the first forward would repack the weight in place, and saving the model then
        # corrupts it: state_dict() unpacks the weight of the live model.
        found.support_avx512bf16_for_cpu = False
        weight = _nn.Params4bit(module.weight.detach(), requires_grad=False, module=found, **options)
        return _filled(found, weight, module)

    def converted(self, module: nn.Module) -> bool:
        return isinstance(module, _nn.Linear4bit)

    def values(self, module: nn.Module) -> Tensor:
        weight: Any = module.weight
        values: Tensor = functional.dequantize_4bit(weight.data, weight.quant_state)
        return values

    def fault(self, module: nn.Module, weight: Tensor) -> str | None:
        """With AVX-512, bitsandbytes 0.50 takes wrong scales where rows are a multiple of 16 and not of 64."""
        values = self.values(module)
        if not torch.allclose(values, stored_values(module), rtol=0.02, atol=0.0):
            return "multiplies by other weights than it stores, as its kernel for this CPU takes wrong scales"
        return super().fault(module, weight)


def stored_values(module: nn.Module) -> Tensor:
    """What a Linear4bit stores, decoded by the format's definition: two codes a byte, the first in the high half."""
    parameter: Any = module.weight
    state = parameter.quant_state
    packed = parameter.data.flatten().int()
    codes = torch.stack((packed >> 4, packed & 15), 1).flatten()[: state.shape.numel()]
    scales = state.absmax.repeat_interleave(state.blocksize)[: len(codes)]
    values: Tensor = (state.code[codes] * scales).to(state.dtype).view(state.shape)
    return values


def _filled(found: Any, weight: Any, module: nn.Linear) -> nn.Module:
    found.weight = weight.to(module.weight.device)  # quantises
    found.bias = module.bias
    filled: nn.Module = found
    return filled


def _sizes(module: nn.Linear) -> tuple[int, int, bool]:
    return module.in_features, module.out_features, module.bias is not None


INT8 = Int8(threshold=6.0)
INT8_DYNAMIC = Int8(threshold=0.0)
NF4 = Bits4("nf4")
FP4 = Bits4("fp4")
