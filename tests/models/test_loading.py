"""The model cache: one load per key, room made before a load, least recently used first, nothing leased is dropped."""

import gc
import threading
import weakref
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest
from torch import nn

from qfund.checkpoints.catalog import CATALOG
from qfund.checkpoints.checkpoint import Checkpoint, read
from qfund.core.errors import InvalidSpec, OutOfBudget, UnavailablePrecision
from qfund.core.tensors import TensorRow
from qfund.models.cache import ModelCache, default_budget
from qfund.models.footprint import Footprint
from qfund.models.loading import LoadedModel, load
from qfund.models.opened import groups
from qfund.precisions.precision import Precision
from qfund.precisions.table import PRECISIONS

FP32, BF16, FP16, INT8 = (PRECISIONS[name] for name in ("fp32", "bf16", "fp16", "int8"))
SIZES = {"fp32": 40, "bf16": 20, "fp16": 20, "int8": 10}


class Counting:
    """A loader that makes nothing heavy and remembers what it was asked, and how full the cache was then."""

    def __init__(self) -> None:
        self.loads: list[str] = []
        self.used_before: list[int] = []
        self.cache: ModelCache | None = None

    def __call__(self, checkpoint: Checkpoint, row: Precision, also: Sequence[str]) -> LoadedModel:
        assert self.cache is not None
        self.loads.append(row.name)
        self.used_before.append(self.cache.used)
        size = SIZES[row.name]
        rows = (TensorRow("weight", (size,), "int8", "int8", "int8", size, size, "weight"),)
        return LoadedModel(nn.Identity(), Footprint(rows), size, 0.0)


def caching(budget: int) -> tuple[ModelCache, Counting]:
    loader = Counting()
    loader.cache = ModelCache(budget, loader)
    return loader.cache, loader


CHECKPOINT = Checkpoint(Path("here"), {"architectures": ["X"]}, {}, "sha256:1")


def use(cache: ModelCache, *rows: Precision) -> None:
    for row in rows:
        with cache.lease(CHECKPOINT, row, SIZES[row.name]):
            pass


def test_one_load_per_key() -> None:
    cache, loader = caching(1000)
    use(cache, FP32, BF16, FP32, BF16, FP32)
    assert loader.loads == ["fp32", "bf16"]
    other = Checkpoint(Path("there"), {}, {}, "sha256:2")
    with cache.lease(other, FP32, 40):
        assert loader.loads == ["fp32", "bf16", "fp32"]


def test_the_least_recently_used_goes_first_and_before_the_load() -> None:
    cache, loader = caching(70)
    use(cache, FP32, BF16, FP32, FP16)  # fp32 40 + bf16 20 + fp16 20 > 70: bf16 must go, for fp32 was used since
    assert [name for _, name, *_ in cache.keys] == ["fp32", "fp16"]
    assert loader.used_before == [0, 40, 40], "room was made before fp16 was loaded"
    use(cache, BF16)
    assert [name for _, name, *_ in cache.keys] == ["fp16", "bf16"]
    assert cache.used <= cache.budget


def test_what_else_was_quantized_is_part_of_the_key() -> None:
    cache, loader = caching(1000)
    for also in ((), ("head",), ("head",), ("head", "embeddings")):
        for row in (INT8, FP32):
            with cache.lease(CHECKPOINT, row, 10, also):
                pass
    assert loader.loads == ["int8", "fp32", "int8", "int8"], "a cast has nothing else to quantise"


def test_an_evicted_model_is_freed() -> None:
    cache, _ = caching(50)
    with cache.lease(CHECKPOINT, FP32, 40) as held:
        gone = weakref.ref(held.model)
    del held
    use(cache, BF16)
    gc.collect()
    assert gone() is None


def test_what_is_leased_stays() -> None:
    cache, _ = caching(50)
    with cache.lease(CHECKPOINT, FP32, 40):
        with pytest.raises(OutOfBudget, match="BF16 needs 20 B; 10 B of the budget of 50 B is free") as caught:
            use(cache, BF16)
        assert "QFUND_MODEL_BUDGET_GIB" in caught.value.remedy
        use(cache, INT8)
    use(cache, BF16)
    assert ("sha256:1", "fp32") not in cache.keys


def test_a_load_that_fails_leaves_no_trace() -> None:
    def failing(checkpoint: Checkpoint, row: Precision, also: Sequence[str]) -> LoadedModel:
        raise OSError("disk")

    cache = ModelCache(100, failing)
    for _ in range(2):
        with pytest.raises(OSError, match="disk"), cache.lease(CHECKPOINT, FP32, 40):
            pass
    assert cache.used == 0 and cache.keys == ()


def test_many_threads_cause_one_load() -> None:
    cache, loader = caching(1000)
    barrier = threading.Barrier(8)

    def ask() -> None:
        barrier.wait()
        use(cache, FP32)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert loader.loads == ["fp32"]


def test_candidates_are_grouped_to_fit_beside_the_reference() -> None:
    candidates = ("bf16", "fp16", "int8")
    assert groups("fp32", candidates, SIZES, 90) == [["bf16", "fp16", "int8"]]
    assert groups("fp32", candidates, SIZES, 70) == [["bf16"], ["fp16", "int8"]]
    assert groups("fp32", ("fp32",), SIZES, 40) == [["fp32"]]
    with pytest.raises(OutOfBudget, match="FP32 and BF16 together need 60 B"):
        groups("fp32", candidates, SIZES, 50)


def test_the_real_loader_on_the_toy_model() -> None:
    checkpoint = read(CATALOG["dummy"].folder)
    cache = ModelCache(200)  # fp32 120 B, bf16 60 B, int8 112 B: fp32 and int8 do not fit together
    with ExitStack() as stack:
        fp32 = stack.enter_context(cache.lease(checkpoint, FP32, 120))
        bf16 = stack.enter_context(cache.lease(checkpoint, BF16, 60))
        assert (fp32.footprint.bytes, bf16.footprint.bytes, cache.used) == (120, 60, 180)
    with cache.lease(checkpoint, INT8, 112) as int8:
        assert int8.footprint.bytes == 112
        assert [name for _, name, *_ in cache.keys] == ["bf16", "int8"]
    assert load(checkpoint, BF16).model is not bf16.model


def test_the_budget_is_read_and_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QFUND_MODEL_BUDGET_GIB", "1.5")
    assert default_budget() == int(1.5 * 1024**3)
    monkeypatch.setenv("QFUND_MODEL_BUDGET_GIB", "lots")
    with pytest.raises(InvalidSpec, match="'lots'"):
        default_budget()
    monkeypatch.delenv("QFUND_MODEL_BUDGET_GIB")
    assert default_budget() > 0


def test_a_device_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QFUND_DEVICE", "cuda:77")
    with pytest.raises(InvalidSpec, match="QFUND_DEVICE=cuda:77"):
        load(read(CATALOG["dummy"].folder), FP32)


def test_a_precision_that_this_device_cannot_run_is_refused_before_anything_is_read() -> None:
    with pytest.raises(UnavailablePrecision, match="TF32 needs an NVIDIA GPU") as caught:
        load(CHECKPOINT, PRECISIONS["tf32"])
    assert "QFUND_DEVICE" in caught.value.remedy and caught.value.exit_code == 2
