"""What runs on another device than the processor's, as far as a machine without one can tell: on a simulated one (its
numbers are the processor's), on the meta device, and with stand-ins for torch.cuda and NVML."""

import sys
import time
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn
from transformers import modeling_utils

from qfund import engine
from qfund.checkpoints import catalog
from qfund.core.errors import InvalidSpec, OutOfBudget
from qfund.core.feature import lazily
from qfund.features.compare.measure import libraries
from qfund.features.compare.request.spec import Spec
from qfund.features.memory.measure.loading import forward, loader, process
from qfund.features.memory.measure.loading.messages import Imported, Job, Loaded
from qfund.features.speed.measure import bounds, energy
from qfund.models import environment
from qfund.models.forward import arithmetic
from qfund.models.loading import coding
from qfund.precisions.precision import GGUF
from qfund.precisions.quantizers import activations, pieces
from qfund.precisions.quantizers.plan import LINEAR
from qfund.precisions.quantizers.quantizer import quantizer_of
from qfund.precisions.table import PRECISIONS
from qfund.stream.walker import Walker, Way
from tests.simulated_gpu import simulated

#: GGUF files are coded by the processor wherever a weight lies.
ON_DEVICE = [name for name, row in PRECISIONS.items() if row.quantizer and row.family != GGUF]


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
    with simulated():
        pieces.quantize("w", weight.to("cuda:0"), LINEAR, seen)
    assert shapes == [(8, 64)]
    pieces.quantize("w", weight, LINEAR, seen)
    assert shapes[1:] == [(1, 64)] * 8


