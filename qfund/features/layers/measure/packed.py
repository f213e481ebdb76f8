"""A recipe's weights as compressed-tensors stores them: codes packed into words of 32 bits, scales, shapes."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from qfund.core.errors import UnavailablePrecision, UnsupportedModel
from qfund.features.layers.request.exports import LAYOUT, METHOD, integers
from qfund.precisions.quantizers.integer import Integer
from qfund.precisions.quantizers.packing import unpack
from qfund.precisions.quantizers.quantizer import quantizer_of
from qfund.precisions.table import PRECISIONS

#: The modules of single experts, as files name them.
EXPERTS = r"re:.*\.experts\.\d+\..*"


def stacked(module: nn.Module) -> bool:
    """Whether a module holds the weights of several experts, one above the other."""
    own = dict(module.named_parameters(recurse=False))
    return "weight" not in own and any(tensor.dim() == 3 for tensor in own.values())


def packed(model: nn.Module, modules: Mapping[str, str]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What is stored by name, and what ``config.json`` says of it. ``modules``: linear layers and stacks of
    experts, and their rows.

    Raises:
        UnsupportedModel: rows are no multiple of a group, or experts are stored or chosen as no reader takes them.
        UnavailablePrecision: compressed-tensors is not installed.
    """
    pack = _packer()
    state, seen = dict[str, Tensor](), set[int]()
    for name, tensor in model.state_dict().items():
        if tensor.data_ptr() not in seen or not tensor.numel():  # tied weights are stored once
            state[name] = tensor.detach().cpu().contiguous()
            seen.add(tensor.data_ptr())
    stacks = [name for name, module in model.named_modules() if stacked(module)]
    groups: dict[str, list[str]] = {}

    def put(name: str, weight: Tensor, row: str) -> None:
        """In the weight's place."""
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

    of_experts = _row_of_experts(stacks, modules)
    if of_experts is not None:
        experts, state = _apart(model, state, stacks)
        for name in experts:
            put(name, state[f"{name}.weight"], of_experts)
        groups.setdefault(of_experts, []).append(EXPERTS)
    for name, row in modules.items():
        if name in stacks:
            continue
        if f"{name}.weight" not in state:
            raise UnsupportedModel(
                f"{name} has another name in this model's files.", "Leave it in the reference, or export as text."
            )
        put(name, model.get_submodule(name).weight.detach(), row)  # type: ignore[operator]
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


def _row_of_experts(stacks: Sequence[str], modules: Mapping[str, str]) -> str | None:
    """The one row of all stacks of experts; None where there are none or all stay in the reference.

    Raises:
        UnsupportedModel: they are in several.
    """
    rows = {modules.get(name) for name in stacks}
    if len(rows) > 1:
        told = " and ".join(sorted(PRECISIONS[row].label if row else "the reference" for row in rows))
        raise UnsupportedModel(
            f"The experts of this model are in {told}; those who read {METHOD} take one precision for all of them.",
            "Let all be alike (--alike kind), or export as text.",
        )
    return next(iter(rows), None)


def _apart(model: Any, state: dict[str, Tensor], stacks: Sequence[str]) -> tuple[list[str], dict[str, Tensor]]:
    """The experts' modules as the model's files name them, one by one, and what is stored by its name there.

    Raises:
        UnsupportedModel: the files have them stacked.
    """
    from transformers.core_model_loading import revert_weight_conversion

    found: dict[str, Tensor] = revert_weight_conversion(model, dict(state))
    names = [name for name in found if re.fullmatch(EXPERTS[3:], name) and name not in state and found[name].dim() == 2]
    held = [tensor for name in stacks for tensor in model.get_submodule(name).parameters(recurse=False)]
    if sum(found[name].numel() for name in names) != sum(tensor.numel() for tensor in held if tensor.dim() == 3):
        raise UnsupportedModel(
            f"The files of this model hold experts one above the other ({stacks[0]}), which those who read {METHOD} do "
            "not unpack.",
            "Leave them in the reference, or export as text.",
        )
    whole = {name: tensor.contiguous().clone() for name, tensor in found.items()}
    return [name.removesuffix(".weight") for name in names], whole


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
