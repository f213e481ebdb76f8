"""Checkpoint + precision → model, and the only model cache: a budget in bytes, one load per key."""

import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import torch
import transformers
from transformers.pytorch_utils import Conv1D

from qfund.checkpoints import catalog
from qfund.checkpoints.checkpoint import Checkpoint
from qfund.core.errors import CorruptCheckpoint, InvalidSpec, OutOfBudget, QfundError, UnsupportedModel
from qfund.core.tensors import LeftModule
from qfund.core.units import bytes_text
from qfund.models import footprint, prequantized
from qfund.models.tasks import model_class, read_config
from qfund.precisions.precision import STORED, Precision
from qfund.precisions.quantizers import walk
from qfund.precisions.table import require

transformers.utils.logging.disable_progress_bar()


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model in memory, ready to run.

    Attributes:
        transformers_bytes: ``get_memory_footprint()`` before any forward.
        converted, left: modules that were quantised, and those with weights of two or more dimensions that were not.
        saturated: name of a weight → how many of its values the format clipped.
        note: a sentence about how it runs, where there is something to say.
    """

    model: Any
    footprint: footprint.Footprint
    transformers_bytes: int
    seconds: float
    converted: tuple[str, ...] = ()
    left: tuple[LeftModule, ...] = ()
    saturated: dict[str, int] = field(default_factory=dict)
    note: str | None = None


def load(checkpoint: Checkpoint, row: Precision, also: Sequence[str] = ()) -> LoadedModel:
    """Read the weights straight into the row's dtype, then quantise where the row says so, and ``also`` the kinds of
    modules named there (``qfund.precisions.request.ALSO``).

    Raises:
        CorruptCheckpoint: tensors missing or of other shapes than the architecture's, or not finite where quantised.
        NothingConverted: the quantiser found nothing to convert.
        UnavailablePrecision: this device cannot run it.
    """
    started = time.perf_counter()
    device = the_device()
    require(row, str(device))
    if row.family == STORED:
        return _as_stored(checkpoint, device, started)
    model = read(checkpoint, row.dtype).to(device)
    conversion = walk.quantize_model(model, row, also) if row.quantizer else walk.Conversion(walk.Plan((), ()))
    walk.widen_heads(model, row)
    if row.dtype == "float16" and device.type == "cpu":
        for module in model.modules():
            if isinstance(module, Conv1D):
                module.weight.data = turned(module.weight.data)
    return LoadedModel(
        model=model,
        footprint=footprint.stored(model),
        transformers_bytes=int(model.get_memory_footprint()),
        seconds=time.perf_counter() - started,
        converted=conversion.plan.converted,
        left=conversion.plan.left,
        saturated=conversion.saturated,
        note=" ".join(conversion.notes) or None,
    )


def _as_stored(checkpoint: Checkpoint, device: torch.device, started: float) -> LoadedModel:
    """A checkpoint that is quantised already, as transformers reads it."""
    found = prequantized.load_stored(checkpoint, device)
    assert checkpoint.quantization is not None
    notes = [f"The checkpoint is {checkpoint.quantization.description}.", *([found.note] if found.note else [])]
    return LoadedModel(
        model=found.model,
        footprint=footprint.of_library(found.model),
        transformers_bytes=int(found.model.get_memory_footprint()),
        seconds=time.perf_counter() - started,
        converted=found.converted,
        left=found.left,
        note=" ".join(notes),
    )


def read(checkpoint: Checkpoint, dtype: str) -> Any:
    """The plain model in main memory, read straight into a torch dtype, ready to run.

    Raises:
        CorruptCheckpoint: tensors missing or of other shapes than the architecture's.
    """
    return _pretrained(checkpoint, dtype, checkpoint.folder)


def frame(checkpoint: Checkpoint, dtype: str, attention: str | None = None) -> Any:
    """The model that ``read`` gives, with every weight of the checkpoint on the meta device: buffers that the
    checkpoint does not hold are real, ties are tied. ``attention`` names another implementation than the model's own
    choice.

    Raises:
        CorruptCheckpoint: tensors missing or of other shapes than the architecture's.
    """
    more = {} if attention is None else {"attn_implementation": attention}
    ghosts = {name: _Ghost(tensor.shape) for name, tensor in checkpoint.tensors.items()}
    return _pretrained(checkpoint, dtype, None, config=read_config(checkpoint), state_dict=ghosts, **more)


class _Ghost:
    """Stands in for a tensor of a checkpoint: what transformers takes from it lies on the meta device."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._shape = shape

    def __getitem__(self, _: Any) -> Self:
        return self

    def to(self, device: Any, dtype: torch.dtype) -> torch.Tensor:
        return torch.empty(self._shape, dtype=dtype, device="meta")


