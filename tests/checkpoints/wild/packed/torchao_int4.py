"""torchao's classes of packed int4 as devices that are not here make them: codes laid as mslk, Intel's and NVIDIA's
kernels describe it, the classes and the header torchao's own, and what they stand for by torchao's functions."""

from typing import Any, TypeAlias

import pytest
import torch
from torch import Tensor

from tests.checkpoints.wild.packed.packing import pairs, stream

#: Parts, the value, metadata: as ``formats.Written``.
Made: TypeAlias = tuple[dict[str, Tensor], Tensor, dict[str, str]]
DTYPE = torch.bfloat16


def _flat(kind: str, *values: Any, **more: Any) -> tuple[dict[str, Tensor], dict[str, str]]:
    saving = pytest.importorskip("torchao.prototype.safetensors.safetensors_support")
    weight = getattr(pytest.importorskip("torchao.quantization"), kind)(*values, **more)
    flat, metadata = saving.flatten_tensor_state_dict({"@.weight": weight})
    metadata.pop("tensor_names")
    return {name.removeprefix("@"): tensor for name, tensor in flat.items()}, metadata


def _scales(rows: int, groups: int) -> Tensor:
    return (torch.rand(rows, groups) * 0.1 + 0.001).to(DTYPE)


def plain(out: int, inputs: int, scaled: bool = False) -> Made:
    """``scaled``: with ``act_pre_scale``, as torchao's AWQ has it; and with rounded inputs."""
    codes = torch.randint(-8, 8, (out, inputs), dtype=torch.int8)
    scales, zeros = _scales(out, inputs // 16).T.contiguous(), torch.randn(inputs // 16, out).to(DTYPE)
    before = torch.rand(inputs).to(DTYPE) if scaled else None
    rounding = torch.float8_e4m3fn if scaled else None
    packed = pairs(codes & 15).view(torch.int8)
    parts, metadata = _flat("Int4Tensor", packed, scales, zeros, [1, 16], codes.shape, before, rounding)
    undo = pytest.importorskip("torchao.prototype.gptq.api")._int4_row_dequantize_zp
    value = undo(codes, scales.float(), zeros.float(), 16).to(DTYPE).float()
    return parts, value if before is None else value * before.float(), metadata


def words(out: int, inputs: int) -> Made:
    codes = torch.randint(0, 16, (out, inputs), dtype=torch.int32)
    scales, zeros = _scales(out, inputs // 16), torch.randint(0, 16, (out, inputs // 16), dtype=torch.int8)
    turned = (scales.T.contiguous(), zeros.T.contiguous())
    parts, metadata = _flat("Int4PlainInt32Tensor", stream(codes, 4), *turned, [1, 16], codes.shape)
    library = pytest.importorskip("torchao.quantization.quant_primitives")
    value = library.dequantize_affine(codes, (1, 16), scales, zeros, torch.int32, 0, 15, output_dtype=DTYPE)
    return parts, value.float(), metadata


def tiles(out: int, inputs: int) -> Made:
    """Padded as torchao pads before it quantises."""
    down, across = -(-out // 8) * 8, -(-inputs // 1024) * 1024
    codes = torch.randint(0, 16, (down, across), dtype=torch.int32)
    scales, zeros = _scales(down, across // 32), torch.randn(down, across // 32).to(DTYPE)
    library = pytest.importorskip("torchao.quantization.utils")
    both = library.pack_tinygemm_scales_and_zeros(scales, zeros, DTYPE)
    shape = torch.Size([out, inputs])
    parts, metadata = _flat("Int4TilePackedTo4dTensor", tensor_core(codes), both, [1, 32], shape)
    undo = pytest.importorskip("torchao.quantization.quant_primitives")._dequantize_affine_tinygemm
    value = undo(codes, (1, 32), scales, zeros, torch.int32, 0, 15, output_dtype=DTYPE)
    return parts, value[:out, :inputs].float(), metadata


def tensor_core(codes: Tensor, inner: int = 8) -> Tensor:
    """[n, k] → int32 [n / 8, k / (16 · inner), 32, inner / 2]: as PyTorch's kernel for NVIDIA's GPUs describes it, lane
    by lane; each holds 2 × 4 codes of two tiles of 16 columns, those of odd columns in the higher half of the word."""
    rows, columns = codes.shape
    packed = torch.zeros(rows // 8, columns // (16 * inner), 32, inner // 2, dtype=torch.int64)
    whole = codes.long().view(rows // 8, 8, columns // (16 * inner), inner * 16)
    for lane in range(32):
        for word in range(inner // 2):
            base = 32 * word + lane % 4 * 2
            places = [base + more for more in (0, 1, 8, 9, 16, 17, 24, 25)]
            for place, which in enumerate((0, 2, 4, 6, 1, 3, 5, 7)):
                packed[:, :, lane, word] |= whole[:, lane // 4, :, places[which]] << 4 * place
    return torch.where(packed >= 2**31, packed - 2**32, packed).int()
