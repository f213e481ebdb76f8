"""Folders as transformers itself saves them: what it would run is what is unpacked."""

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors import safe_open
from safetensors.torch import load_file

from qfund.checkpoints.wild.table import open_file
from tests.models import test_prequantized as made


@pytest.mark.parametrize("name", list(made.MADE))
def test_weights_are_those_that_transformers_would_unpack(name: str, tmp_path: Path) -> None:
    folder = tmp_path / name
    made.MADE[name][0](folder)
    model: Any = transformers.LlamaForCausalLM.from_pretrained(folder, dtype="auto")
    found = open_file(folder).tensors
    assert {f"{module}.weight" for module, part in model.named_modules() if isinstance(part, torch.nn.Linear)} <= set(
        found
    )
    for module, part in model.named_modules():
        if isinstance(part, torch.nn.Linear):
            expected = _values(part)
            assert torch.equal(torch.from_numpy(found[f"{module}.weight"].values()), expected), module
    assert sum(tensor.quantized for tensor in found.values()) == made.LINEARS


#: What torchao's own configurations make on a CPU: activations too, zero-points, floats, several in one file.
TORCHAO = {
    "int8-dynamic": ("Int8DynamicActivationInt8WeightConfig", {}, {"int8 per channel"}),
    "int4-dynamic": ("Int8DynamicActivationIntxWeightConfig", {"weight_dtype": torch.__dict__["int4"]}, {"int4 g32"}),
    "int3-asymmetric": ("IntxWeightOnlyConfig", {"weight_dtype": torch.__dict__["int3"]}, {"int3 per channel"}),
    "fp8": ("Float8WeightOnlyConfig", {}, {"fp8 e4m3 per channel"}),
    "mxfp8": ("MXDynamicActivationMXWeightConfig", {}, {"mxfp8 e4m3"}),
    "nvfp4": ("NVFP4WeightOnlyConfig", {}, {"nvfp4"}),
}


@pytest.mark.parametrize("name", TORCHAO)
def test_weights_are_those_of_torchaos_tensors(name: str, tmp_path: Path) -> None:
    saving = pytest.importorskip("torchao.prototype.safetensors.safetensors_support")
    kind, settings, types = TORCHAO[name]
    library: Any = pytest.importorskip("torchao.quantization")
    given: dict[str, Any] = dict(settings)
    if name == "int3-asymmetric":
        given["mapping_type"] = library.MappingType.ASYMMETRIC
    config = getattr(library, kind, None) or getattr(pytest.importorskip("torchao.prototype.mx_formats"), kind)
    made.write(tmp_path, transformers.TorchAoConfig(config(**given)))
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        expected, _ = saving.unflatten_tensor_state_dict(load_file(tmp_path / "model.safetensors"), file.metadata())
    found = open_file(tmp_path)
    assert {tensor.type for tensor in found.tensors.values() if tensor.quantized} == types
    assert (found.inputs is not None) == ("Dynamic" in kind)
    assert set(found.tensors) == set(expected)
    for key, tensor in expected.items():
        value = tensor if type(tensor) is torch.Tensor else tensor.dequantize()
        assert torch.equal(torch.from_numpy(found.tensors[key].values()), value.float()), key


def _values(linear: Any) -> torch.Tensor:
    """Of a module of bitsandbytes, torchao or compressed-tensors, or of a plain one."""
    weight = linear.weight
    if getattr(weight, "quant_state", None) is not None:
        from bitsandbytes.functional import dequantize_4bit

        values: torch.Tensor = dequantize_4bit(weight.data, weight.quant_state).float()
        return values
    if type(weight).__name__ == "Int8Params":
        return weight.data.float() * weight.SCB[:, None] * 7.874015718698502e-3  # type: ignore[no-any-return]
    if hasattr(weight, "dequantize") and weight.dtype != torch.int8 and type(weight) is not torch.nn.Parameter:
        return weight.dequantize().float()  # type: ignore[no-any-return]
    if getattr(linear, "weight_scale", None) is not None and weight.dtype == torch.int8:
        return (weight.data.to(linear.weight_scale.dtype) * linear.weight_scale).float()  # type: ignore[no-any-return]
    return weight.data.float()  # type: ignore[no-any-return]