@pytest.mark.parametrize(("rows", "columns", "outputs"), [(3, 10, 5), (17, 16, 8), (16, 8, 9), (40, 17, 24)])
def test_a_gpus_product_is_padded_to_what_it_takes(
    rows: int, columns: int, outputs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(activations, "_int_mm_is_exact", lambda device: True)
    x, weight = torch.randint(-128, 128, (rows, columns)), torch.randint(-128, 128, (outputs, columns))
    x, weight = x.to(torch.int8), weight.to(torch.int8)
    with simulated():  # which takes what a GPU takes
        found = activations._int_product(x.to("cuda:0"), weight.to("cuda:0")).cpu()
    assert torch.equal(found, (x.double() @ weight.double().T).to(torch.int32))


@pytest.mark.parametrize("name", ON_DEVICE)
def test_codes_and_products_are_the_processors(name: str) -> None:
    row = PRECISIONS[name]
    quantizer, dtype = quantizer_of(row), getattr(torch, row.dtype)
    assert quantizer is not None
    generator = torch.Generator().manual_seed(0)
    weight, x = (torch.randn(64, 256, generator=generator).to(dtype) for _ in range(2))
    bias = torch.randn(64, generator=generator).to(dtype)
    product = lazily(row.product) if row.product else None

    def found(weight: Tensor, x: Tensor, bias: Tensor) -> list[Tensor]:
        stored, clipped = pieces.quantize("w", weight, LINEAR, quantizer)
        made = [*stored.values(), pieces.dequantize(quantizer, stored, (64, 256), dtype), torch.tensor(clipped)]
        return made + ([product(x, quantizer, stored, (64, 256), bias)] if product else [])

    expected = found(weight, x, bias)
    with simulated():
        here = found(weight.to("cuda:0"), x.to("cuda:0"), bias.to("cuda:0"))
        assert {str(part.device) for part in here[:-1] if part.dim()} == {"cuda:0"}
        given = [part.cpu() for part in here]
    for one, other in zip(expected, given, strict=True):
        assert torch.equal(one.double(), other.double()), "the same numbers, by the same operations"


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is asked of torch.cuda."""
    asked: list[str] = []
    stream = SimpleNamespace(synchronize=lambda: asked.append("synchronize"))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: stream)
    for name, answer in (("reset_peak_memory_stats", None), ("max_memory_allocated", 12345)):

        def call(device: Any, name: str = name, answer: Any = answer) -> Any:
            assert device.type == "cuda"
            asked.append(name)
            return answer

        monkeypatch.setattr(torch.cuda, name, call)
    return asked


def test_a_forward_on_a_gpu_has_its_allocators_peak(cuda: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    model: Any = nn.Linear(2, 2)
    vars(model)["device"] = torch.device("cuda:0")

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
            self.device, self.found = torch.device("cuda:0"), None

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


def test_a_device_without_double_precision_is_refused() -> None:
    with simulated("mps"), pytest.raises(InvalidSpec, match=r"QFUND_DEVICE=mps:0 .* float64"):
        environment.torch_device()


def test_tf32_is_asked_for_by_its_row_alone_and_never_stays() -> None:
    backends: Any = torch.backends
    parts = backends.cuda.matmul, backends.cudnn.conv
    before = [part.fp32_precision for part in parts]
    with arithmetic(PRECISIONS["tf32"]):
        assert [part.fp32_precision for part in parts] == ["tf32", "tf32"]
        with arithmetic(PRECISIONS["fp32"]):  # another model's turn within
            assert [part.fp32_precision for part in parts] == ["ieee", "ieee"]
        assert [part.fp32_precision for part in parts] == ["tf32", "tf32"]
    with pytest.raises(ZeroDivisionError), arithmetic(PRECISIONS["tf32"]):
        raise ZeroDivisionError
    assert [part.fp32_precision for part in parts] == before


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, float]]:
    """A GPU that is busy for some seconds with what it is given, by a clock that nothing else moves."""
    clock = {"now": 0.0, "busy": 0.0}
    monkeypatch.setattr(time, "perf_counter", lambda: clock["now"])
    with simulated():

        def synchronize(*_: Any) -> None:
            clock["now"] += clock["busy"]
            clock["busy"] = 0.0

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch.cuda, "current_stream", lambda *_: SimpleNamespace(synchronize=synchronize))
            yield clock


def test_a_ways_seconds_are_those_that_the_gpu_took(slow: dict[str, float]) -> None:
    walker = Walker(Way("bf16", PRECISIONS["bf16"]), cast(Any, None))
    walker.start([], torch.device("cuda:0"))
    for _ in range(3):
        with walker.running():
            slow["busy"] = 2.0
    assert walker.seconds == 6.0


def test_a_librarys_turn_ends_when_the_gpu_has_ended(slow: dict[str, float]) -> None:
    model: Any = SimpleNamespace(device=torch.device("cuda:0"))
    turn = libraries._timed(lambda given: cast(Any, slow.update(busy=2.0)), model)
    turn()
    assert slow == {"now": 2.0, "busy": 0.0}


def test_the_highest_rates_are_those_of_what_was_done(slow: dict[str, float]) -> None:
    def product() -> None:
        slow["busy"] = 2.0

    assert bounds._best(product, torch.device("cuda:0")) == 2.0
    assert bounds._best(lambda: slow.update(now=slow["now"] + 0.5), torch.device("cpu")) == 0.5


class _Nvml(ModuleType):
    """Two GPUs, of which CUDA sees the second alone."""

    def __init__(self) -> None:
        super().__init__("pynvml")
        self.millijoules = {"GPU-first": 5_000, "GPU-second": 70_000}
        self.fails = ""

    def nvmlInit(self) -> None:
        if self.fails == "driver":
            raise RuntimeError("Driver Not Loaded")

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:
        return uuid

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: str) -> int:
        if self.fails == "counter":
            raise RuntimeError("Not Supported")
        return self.millijoules[handle]


def test_energy_is_of_the_gpu_that_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = _Nvml()
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid="second"))
    joules, said = energy.meter("cuda:0")
    before = joules()
    nvml.millijoules = {"GPU-first": 1_000_000, "GPU-second": 72_500}
    after = joules()
    assert before is not None and after is not None and after - before == 2.5 and "whole GPU by NVML" in said
    nvml.fails = "counter"
    assert joules() is None, "one that went away in between has nothing to say, and the speeds are kept"
    for fails, why in (("driver", "Driver Not Loaded"), ("counter", "Not Supported")):
        nvml.fails = fails
        joules, said = energy.meter("cuda:0")
        assert joules() is None and said == f"Energy is not measured here: NVML says {why}."
    monkeypatch.setitem(sys.modules, "pynvml", None)
    joules, said = energy.meter("cuda:0")
    assert joules() is None and "install nvidia-ml-py" in said


@pytest.mark.parametrize(
    ("error", "what"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), "more memory than the GPU has"),
        (
            RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED"),
            "than the GPU has",
        ),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "more memory than there is"),
        (MemoryError(), "more memory than there is"),
    ],
)
def test_memory_that_runs_out_says_what_to_do(error: Exception, what: str) -> None:
    def measure(request: Any, progress: Any) -> Any:
        raise error

    with pytest.raises(OutOfBudget, match=what) as raised:
        engine.compute(Spec("dummy"), measure=measure)
    assert ("QFUND_DEVICE=cpu" in raised.value.remedy) == ("GPU" in what)
