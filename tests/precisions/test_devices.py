"""What runs on another device than the processor's, as far as a machine without one can tell: on the meta device, whose
tensors mix with no other's, on tensors that only say to be elsewhere, and with stand-ins for torch.cuda."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import modeling_utils

from qfund.checkpoints import catalog
from qfund.features.memory.measure.loading import forward, loader, process
from qfund.features.memory.measure.loading.messages import Imported, Job, Loaded
from qfund.models import environment
from qfund.models.loading import coding
from qfund.precisions.precision import GGUF
from qfund.precisions.quantizers import activations, pieces
from qfund.precisions.quantizers.plan import LINEAR
from qfund.precisions.quantizers.quantizer import quantizer_of
from qfund.precisions.table import PRECISIONS

#: GGUF files are coded by the processor wherever a weight lies.
ON_DEVICE = [name for name, row in PRECISIONS.items() if row.quantizer and row.family != GGUF]


class Elsewhere(Tensor):
    """Numbers in main memory that say to be a GPU's."""

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return torch.device("cuda")


@pytest.mark.parametrize("name", ON_DEVICE)
def test_codes_and_what_they_stand_for_lie_where_the_weight_does(name: str) -> None:
    row = PRECISIONS[name]
    quantizer, dtype = quantizer_of(row), getattr(torch, row.dtype)
    assert quantizer is not None
    weight = torch.empty(64, 256, dtype=dtype, device="meta")
    stored = quantizer.quantize(weight)
    layout = quantizer.layout((64, 256), dtype)
    assert {key: (part.dtype, tuple(part.shape)) for key, part in stored.items()} == {
        key: (part.dtype, tuple(part.shape)) for key, part in layout.items()
    }
    restored = pieces.dequantize(quantizer, stored, (64, 256), dtype)
    assert (restored.shape, restored.dtype) == (weight.shape, dtype)
    assert {part.device.type for part in (*stored.values(), restored)} == {"meta"}


def test_a_device_takes_a_weight_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "PIECE", 64)
    quantizer: Any = quantizer_of(PRECISIONS["int8"])
    shapes: list[tuple[int, ...]] = []

    class Seen:
        by_rows = quantizer.by_rows
        saturated = quantizer.saturated

        def quantize(self, weight: Tensor) -> dict[str, Tensor]:
            shapes.append(tuple(weight.shape))
            return dict(quantizer.quantize(weight))

    seen: Any = Seen()
    weight = torch.randn(8, 64)
    pieces.quantize("w", weight.as_subclass(Elsewhere), LINEAR, seen)
    assert shapes == [(8, 64)]
    pieces.quantize("w", weight, LINEAR, seen)
    assert shapes[1:] == [(1, 64)] * 8


@pytest.mark.parametrize(("rows", "columns", "outputs"), [(3, 10, 5), (17, 16, 8), (16, 8, 9), (40, 17, 24)])
def test_a_gpus_product_is_padded_to_what_it_takes(
    rows: int, columns: int, outputs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(activations, "_int_mm_is_exact", lambda device: True)
    multiplied: list[tuple[int, ...]] = []

    def product(left: Tensor, right: Tensor) -> Tensor:
        multiplied.append((*left.shape, right.shape[1]))
        return (left.double() @ right.double()).to(torch.int32)

    monkeypatch.setattr(torch, "_int_mm", product)
    x, weight = torch.randint(-128, 128, (rows, columns)), torch.randint(-128, 128, (outputs, columns))
    x, weight = x.to(torch.int8), weight.to(torch.int8)
    found = activations._int_product(x.as_subclass(Elsewhere), weight.as_subclass(Elsewhere))
    assert torch.equal(found.as_subclass(Tensor), (x.double() @ weight.double().T).to(torch.int32))
    ((many, inner, out),) = multiplied
    assert many > 16 and inner % 8 == 0 and out % 8 == 0
    assert many - rows in (0, 17 - rows) and inner - columns < 8 and out - outputs < 8


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is asked of torch.cuda."""
    asked: list[str] = []
    for name, answer in (("synchronize", None), ("reset_peak_memory_stats", None), ("max_memory_allocated", 12345)):

        def call(device: Any, name: str = name, answer: Any = answer) -> Any:
            assert device.type == "cuda"
            asked.append(name)
            return answer

        monkeypatch.setattr(torch.cuda, name, call)
    return asked


def test_a_forward_on_a_gpu_has_its_allocators_peak(cuda: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    model: Any = nn.Linear(2, 2)
    vars(model)["device"] = SimpleNamespace(type="cuda")

    def run(*_: Any) -> Tensor:
        cuda.append("run")
        return torch.ones(1)

    monkeypatch.setattr(forward, "run", run)
    batch: Any = SimpleNamespace(arguments={"input_ids": torch.ones(2, 7)})
    ran = forward.watched(model, batch, PRECISIONS["bf16"], lambda phase: None)
    assert ran.problem is None and (ran.device_peak, ran.batch, ran.tokens) == (12345, 2, 7)
    assert cuda == ["reset_peak_memory_stats", "run", "synchronize", "max_memory_allocated"]


def test_a_load_on_a_gpu_has_its_allocators_peak(cuda: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    class Fake:
        def __init__(self, *_: Any) -> None:
            self.device, self.found = SimpleNamespace(type="cuda"), None

        def load(self, phases: Any) -> list[Any]:
            cuda.append("load")
            model: Any = nn.Linear(2, 2)
            vars(model)["get_memory_footprint"] = lambda: 24
            return [model]

    monkeypatch.setattr(loader, "Loader", Fake)
    for module in (modeling_utils, coding):  # which the process replaces for good
        monkeypatch.setitem(vars(module), "safe_open", vars(module)["safe_open"])
    told: list[Any] = []
    process.perform(Job("folder", "bf16", "direct"), told.append, lambda: None)
    assert isinstance(told[0], Imported)
    loaded = told[-1]
    assert isinstance(loaded, Loaded) and (loaded.device_peak, loaded.footprint_bytes) == (12345, 24)
    expected = ["load", "synchronize", "reset_peak_memory_stats", "load", "synchronize", "max_memory_allocated"]
    assert cuda == expected, "the toy first, and what it took is forgotten"


def test_a_gpu_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog, "device", lambda: "cuda:0")
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"GPU {device}")
    assert environment.describe("id", None).device == "GPU cuda:0"
