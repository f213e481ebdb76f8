"""Checkpoint + precision → model, and the only model cache: a budget in bytes, one load per key."""

import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers.pytorch_utils import Conv1D

from qfund import catalog, footprint
from qfund.checkpoint import Checkpoint
from qfund.errors import CorruptCheckpoint, InvalidSpec, OutOfBudget, QfundError
from qfund.precisions import Precision
from qfund.quantizers import walk
from qfund.tasks import model_class
from qfund.units import bytes_text

transformers.utils.logging.disable_progress_bar()


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """``plan`` is None for a cast; ``transformers_bytes`` is ``get_memory_footprint()`` before any forward."""

    model: Any
    footprint: footprint.Footprint
    transformers_bytes: int
    plan: walk.Plan | None
    seconds: float


def load(checkpoint: Checkpoint, row: Precision) -> LoadedModel:
    """Read the weights straight into the row's dtype, then quantise where the row says so.

    Raises:
        CorruptCheckpoint: tensors missing or of other shapes than the architecture's.
        NothingConverted: the quantiser found nothing to convert.
    """
    started = time.perf_counter()
    try:
        model, info = model_class(checkpoint).from_pretrained(
            checkpoint.folder,
            dtype=getattr(torch, row.dtype),
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
        )
    except (QfundError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # transformers raises many kinds for a checkpoint that does not fit its config
        raise CorruptCheckpoint(
            f"transformers could not load {checkpoint.folder.name}: {type(error).__name__}: {error}",
            "Check that config.json and the weights belong together.",
        ) from error
    again = "Download or save the checkpoint again; config.json and weights must belong together."
    if missing := sorted(info["missing_keys"]):
        raise CorruptCheckpoint(f"{checkpoint.folder.name} lacks {_some(missing)}.", again)
    if mismatched := sorted(str(key[0]) for key in info["mismatched_keys"]):
        raise CorruptCheckpoint(
            f"{checkpoint.folder.name} has other shapes than its config: {_some(mismatched)}.", again
        )
    model.eval().requires_grad_(False)
    plan = walk.quantize_model(model, row) if row.quantizer else None
    model.to(_device())
    if row.dtype == "float16" and model.device.type == "cpu":
        _turn_conv1d(model)
    transformers_bytes = int(model.get_memory_footprint())
    return LoadedModel(model, footprint.stored(model), transformers_bytes, plan, time.perf_counter() - started)


def _turn_conv1d(model: Any) -> None:
    """Lay GPT-2's Conv1D weights out by output channel: the same values and shapes, other strides.

    A product in fp16 with the weights as they come, [in, out] row by row, takes CPU kernels 14 times as long.
    """
    for module in model.modules():
        if isinstance(module, Conv1D):
            module.weight.data = module.weight.data.T.contiguous().T


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{len(names)} tensor{'s' * (len(names) > 1)}: {', '.join(names[:3])}{more}"


def _device() -> torch.device:
    try:
        found = torch.device(catalog.device())
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError) as error:
        raise InvalidSpec(f"QFUND_DEVICE={catalog.device()} cannot be used here: {error}", "Set it to cpu.") from error
    return found


def default_budget() -> int:
    """Bytes that cached models may take: ``QFUND_MODEL_BUDGET_GIB``, or 60 % of this process's memory limit."""
    given = os.environ.get("QFUND_MODEL_BUDGET_GIB")
    if given:
        try:
            return int(float(given) * 1024**3)
        except ValueError:
            raise InvalidSpec(f"QFUND_MODEL_BUDGET_GIB is {given!r}.", "Give a number, for example 4.") from None
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        text = Path(path).read_text().strip() if Path(path).is_file() else "max"
        if text.isdigit():
            limits.append(int(text))
    return int(min(limits) * 0.6)


class ModelCache:
    """Loaded models, least recently used first out, within a budget in bytes.

    Room is made *before* a load, from the predicted size. A model that is leased is never evicted. Loads happen one at
    a time, so two callers who want one key cause one load.
    """

    def __init__(self, budget: int, loader: Callable[[Checkpoint, Precision], LoadedModel] = load) -> None:
        self.budget = budget
        self._loader = loader
        self._lock = threading.Lock()
        self._held: OrderedDict[tuple[str, str], LoadedModel] = OrderedDict()
        self._leases: dict[tuple[str, str], int] = {}

    @property
    def used(self) -> int:
        """Bytes of the models held now."""
        return sum(held.footprint.bytes for held in self._held.values())

    @property
    def keys(self) -> tuple[tuple[str, str], ...]:
        """(checkpoint id, precision) of the models held now, least recently used first."""
        return tuple(self._held)

    @contextmanager
    def lease(self, checkpoint: Checkpoint, row: Precision, predicted: int) -> Iterator[LoadedModel]:
        """The model, loaded if it is not held, and kept at least until the block ends.

        Raises:
            OutOfBudget: it does not fit beside the models in use.
        """
        key = (checkpoint.id, row.name)
        with self._lock:
            if key not in self._held:
                self._make_room(predicted, f"{checkpoint.folder.name} in {row.label}")
                self._held[key] = self._loader(checkpoint, row)
            self._held.move_to_end(key)
            found = self._held[key]
            self._leases[key] = self._leases.get(key, 0) + 1
        try:
            yield found
        finally:
            with self._lock:
                self._leases[key] -= 1

    def _make_room(self, needed: int, what: str) -> None:
        while self.used + needed > self.budget:
            idle = next((key for key in self._held if not self._leases.get(key)), None)
            if idle is None:
                raise OutOfBudget(
                    f"{what} needs {bytes_text(needed)}; {bytes_text(self.budget - self.used)} of the budget of "
                    f"{bytes_text(self.budget)} is free.",
                    "Choose a smaller model, or raise QFUND_MODEL_BUDGET_GIB on a machine with more memory.",
                )
            del self._held[idle]
