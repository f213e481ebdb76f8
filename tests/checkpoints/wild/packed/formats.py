"""One weight in each format: the tensors that a file has of it, made of random codes, and the numbers that they stand
for by the format's own library, or by torch's arithmetic on the codes before they were packed."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers.integrations.finegrained_fp8 import Fp8Dequantize

from tests.checkpoints.wild.packed import torchao_int4
from tests.checkpoints.wild.packed.packing import e2m1, e4m3, fields, pairs, stream


@dataclass(frozen=True, slots=True)
class Written:
    """``parts``: what follows the module's name (``".qweight"``) → tensor; ``value`` [out, in] as decoded;
    ``metadata`` of the header, with ``@`` for the module."""

    parts: dict[str, Tensor]
    value: Tensor
    metadata: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Case:
    """A format in one of its variants.

    Attributes:
        settings: ``quantization_config``.
        write: out, in → the weight.
        fits: whether a weight [out, in] can be in it.
        type: what the tensor is called.
    """

    settings: dict[str, Any]
    write: Callable[[int, int], Written]
    fits: Callable[[int, int], bool]
    type: str
    key: str = "quantization_config"


def _half(*shape: int) -> Tensor:
    return (torch.rand(shape) * 0.02 + 0.001).half()


def _gptq(bits: int, group: int, version: int = 1, ordered: bool = False, maker: str = "") -> Case:
    def write(out: int, inputs: int) -> Written:
        width = group if group > 0 else inputs
        groups = -(-inputs // width)
        codes = torch.randint(0, 2**bits, (out, inputs))
        zeros = torch.randint(1, 2**bits, (out, groups))
        scales = _half(out, groups)
        index = torch.arange(inputs) // width
        if ordered:
            index = index[torch.randperm(inputs)]
        stored = zeros - 1 if version == 1 else zeros
        packed = stream(stored.T, bits)
        value = (codes - zeros[:, index]).half() * scales[:, index]
        parts = {
            ".qweight": stream(codes, bits).T,
            ".qzeros": packed,
            ".scales": scales.T,
            ".g_idx": index.int(),
        }
        return Written(parts, value)

    settings: dict[str, Any] = {
        "quant_method": "gptq",
        "bits": bits,
        "group_size": group,
        "desc_act": ordered,
        "sym": False,
        "checkpoint_format": "gptq" if version == 1 else "gptq_v2",
    }
    scope = f"g{group}" if group > 0 else "per channel"
    return Case(
        settings,
        write,
        lambda out, inputs: out * bits % 32 == 0 and inputs * bits % 32 == 0,
        f"int{bits} {scope}{' act-order' if ordered else ''}",
    )


def _awq(group: int) -> Case:
    order = (0, 2, 4, 6, 1, 3, 5, 7)

    def write(out: int, inputs: int) -> Written:
        codes, zeros = torch.randint(0, 16, (inputs, out)), torch.randint(0, 16, (inputs // group, out))
        scales = _half(inputs // group, out)
        index = torch.arange(inputs) // group
        value = ((codes - zeros[index]).half() * scales[index]).T
        parts = {".qweight": fields(codes, 4, order), ".qzeros": fields(zeros, 4, order), ".scales": scales}
        return Written(parts, value)

    settings = {"quant_method": "awq", "bits": 4, "group_size": group, "version": "gemm", "zero_point": True}
    return Case(settings, write, lambda out, inputs: out % 8 == 0 and inputs % group == 0, f"int4 g{group}")


def _compressed(
    layout: str,
    weights: dict[str, Any],
    type_: str,
    activations: dict[str, Any] | None = None,
    dtype: torch.dtype = torch.bfloat16,
    fits: Callable[[int, int], bool] = lambda out, inputs: True,
) -> Case:
    def write(out: int, inputs: int) -> Written:
        compressors = pytest.importorskip("compressed_tensors.compressors")
        quantization = pytest.importorskip("compressed_tensors.quantization")
        scheme = quantization.QuantizationScheme(targets=["Linear"], weights=weights, input_activations=activations)
        assert scheme.weights is not None
        strategy, group = scheme.weights.strategy, scheme.weights.group_size
        height, width = scheme.weights.block_structure or (1, 1)
        shape = {
            "tensor": (1,),
            "channel": (out, 1),
            "group": (out, inputs // (group or 1)),
            "tensor_group": (out, inputs // (group or 1)),
            "block": (-(-out // height), -(-inputs // width)),
        }[str(strategy)]
        weight = torch.randn(out, inputs).to(dtype)
        state = {"weight": weight, "weight_scale": (torch.rand(shape) * 0.1 + 0.2).to(dtype)}
        if not scheme.weights.symmetric:
            low, high = -(2 ** (scheme.weights.num_bits - 1)), 2 ** (scheme.weights.num_bits - 1)
            state["weight_zero_point"] = torch.randint(low, high, shape, dtype=torch.int8)
        if "nvfp4" in layout:
            state["weight_global_scale"] = torch.tensor([31.7])
            state["weight_scale"] = (torch.rand(shape) * 20 + 1).to(dtype)
        compressor = compressors.BaseCompressor.get_value_from_registry(layout)
        parts = compressor.compress(state, scheme)
        value = compressor.decompress(dict(parts), scheme)["weight"]
        return Written({f".{kind}": tensor.data for kind, tensor in parts.items()}, value)

    group: dict[str, Any] = {"targets": ["Linear"], "weights": weights}
    if activations:
        group["input_activations"] = activations
    settings = {"quant_method": "compressed-tensors", "format": layout, "config_groups": {"group_0": group}}
    return Case(settings, write, fits, type_)


def _weights(bits: int, kind: str = "int", strategy: str = "channel", **more: Any) -> dict[str, Any]:
    return {"num_bits": bits, "type": kind, "strategy": strategy, "symmetric": True, **more}


def _fp8(block: tuple[int, int] | None) -> Case:
    def write(out: int, inputs: int) -> Written:
        codes = e4m3(out, inputs)
        grid = (-(-out // block[0]), -(-inputs // block[1])) if block else (1, 1)
        scales = torch.rand(grid) * 0.01
        value = Fp8Dequantize(None)._dequantize_one(codes, scales, torch.bfloat16)
        return Written({".weight": codes, ".weight_scale_inv": scales}, value)

    settings = {"quant_method": "fp8", "weight_block_size": list(block) if block else None, "fmt": "e4m3"}
    scope = f"blocks of {block[0]}×{block[1]}" if block else "per tensor"

    def fits(out: int, inputs: int) -> bool:
        return block is None or (out % block[0] == 0 and inputs % block[1] == 0)

    return Case({**settings, "activation_scheme": "dynamic"}, write, fits, f"fp8 e4m3 {scope}")


def _bitsandbytes(kind: str, block: int = 64, nested: bool = False, dtype: torch.dtype = torch.bfloat16) -> Case:
    def write(out: int, inputs: int) -> Written:
        library = pytest.importorskip("bitsandbytes.functional")
        codes, state = library.quantize_4bit(
            torch.randn(out, inputs).to(dtype), blocksize=block, compress_statistics=nested, quant_type=kind
        )
        flat: Any = state
        shape = state.shape
        flat.shape = torch.Size([shape.numel()])  # its CPU kernel begins a block with each row
        value = library.dequantize_4bit(codes, flat).view(shape)
        state.shape = shape
        parts = {f".weight.{key}": tensor for key, tensor in state.as_dict(packed=True).items()}
        return Written({".weight": codes, **parts}, value)

    settings = {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": kind}
    return Case(
        {**settings, "bnb_4bit_use_double_quant": nested},
        write,
        lambda out, inputs: out * inputs % 2 == 0,
        f"{kind} g{block}{' double-quantised' if nested else ''}",
    )


def _int8(out: int, inputs: int) -> Written:
    library = pytest.importorskip("bitsandbytes.functional")
    codes, scales, _ = library.int8_vectorwise_quant(torch.randn(out, inputs).half())
    value = library.int8_vectorwise_dequant(codes, scales)
    return Written({".weight": codes, ".SCB": scales, ".weight_format": torch.tensor(0, dtype=torch.uint8)}, value)


def _torchao(config: Callable[[], Any], type_: str, group: int = 1, dtype: torch.dtype = torch.bfloat16) -> Case:
    def write(out: int, inputs: int) -> Written:
        saving = pytest.importorskip("torchao.prototype.safetensors.safetensors_support")
        module = torch.nn.Sequential(torch.nn.Linear(inputs, out, bias=False)).to(dtype)
        pytest.importorskip("torchao.quantization").quantize_(module, config())
        weight: Any = module[0].weight
        flat, metadata = saving.flatten_tensor_state_dict({"@.weight": weight.data})
        metadata.pop("tensor_names")
        parts = {name.removeprefix("@"): tensor for name, tensor in flat.items()}
        return Written(parts, weight.dequantize().float(), metadata)

    return Case(_AO, write, lambda out, inputs: inputs % group == 0 and out % 16 == 0, type_)


def _torchao_int4(make: Callable[[int, int], torchao_int4.Made], type_: str, group: int = 16) -> Case:
    return Case(_AO, lambda out, inputs: Written(*make(out, inputs)), lambda out, inputs: inputs % group == 0, type_)


_AO = {"quant_method": "torchao", "quant_type": {"default": {"_type": "Int8WeightOnlyConfig", "_data": {}}}}


def _ao(name: str, **settings: Any) -> Callable[[], Any]:
    def make() -> Any:
        library = pytest.importorskip("torchao.quantization")
        formats = pytest.importorskip("torchao.prototype.mx_formats")
        given = {key: value() if callable(value) else value for key, value in settings.items()}
        return (getattr(library, name, None) or getattr(formats, name))(**given)

    return make


def _group(size: int) -> Callable[[], Any]:
    def make() -> Any:
        return pytest.importorskip("torchao.quantization").PerGroup(size)

    return make


def _modelopt_fp8(out: int, inputs: int) -> Written:
    codes, scale = e4m3(out, inputs), torch.tensor(0.0123)
    return Written({".weight": codes, ".weight_scale": scale, ".input_scale": torch.tensor(0.5)}, codes.float() * scale)


def _modelopt_nvfp4(out: int, inputs: int) -> Written:
    codes, scales, overall = torch.randint(0, 16, (out, inputs)), e4m3(out, inputs // 16), torch.tensor(3e-4)
    value = e2m1(codes) * (scales.float() * overall).repeat_interleave(16, 1)
    parts = {".weight": pairs(codes), ".weight_scale": scales, ".weight_scale_2": overall}
    return Written({**parts, ".input_scale": torch.tensor(0.1)}, value)


def _modelopt_int4(out: int, inputs: int) -> Written:
    codes, scales = torch.randint(-8, 8, (out, inputs)), torch.rand(out, inputs // 16)
    before = torch.rand(inputs).bfloat16()
    value = codes.float() * scales.repeat_interleave(16, 1) * before.float()
    low, high = codes[0::2] & 15, codes[1::2] & 15
    packed = (low | high << 4).to(torch.uint8)
    return Written({".weight": packed, ".weight_scale": scales, ".pre_quant_scale": before}, value)


def _modelopt(algorithm: str, write: Callable[[int, int], Written], type_: str) -> Case:
    settings = {"quant_method": "modelopt", "quant_algo": algorithm}
    return Case(settings, write, lambda out, inputs: out % 2 == 0 and inputs % 16 == 0, type_)


def _hqq(bits: int, group: int, axis: int) -> Case:
    def write(out: int, inputs: int) -> Written:
        codes = torch.randint(0, 2**bits, (out, inputs))
        groups = out * inputs // group
        shape = (groups, group) if axis else (group, groups)
        scale, zero = _half(*((groups, 1) if axis else (1, groups))), torch.rand(groups).half() * 2**bits
        zero = zero.view(scale.shape)
        value = ((codes.view(shape).half() - zero) * scale).view(out, inputs)
        each = 10 if bits == 3 else 8 // bits
        lines = codes.view(shape)
        step = -(-shape[0] // each)
        padded = torch.cat([lines, torch.zeros(step * each - shape[0], shape[1], dtype=lines.dtype)])
        packed = sum(padded[i * step : (i + 1) * step] << bits * (each - 1 - i) for i in range(each))
        assert isinstance(packed, Tensor)
        parts = {".W_q": packed.to(torch.int32 if bits == 3 else torch.uint8), ".scale": scale, ".zero": zero}
        for kind, whole in {"nbits": bits, "group_size": group, "axis": axis}.items():
            parts[f".{kind}"] = torch.tensor(whole, dtype=torch.int32)
        parts[".shape"] = torch.tensor([out, inputs])
        parts[".compute_dtype"] = torch.tensor(list(b"torch.float16"), dtype=torch.uint8)
        return Written(parts, value)

    weights = {"nbits": bits, "group_size": group, "axis": axis}
    settings = {"quant_method": "hqq", "quant_config": {"weight_quant_params": weights}, "skip_modules": ["lm_head"]}

    def fits(out: int, inputs: int) -> bool:
        return out * inputs % (group * 8) == 0

    return Case(settings, write, fits, f"int{bits} g{group}{'' if axis else ' by column'}")


def _mlx(bits: int, group: int, dtype: torch.dtype = torch.bfloat16) -> Case:
    def write(out: int, inputs: int) -> Written:
        codes = torch.randint(0, 2**bits, (out, inputs))
        scales, biases = (torch.rand(out, inputs // group).to(dtype) - 0.5 for _ in range(2))
        value = codes.to(dtype) * scales.repeat_interleave(group, 1) + biases.repeat_interleave(group, 1)
        words = stream(codes, bits).view(torch.uint32)
        return Written({".weight": words, ".scales": scales, ".biases": biases}, value)

    settings = {"bits": bits, "group_size": group, "mode": "affine"}

    def fits(out: int, inputs: int) -> bool:
        return inputs % group == 0 and inputs * bits % 32 == 0

    return Case(settings, write, fits, f"int{bits} g{group}", key="quantization")


def _whole_groups(size: int) -> Callable[[int, int], bool]:
    return lambda out, inputs: inputs % size == 0


_DYNAMIC = {"num_bits": 8, "type": "int", "strategy": "token", "dynamic": True, "symmetric": True}
_NV = {"num_bits": 4, "type": "float", "strategy": "tensor_group", "group_size": 16, "symmetric": True}
CASES = {
    "gptq-2": _gptq(2, 16),
    "gptq-3": _gptq(3, 16),
    "gptq-4": _gptq(4, 16),
    "gptq-4-rows": _gptq(4, -1),
    "gptq-4-ordered": _gptq(4, 16, ordered=True),
    "gptq-4-v2": _gptq(4, 16, version=2),
    "gptq-8": _gptq(8, 16),
    "awq": _awq(16),
    "ct-int4": _compressed(
        "pack-quantized", _weights(4, strategy="group", group_size=16), "int4 g16", fits=_whole_groups(16)
    ),
    "ct-int4-asymmetric": _compressed(
        "pack-quantized",
        _weights(4, strategy="group", group_size=8) | {"symmetric": False},
        "int4 g8",
        fits=lambda out, inputs: inputs % 8 == 0 and out > 8,  # the library cannot unpack zero-points of one word
        dtype=torch.float16,
    ),
    "ct-int3-rows": _compressed("pack-quantized", _weights(3), "int3 per channel"),
    "ct-int8-asymmetric": _compressed(
        "int-quantized", _weights(8) | {"symmetric": False}, "int8 per channel", dtype=torch.float32
    ),
    "ct-w8a8": _compressed("int-quantized", _weights(8), "int8 per channel", _DYNAMIC),
    "ct-fp8-tensor": _compressed("float-quantized", _weights(8, "float", "tensor"), "fp8 e4m3 per tensor"),
    "ct-fp8-rows": _compressed("float-quantized", _weights(8, "float"), "fp8 e4m3 per channel", _DYNAMIC),
    "ct-fp8-blocks": _compressed(
        "float-quantized", _weights(8, "float", "block", block_structure=[16, 16]), "fp8 e4m3 blocks of 16×16"
    ),
    "ct-nvfp4": _compressed("nvfp4-pack-quantized", _NV, "nvfp4", fits=_whole_groups(16)),
    "ct-mxfp4": _compressed(
        "mxfp4-pack-quantized",
        _weights(4, "float", "group", group_size=32, scale_dtype="torch.uint8"),
        "mxfp4",
        fits=_whole_groups(32),
    ),
    "ct-mxfp8": _compressed(
        "mxfp8-quantized",
        _weights(8, "float", "group", group_size=32, scale_dtype="torch.uint8"),
        "mxfp8 e4m3",
        fits=_whole_groups(32),
    ),
    "fp8-blocks": _fp8((16, 8)),
    "fp8-tensor": _fp8(None),
    "nf4": _bitsandbytes("nf4"),
    "nf4-nested": _bitsandbytes("nf4", nested=True),
    "fp4": _bitsandbytes("fp4", block=128, dtype=torch.float16),
    "bnb-int8": Case(
        {"quant_method": "bitsandbytes", "load_in_8bit": True}, _int8, lambda out, inputs: True, "int8 per channel"
    ),
    "ao-int8": _torchao(_ao("Int8WeightOnlyConfig", version=2), "int8 per channel"),
    "ao-int8-f32": _torchao(_ao("Int8WeightOnlyConfig", version=2), "int8 per channel", dtype=torch.float32),
    "ao-intx": _torchao(
        _ao("IntxWeightOnlyConfig", weight_dtype=torch.__dict__["int4"], granularity=_group(16)), "int4 g16", group=16
    ),
    "ao-fp8": _torchao(_ao("Float8WeightOnlyConfig", version=2), "fp8 e4m3 per channel"),
    "ao-int4": _torchao_int4(torchao_int4.plain, "int4 g16"),
    "ao-int4-awq": _torchao_int4(lambda out, inputs: torchao_int4.plain(out, inputs, scaled=True), "int4 g16"),
    "ao-int4-words": _torchao_int4(torchao_int4.words, "int4 g16"),
    "ao-int4-tiles": _torchao_int4(torchao_int4.tiles, "int4 g32 in tiles", 32),
    "modelopt-fp8": _modelopt("FP8", _modelopt_fp8, "fp8 e4m3 per tensor"),
    "modelopt-nvfp4": _modelopt("NVFP4", _modelopt_nvfp4, "nvfp4"),
    "modelopt-int4": _modelopt("W4A16_AWQ", _modelopt_int4, "int4 g16"),
    "hqq-1": _hqq(1, 16, 1),
    "hqq-2": _hqq(2, 16, 1),
    "hqq-3": _hqq(3, 16, 1),
    "hqq-4": _hqq(4, 16, 1),
    "hqq-4-columns": _hqq(4, 16, 0),
    "hqq-8": _hqq(8, 16, 1),
    **{f"mlx-{bits}": _mlx(bits, 32) for bits in (2, 3, 4, 5, 6, 8)},
    "mlx-4-f16": _mlx(4, 16, torch.float16),
}
