"""A recipe's weights as compressed-tensors stores them: codes packed into words of 32 bits, scales, shapes."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from qfund.core.errors import UnavailablePrecision, UnsupportedModel
from qfund.features.layers.request.exports import LAYOUT, METHOD, integers
from qfund.precisions.quantizers.integer import Integer
from qfund.precisions.quantizers.packing import unpack
from qfund.precisions.quantizers.quantizer import quantizer_of
from qfund.precisions.table import PRECISIONS


def packed(model: nn.Module, modules: Mapping[str, str]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What is stored by name, and what ``config.json`` says of it. ``modules``: linear layers and their rows.

    Raises:
        UnsupportedModel: rows are no multiple of a group.
        UnavailablePrecision: compressed-tensors is not installed.
    """
    pack = _packer()
    state, seen = dict[str, Tensor](), set[int]()
    for name, tensor in model.state_dict().items():
        if tensor.data_ptr() not in seen or not tensor.numel():  # tied weights are stored once
            state[name] = tensor.detach().cpu().contiguous()
            seen.add(tensor.data_ptr())
    groups: dict[str, list[str]] = {}
    for name, row in modules.items():
        weight: Tensor = model.get_submodule(name).weight.detach()  # type: ignore[operator]
        quantizer, held = quantizer_of(PRECISIONS[row]), integers(PRECISIONS[row])
        assert isinstance(quantizer, Integer) and held is not None
        if held.group and weight.shape[1] % held.group:
            raise UnsupportedModel(
                f"{name} has rows of {weight.shape[1]:,}, no multiple of {held.group}, which {METHOD} cannot hold.",
                "Choose a precision with one scale for each output, or smaller groups.",
            )
        stored = {key: value.cpu() for key, value in quantizer.quantize(weight).items()}
        codes = stored["data"]
        if quantizer.bits < 8:
            codes = unpack(codes, quantizer.bits, weight.shape[1]).view(torch.int8) + quantizer.q_min
        del state[f"{name}.weight"]
        state[f"{name}.weight_packed"] = pack(codes, quantizer.bits)
        state[f"{name}.weight_scale"] = stored["scale"].contiguous()
        state[f"{name}.weight_shape"] = torch.tensor(weight.shape)
        groups.setdefault(row, []).append(name)
    quantized = {name for names in groups.values() for name in names}
    linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    settings = {
        "quant_method": METHOD,
        "format": LAYOUT,
        "quantization_status": "compressed",
        "ignore": [name for name in linear if name not in quantized],
        "config_groups": {
            f"group_{number}": {
                "targets": names,
                "weights": _settings(row),
                "input_activations": None,
                "output_activations": None,
            }
            for number, (row, names) in enumerate(groups.items())
        },
    }
    return state, settings


def _settings(row: str) -> dict[str, object]:
    held = integers(PRECISIONS[row])
    assert held is not None
    return held.settings


def _packer() -> Any:
    try:
        from compressed_tensors.compressors.pack_quantized.helpers import pack_to_int32  # type: ignore[import-untyped]
    except ImportError as error:
        raise UnavailablePrecision(
            f"{METHOD} is not installed, which packs the codes.", "pip install compressed-tensors"
        ) from error
    return pack_to_int32