def _pretrained(checkpoint: Checkpoint, dtype: str, folder: Path | None, **more: Any) -> Any:
    try:
        model, info = model_class(checkpoint).from_pretrained(
            folder,
            dtype=getattr(torch, dtype),
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            **more,
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
    return model.eval().requires_grad_(False)


def arguments(model: Any, batch: Mapping[str, torch.Tensor], device: torch.device) -> dict[str, Any]:
    """Of a model's forward: the tensors of a batch on its device, floats in its dtype, and no cache."""
    found: dict[str, Any] = {
        name: value.to(device, model.dtype) if value.is_floating_point() else value.to(device)
        for name, value in batch.items()
    }
    # A cache would only cost memory; a model that knows none ignores the setting in its config.
    if getattr(model.config, "use_cache", False):
        found["use_cache"] = False
    return found


@contextmanager
def explained(model: Any, row: Precision, what: str = "be run") -> Iterator[None]:
    """Say which model cannot do what in which precision, whatever its code raises; out of memory stays as it is."""
    try:
        yield
    except QfundError:
        raise
    except Exception as error:  # models raise whatever their code and torch's kernels raise
        if isinstance(error, MemoryError | torch.OutOfMemoryError) or "memory" in str(error):
            raise
        raise UnsupportedModel(
            f"{type(model).__name__} cannot {what} in {row.label} here: {type(error).__name__}: {error}",
            "Choose another model or precision.",
        ) from error


@contextmanager
def arithmetic(row: Precision) -> Iterator[None]:
    """Let multiplications of fp32 on a GPU run in TF32 for that row alone (cuDNN would do so for every convolution),
    and torch choose dtypes for a row that asks for autocast. It may be entered anew for each part of a forward."""
    cuda: tuple[Any, ...] = (torch.backends.cuda.matmul, torch.backends.cudnn.conv)  # type: ignore[attr-defined]
    before = [part.fp32_precision for part in cuda]
    for part in cuda:
        part.fp32_precision = "tf32" if row.name == "tf32" else "ieee"
    try:
        with _autocast(row):
            yield
    finally:
        for part, setting in zip(cuda, before, strict=True):
            part.fp32_precision = setting


def _autocast(row: Precision) -> AbstractContextManager[object]:
    if row.autocast is None:
        return nullcontext()
    return torch.autocast(torch.device(catalog.device()).type, getattr(torch, row.autocast))


def turned(weight: torch.Tensor) -> torch.Tensor:
    """A weight of GPT-2's Conv1D, laid out by output channel: the same values and shape, other strides.

    A product in fp16 with the weights as they come, [in, out] row by row, takes CPU kernels 14 times as long.
    """
    return weight.T.contiguous().T if weight.dim() == 2 else weight


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{len(names)} tensor{'s' * (len(names) > 1)}: {', '.join(names[:3])}{more}"


def the_device() -> torch.device:
    try:
        found = torch.device(catalog.device())
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError) as error:
        raise InvalidSpec(
            f"QFUND_DEVICE={catalog.device()} cannot be used here: {str(error).rstrip('.')}.", "Set it to cpu."
        ) from error
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


#: Checkpoint id, precision, and what else was quantised.
Key = tuple[str, ...]

Loader = Callable[[Checkpoint, Precision, Sequence[str]], LoadedModel]


class ModelCache:
    """Loaded models, least recently used first out, within a budget in bytes.

    Room is made *before* a load, from the predicted size. A model that is leased is never evicted. Loads happen one at
    a time, so two callers who want one key cause one load.
    """

    def __init__(
        self, budget: int, loader: Callable[[Checkpoint, Precision, Sequence[str]], LoadedModel] = load
    ) -> None:
        self.budget = budget
        self._loader = loader
        self._lock = threading.Lock()
        self._held: OrderedDict[Key, LoadedModel] = OrderedDict()
        self._leases: dict[Key, int] = {}

    @property
    def used(self) -> int:
        """Bytes of the models held now."""
        return sum(held.footprint.bytes for held in self._held.values())

    @property
    def keys(self) -> tuple[Key, ...]:
        """Of the models held now, least recently used first."""
        return tuple(self._held)

    @contextmanager
    def lease(
        self, checkpoint: Checkpoint, row: Precision, predicted: int, also: Sequence[str] = ()
    ) -> Iterator[LoadedModel]:
        """The model, loaded if it is not held, and kept at least until the block ends.

        Raises:
            OutOfBudget: it does not fit beside the models in use.
        """
        key = (checkpoint.id, row.name, *also) if row.quantizer else (checkpoint.id, row.name)
        with self._lock:
            if key not in self._held:
                self._make_room(predicted, f"{checkpoint.folder.name} in {row.label}")
                self._held[key] = self._loader(checkpoint, row, also)
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


_cache: ModelCache | None = None


def model_cache() -> ModelCache:
    """The process's one model cache."""
    global _cache
    if _cache is None:
        _cache = ModelCache(default_budget())
    return _cache
