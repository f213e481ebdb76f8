"""The ways of ``qfund.features.memory.request.load_peak.WAYS``, done."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn

from qfund.checkpoints import catalog, checkpoint
from qfund.core.errors import NothingConverted
from qfund.features.memory.measure.loading.phases import Phases
from qfund.features.memory.request.load_peak import WAYS
from qfund.models import prequantized, skeleton, tasks
from qfund.models.loading import coded, read
from qfund.precisions import backends
from qfund.precisions.precision import STORED
from qfund.precisions.quantizers.conversion import quantize_model
from qfund.precisions.quantizers.plan import plan_of
from qfund.precisions.table import PRECISIONS


class Loader:
    """One way for one checkpoint and precision."""

    def __init__(self, folder: Path, precision: str, way: str) -> None:
        """Import all that the load needs."""
        self.found = checkpoint.read(folder)
        self.row = PRECISIONS[precision]
        self.device = torch.device(catalog.device())
        self.converter: Any = next(
            (row.load() for row in backends.implementations(precision) if row.backend == WAYS[way].library), None
        )
        self._way = LOADS[way]
        if self.row.family == STORED:
            prequantized.readable(self.found, self.device)  # imports the format's library
            tasks.model_class(self.found)
        else:
            skeleton.predict(self.found, self.row)  # imports the architecture's code and the quantiser's

    def load(self, phases: Phases) -> list[Any]:
        """The models that stay."""
        return self._way(self, phases)

    def _read(self, phases: Phases, dtype: str) -> Any:
        phases.enter("reading")
        return read(self.found, dtype).to(self.device)

    def _cast_to(self, phases: Phases, model: Any, *others: Any) -> None:
        phases.enter("casting", model, *others)
        model.to(getattr(torch, self.row.dtype))

    def _quantize(self, phases: Phases, model: Any, *others: Any) -> None:
        phases.enter("quantising", model, *others)
        quantize_model(model, self.row)

    def _direct(self, phases: Phases) -> list[Any]:
        return [self._read(phases, self.row.dtype)]

    def _cast(self, phases: Phases) -> list[Any]:
        model = self._read(phases, "float32")
        self._cast_to(phases, model)
        return [model]

    def _deepcopy(self, phases: Phases) -> list[Any]:
        model = self._read(phases, "float32")
        phases.enter("copying", model)
        second = copy.deepcopy(model)
        if self.row.dtype != "float32":
            self._cast_to(phases, second, model)
        if self.row.quantizer:
            self._quantize(phases, second, model)
        return [model, second]

    def _quantized_direct(self, phases: Phases) -> list[Any]:
        phases.enter("reading")
        return [coded(self.found, self.row, (), self.device)[0]]

    def _quantize_after(self, phases: Phases) -> list[Any]:
        model = self._read(phases, "float32")
        self._cast_to(phases, model)
        self._quantize(phases, model)
        return [model]

    def _torchao_direct(self, phases: Phases) -> list[Any]:
        phases.enter("reading")
        model = tasks.model_class(self.found).from_pretrained(
            self.found.folder,
            dtype=getattr(torch, self.row.dtype),
            quantization_config=transformers.TorchAoConfig(self.converter.config()),
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            **tasks.named(self.found),
        )
        self._must_have_converted(model)
        return [model.eval().requires_grad_(False).to(self.device)]

    def _torchao_after(self, phases: Phases) -> list[Any]:
        from torchao.quantization import quantize_  # optional, and slow to import

        model = self._read(phases, "float32")
        if self.row.dtype != "float32":
            self._cast_to(phases, model)
        names = frozenset(plan_of(model, self.row).converted)  # what qfund converts too: not the head

        def wanted(module: Any, name: str) -> bool:
            return name in names and isinstance(module, nn.Linear) and self.converter.unfit(module) is None

        phases.enter("quantising", model)
        quantize_(model, self.converter.config(), filter_fn=wanted)
        self._must_have_converted(model)
        return [model]

    def _as_stored(self, phases: Phases) -> list[Any]:
        phases.enter("reading")
        return [prequantized.load_stored(self.found, self.device).model]

    def _must_have_converted(self, model: nn.Module) -> None:
        if not any(isinstance(part, nn.Linear) and self.converter.converted(part) for part in model.modules()):
            raise NothingConverted(
                f"torchao converted nothing in {type(model).__name__}: it has no Linear layer of a shape that fits.",
                "Choose another way.",
            )


#: Name of a way → what does it.
LOADS: dict[str, Callable[[Loader, Phases], list[Any]]] = {
    "direct": Loader._direct,
    "cast": Loader._cast,
    "quantised-direct": Loader._quantized_direct,
    "quantise-after": Loader._quantize_after,
    "torchao-direct": Loader._torchao_direct,
    "torchao-after": Loader._torchao_after,
    "deepcopy": Loader._deepcopy,
    "as-stored": Loader._as_stored,
}
