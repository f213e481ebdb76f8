"""torchao: a quantised weight is a tensor subclass, which claims the dtype it was made from."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torchao.prototype.mx_formats.inference_workflow import MXDynamicActivationMXWeightConfig, NVFP4WeightOnlyConfig
from torchao.prototype.mx_formats.mx_tensor import ScaleCalculationMode
from torchao.quantization import (
    Float8DynamicActivationFloat8WeightConfig,
    Float8WeightOnlyConfig,
    Int8DynamicActivationInt8WeightConfig,
    Int8DynamicActivationIntxWeightConfig,
    Int8WeightOnlyConfig,
    IntxWeightOnlyConfig,
    MappingType,
    PerGroup,
    PerRow,
    quantize_,
)
from torchao.quantization.quantize_.common.kernel_preference import KernelPreference
from torchao.utils import TorchAOBaseTensor

from qfund.precisions.backends.conversion import Converter


@dataclass(frozen=True)
class TorchAo(Converter):
    """One of torchao's configurations.

    Attributes:
        config: makes it.
        group: in_features must be a multiple of this.
        rows: out_features must be a multiple of this.
        bf16: the weight must be in bf16.
    """

    config: Callable[[], Any]
    group: int = 1
    rows: int = 1
    bf16: bool = False

    library = "torchao"
    keeps_dtype = True

    def unfit(self, module: nn.Linear) -> str | None:
        outside, inside = module.weight.shape
        if inside % self.group:
            return f"its {inside} input features are no multiple of {self.group}, the size of a group"
        if outside % self.rows:
            return f"its {outside} output features are no multiple of {self.rows}"
        if self.bf16 and module.weight.dtype != torch.bfloat16:
            return f"its weight is {str(module.weight.dtype).removeprefix('torch.')}, and this format needs bfloat16"
        return None

    def quantize(self, module: nn.Linear) -> nn.Module:
        quantize_(module, self.config())
        return module

    def converted(self, module: nn.Module) -> bool:
        return isinstance(module.weight, TorchAOBaseTensor)

    def values(self, module: nn.Module) -> Tensor:
        weight: Any = module.weight
        values: Tensor = weight.dequantize()
        return values


def _int(bits: int) -> Any:
    return getattr(torch, f"int{bits}")  # torch's annotations do not know the narrow ones


def _intx(bits: int, group: int = 32, mapping: Any = MappingType.SYMMETRIC) -> TorchAo:
    return TorchAo(lambda: IntxWeightOnlyConfig(_int(bits), PerGroup(group), mapping), group)


def _mx(dtype: torch.dtype) -> TorchAo:
    def config() -> Any:
        return MXDynamicActivationMXWeightConfig(
            activation_dtype=dtype,
            weight_dtype=dtype,
            kernel_preference=KernelPreference.EMULATED,
            scaling_mode=ScaleCalculationMode.FLOOR,  # the specification's, and that of our own quantiser
        )

    return TorchAo(config, group=32, bf16=True)


# set_inductor_config=False: the default changes the settings of torch.compile for the whole process.
INT8 = TorchAo(lambda: Int8WeightOnlyConfig(set_inductor_config=False))
INT8_G32 = TorchAo(lambda: Int8WeightOnlyConfig(granularity=PerGroup(32), set_inductor_config=False), 32)
INT8_DYNAMIC = TorchAo(lambda: Int8DynamicActivationInt8WeightConfig(set_inductor_config=False))
INT6 = _intx(6)
INT5 = _intx(5)
INT4 = _intx(4)
INT4_ASYM = _intx(4, mapping=MappingType.ASYMMETRIC)
INT4_G64 = _intx(4, 64)
INT4_G128 = _intx(4, 128)
INT3 = _intx(3)
INT2 = _intx(2)
INT4_DYNAMIC = TorchAo(lambda: Int8DynamicActivationIntxWeightConfig(_int(4), PerGroup(32)), 32)
FP8_E4M3 = TorchAo(lambda: Float8WeightOnlyConfig(set_inductor_config=False))
FP8_E5M2 = TorchAo(lambda: Float8WeightOnlyConfig(torch.float8_e5m2, set_inductor_config=False))
FP8_DYNAMIC = TorchAo(
    lambda: Float8DynamicActivationFloat8WeightConfig(granularity=PerRow(), set_inductor_config=False)
)
NVFP4 = TorchAo(NVFP4WeightOnlyConfig, group=16, rows=16)
MXFP8 = _mx(torch.float8_e4m3fn)
MXFP4 = _mx(torch.float4_e2m1fn_x2)
