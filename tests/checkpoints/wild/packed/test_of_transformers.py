"""Folders as transformers itself saves them: what it would run is what is unpacked."""

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

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
