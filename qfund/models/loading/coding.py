"""A model that is quantised while its weights are read: of the wide ones there is one at a time.

Transformers has a place for this, where torchao sits: what is read of a weight goes to a quantiser before it is put in
the model, and the next one is read after that. Here it goes to ours.
"""

from collections.abc import Collection, Iterable
from contextlib import ExitStack
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import convert_and_load_state_dict_in_model
from transformers.modeling_utils import LoadStateDictConfig

from qfund.checkpoints.checkpoint import Checkpoint, places
from qfund.checkpoints.recognition import without_wrapper
from qfund.core.errors import CorruptCheckpoint
from qfund.models.loading.reading import frame, generates
from qfund.precisions.precision import Precision
from qfund.precisions.quantizers.conversion import Conversion, Take, quantize_as_read


def coded(checkpoint: Checkpoint, row: Precision, also: Iterable[str], device: torch.device) -> tuple[Any, Conversion]:
    """The model with what the row makes of the checkpoint's weights, bit for bit as if they were quantised after all
    were read, and what was converted.

    Raises:
        CorruptCheckpoint: as ``reading.read``; or a weight that is quantised is not finite.
        NothingConverted: the quantiser found nothing to convert.
    """
    model = frame(checkpoint, row.dtype)
    generates(checkpoint, model)
    shared, dtype = _shared(model), getattr(torch, row.dtype)

    def read(names: Collection[str], take: Take) -> None:
        quantizer: Any = _Quantizer(model, names, take, dtype, device)
        config = LoadStateDictConfig(
            dtype=dtype,
            dtype_plan=model._get_dtype_plan(dtype),
            weight_mapping=get_model_conversion_mapping(model),  # type: ignore[arg-type]
            hf_quantizer=quantizer,
        )
        with ExitStack() as stack:
            info, _ = convert_and_load_state_dict_in_model(model, _stored(checkpoint, stack), config)
        if quantizer.failed is not None:
            raise quantizer.failed
        if info.conversion_errors:
            name, why = next(iter(info.conversion_errors.items()))
            raise CorruptCheckpoint(
                f"transformers could not make {name} of {checkpoint.folder.name}: {why.strip().splitlines()[-1]}",
                "Check that config.json and the weights belong together.",
            )
        for held in shared:  # what is tied was put in one of its places
            found = [getattr(module, key) for module, key in held]
            there = next((tensor for tensor in found if tensor.device.type != "meta"), found[0])
            for module, key in held:
                module._parameters[key] = there
        model.requires_grad_(False)

    conversion = quantize_as_read(model, row, also, read)
    return model.to(device), conversion


class _Quantizer:
    """What transformers asks of a quantiser while it loads, and the operation that it runs on what was read."""

    pre_quantized = False

    def __init__(
        self, model: nn.Module, names: Collection[str], take: Take, dtype: torch.dtype, device: torch.device
    ) -> None:
        self._take, self._device = take, device
        # Those in another dtype than the model's are cast, which is done for what is not quantised alone: they wait.
        self._names = {name for name in names if model.get_parameter(name).dtype == dtype}
        self.failed: Exception | None = None

    def param_needs_quantization(self, model: nn.Module, name: str) -> bool:
        return name in self._names

    def get_quantize_ops(self) -> "_Quantizer":
        return self

    def convert(self, tensors: dict[str, Any], **_: Any) -> dict[str, Tensor]:
        """By name what was read, after all conversions; what is given back is put in the model."""
        left: dict[str, Tensor] = {}
        try:
            for name, given in tensors.items():
                tensor = given[0] if isinstance(given, list) else given
                if name not in self._names:
                    left[name] = tensor
                elif self.failed is None:
                    self._take(name, tensor.to(self._device))
        except Exception as error:  # transformers would make a line of its report of it
            self.failed = error
        return left


class _Packed:
    """A tensor of a quantised file, decoded when it is read."""

    def __init__(self, packed: Any) -> None:
        self._packed = packed

    def __getitem__(self, _: Any) -> Tensor:
        return torch.from_numpy(self._packed.values())


def _stored(checkpoint: Checkpoint, stack: ExitStack) -> dict[str, Any]:
    """Every tensor of a checkpoint, which is read when it is indexed."""
    found: dict[str, Any] = {name: _Packed(tensor) for name, tensor in checkpoint.packed.items()}
    by_file: dict[Any, list[str]] = {}
    for name, (path, _) in places(checkpoint.folder).items():
        if name in checkpoint.tensors and name not in found:
            by_file.setdefault(path, []).append(name)
    for path, names in by_file.items():
        file = stack.enter_context(safe_open(path, framework="pt"))
        stored, _ = without_wrapper(file.keys())
        found |= {name: file.get_slice(stored[name]) for name in names}
    return found


def _shared(model: nn.Module) -> list[list[tuple[nn.Module, str]]]:
    """Places that hold the same parameter, where it has several."""
    found: dict[int, list[tuple[nn.Module, str]]] = {}
    for module in model.modules():
        for key, parameter in module._parameters.items():
            if parameter is not None:
                found.setdefault(id(parameter), []).append((module, key))
    return [held for held in found.values() if len(held) > 1]
