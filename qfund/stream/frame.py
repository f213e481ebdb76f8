"""A model whose weights come and go: filled for one unit at a time, absent otherwise."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.modeling_utils import LoadStateDictConfig
from transformers.pytorch_utils import Conv1D

from qfund.checkpoints.checkpoint import Checkpoint
from qfund.models import loading
from qfund.precisions.precision import Precision
from qfund.precisions.quantizers.absent import absent
from qfund.precisions.quantizers.conversion import convert_empty
from qfund.precisions.quantizers.heads import widen_heads
from qfund.precisions.quantizers.plan import Weight
from qfund.stream.units import Unit


@dataclass(frozen=True, slots=True)
class Slot:
    """A place for a weight or a buffer of the checkpoint. ``owner`` is the name under which tied places share it."""

    name: str
    owner: str
    module: nn.Module
    key: str
    empty: Tensor

    @property
    def turned(self) -> bool:
        """Whether it is laid out otherwise than its file has it (``loading.turned``), on a processor."""
        return self.empty.dtype == torch.float16 and isinstance(self.module, Conv1D)

    def put(self, tensor: Tensor) -> None:
        """
        Raises:
            ValueError: of another dtype or shape than this place is for.
        """
        if tensor.shape != self.empty.shape or tensor.dtype != self.empty.dtype:
            raise ValueError(
                f"{self.name} is {tensor.dtype} {list(tensor.shape)}, not {self.empty.dtype} {list(self.empty.shape)}"
            )
        self._hold(tensor)

    def put_rows(self, rows: Tensor) -> None:
        """Some rows of the weight in place of all."""
        self._hold(rows)

    def clear(self) -> None:
        held = self.module._parameters if self.key in self.module._parameters else self.module._buffers
        held[self.key] = self.empty  # type: ignore[assignment]

    @property
    def tensor(self) -> Tensor:
        found: Tensor = getattr(self.module, self.key)
        return found

    def _hold(self, tensor: Tensor) -> None:
        if self.key in self.module._parameters:
            held = tensor if isinstance(tensor, nn.Parameter) else nn.Parameter(tensor, requires_grad=False)
            self.module._parameters[self.key] = held
        else:
            self.module._buffers[self.key] = tensor


class Frame:
    """A model as ``from_pretrained`` builds it in a dtype, or as ``quantize_model`` converts it: without weights.

    Attributes:
        checkpoint: whose weights fill it.
        model: its parameters and the buffers that the checkpoint holds are absent; other buffers are real.
        conversion: what is quantised; None for a cast.
        load_config: how transformers loads the weights of a cast.
        every_slot: by name.
        mapped: names of slots that hold a weight where it lies in its file (``stream.mapped``), in a walk.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        row: Precision,
        also: Iterable[str],
        device: torch.device,
        attention: str | None = None,
    ) -> None:
        """
        Raises:
            CorruptCheckpoint: tensors missing or of other shapes than the architecture's.
            NothingConverted: the model has no module that this precision converts.
        """
        self.row, self.checkpoint, self.mapped = row, checkpoint, set[str]()
        self.model: Any = loading.frame(checkpoint, row.dtype, attention)
        self.load_config = LoadStateDictConfig(
            dtype=getattr(torch, row.dtype),
            dtype_plan=self.model._get_dtype_plan(getattr(torch, row.dtype)),
            weight_mapping=get_model_conversion_mapping(self.model),  # type: ignore[arg-type]
        )
        self.conversion = convert_empty(self.model, row, also) if row.quantizer else None
        widen_heads(self.model, row)
        owners: dict[int, str] = {}
        empties: dict[int, Tensor] = {}
        self._slots: dict[str, list[Slot]] = {}
        for prefix, module in self.model.named_modules():
            held = [*module._parameters.items(), *module._buffers.items()]
            for key, tensor in held:
                if tensor is None:
                    continue
                if tensor.device.type != "meta":
                    if device.type != "cpu" and key in module._buffers:
                        module._buffers[key] = tensor.to(device)
                    continue
                name = f"{prefix}.{key}".lstrip(".")
                owner = owners.setdefault(id(tensor), name)
                empty = empties.setdefault(id(tensor), absent(tensor))
                self._slots.setdefault(prefix, []).append(Slot(name, owner, module, key, empty))
        self.every_slot = {slot.name: slot for slots in self._slots.values() for slot in slots}
        for slot in self.every_slot.values():
            slot.clear()

    @property
    def tied(self) -> dict[str, str]:
        """Place → the one whose weight it shares."""
        return {slot.name: slot.owner for slot in self.every_slot.values() if slot.name != slot.owner}

    def slots(self, unit: Unit) -> list[Slot]:
        """Of one unit; a module that is used in several places has its slots under its first name."""
        return [slot for name in unit.modules for slot in self._slots.get(name, ())]

    def bytes(self, unit: Unit) -> int:
        """What the unit takes when it is filled, tied places once."""
        return sum({slot.owner: slot.empty.nbytes for slot in self.slots(unit)}.values())

    def private(self, unit: Unit) -> int:
        """Of these bytes, those that are not mapped."""
        slots = [slot for slot in self.slots(unit) if slot.name not in self.mapped]
        return sum({slot.owner: slot.empty.nbytes for slot in slots}.values())

    def quantized(self, unit: Unit) -> dict[str, list[Weight]]:
        """Weights that are quantised in this unit: a weight's first place in the model → all of its places here."""
        if self.conversion is None:
            return {}
        inside = set(unit.modules)
        found = {}
        for group in self.conversion.plan.groups:
            if here := [weight for weight in group if weight.module in inside]:
                found[group[0].name] = here
        return found

    def plain_embedding(self, unit: Unit) -> bool:
        """Whether a look-up in some of its rows is a look-up in all."""
        module = self.model.get_submodule(unit.name)
        return type(module) is nn.Embedding and module.max_norm is None

    def fill(self, unit: Unit, tensors: Mapping[str, Tensor]) -> None:
        """Put tensors, by name, in their places.

        Raises:
            KeyError: one is missing.
            ValueError: one is of another dtype or shape.
        """
        for slot in self.slots(unit):
            tensor = tensors[slot.name]
            slot.put(loading.turned(tensor) if slot.turned and tensor.device.type == "cpu" else tensor)

    def clear(self, unit: Unit) -> None:
        """Let its tensors go."""
        for slot in self.slots(unit):
            slot.clear()
