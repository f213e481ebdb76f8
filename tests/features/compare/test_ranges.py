"""The watch over activations: hand-made networks with known values, and real architectures made to overflow."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from qfund.features.compare.measure.ranges import INPUTS, ROOT, Watch
from qfund.features.compare.request.report import Range
from tests import independent
from tests.features.compare.test_architectures import CASES, batches_of
from tests.tiny import checkpoints

FP16 = 65504.0


def watched(model: nn.Module, *inputs: Tensor, limit: float | None = None) -> tuple[Range, str | None]:
    """What a watch saw, and its ``before``."""
    with torch.inference_mode(), Watch(model, limit) as watch:
        for batch in inputs:
            model(batch)
    assert watch.result is not None
    found = watch.result
    return found, found.before if found else None


class Scale(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor


class Residual(nn.Module):
    """Adds its input to what its part gives, in place or not, and gives that to a norm."""

    def __init__(self, part: nn.Module, last: nn.Module, in_place: bool = False) -> None:
        super().__init__()
        self.part, self.last, self.in_place = part, last, in_place

    def forward(self, x: Tensor) -> Tensor:
        given: Tensor = self.part(x)
        if self.in_place:
            given += x
        else:
            given = given + x
        result: Tensor = self.last(given)
        return result


class Clamped(nn.Module):
    """Hides an overflow as T5's blocks do."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.part = part

    def forward(self, x: Tensor) -> Tensor:
        return torch.clamp(self.part(x), -1000, 1000)


def test_known_magnitudes() -> None:
    model = nn.Sequential(Scale(10), Scale(-20), Scale(0.1))
    found, before = watched(model, torch.tensor([1.0, -2.0]), torch.tensor([3.0]))
    most = torch.finfo(torch.float32).max
    assert found == Range(limit=most, largest=600.0, largest_module="1", headroom=1 / (600 / most))
    assert before is None


def test_a_limit_that_is_given_is_the_one_measured_against() -> None:
    found, _ = watched(Scale(1000), torch.tensor([100.0]), limit=FP16)
    assert (found.limit, found.largest, found.largest_module) == (FP16, 1e5, ROOT)
    assert found.headroom == pytest.approx(0.65504)
    assert found.first_nonfinite is None


def test_the_dtype_with_the_least_headroom_counts() -> None:
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = Scale(100), Scale(1e6)

        def forward(self, x: Tensor) -> Tensor:
            return self.second(self.first(x.half()).float())  # type: ignore[no-any-return]

    found, _ = watched(Mixed(), torch.tensor([2.0]))
    assert (found.limit, found.largest, found.largest_module) == (FP16, 200.0, "first")


def test_the_first_overflow_is_named_and_all_are_counted() -> None:
    model = nn.Sequential(Scale(100), nn.Sequential(Scale(10), Scale(100)), Scale(0.5)).half().eval()
    found, before = watched(model, torch.tensor([1.0]).half(), torch.tensor([1.0, -50.0]).half())
    assert (found.first_nonfinite, found.first_nonfinite_kind, before) == ("1.1", "Scale", None)
    assert found.nonfinite_modules == 2  # 1.1 and 2; a Sequential gives what its last part gave
    assert (found.largest, found.largest_module, found.headroom) == (49984.0, "1.0", 0.0)  # 50 000 in fp16


@pytest.mark.parametrize("in_place", [False, True])
def test_a_sum_that_overflows_belongs_to_the_module_that_adds(in_place: bool) -> None:
    block = Residual(Scale(0.9), nn.ReLU(), in_place)
    whole = nn.Sequential(nn.Sequential(block), Scale(1)).half()
    found, before = watched(whole, torch.tensor([40000.0]).half())
    assert (found.first_nonfinite, found.first_nonfinite_kind, before) == ("0.0", "Residual", "0.0.last")


def test_a_product_between_modules_counts_towards_the_largest() -> None:
    found, _ = watched(Residual(Scale(1), nn.Tanh()), torch.tensor([30.0]))
    assert (found.largest, found.largest_module) == (60.0, ROOT)


def test_an_overflow_that_is_clamped_away_is_found() -> None:
    model = nn.Sequential(Clamped(Scale(1e4)), Scale(1)).half()
    with torch.inference_mode(), Watch(model) as watch:
        assert model(torch.tensor([50.0]).half()).item() == 1000
    assert watch.result is not None
    assert (watch.result.first_nonfinite, watch.result.nonfinite_modules) == ("0.part", 1)


def test_a_module_that_is_used_twice_overflows_the_second_time() -> None:
    shared = Scale(300)
    found, _ = watched(nn.Sequential(shared, shared).half(), torch.tensor([1.0]).half())
    assert found.first_nonfinite == "0"
    assert (found.largest, found.nonfinite_modules) == (300.0, 1)


def test_inputs_that_are_not_finite_are_nobodys_fault() -> None:
    found, before = watched(nn.Sequential(Scale(1), Scale(1)), torch.tensor([math.nan, 1.0]))
    assert (found.first_nonfinite, found.first_nonfinite_kind, before) == (INPUTS, None, None)
    assert found.nonfinite_modules == 2


def test_integers_and_masks_beside_the_output_are_no_activations() -> None:
    class Gives(nn.Module):
        def forward(self, x: Tensor, attention_mask: Tensor | None = None) -> Any:
            mask = torch.full((3,), torch.finfo(x.dtype).min)
            return {"ids": torch.tensor([10**6]), "mask": mask - 1e38, "out": (x * 2, mask, -math.inf * x)}

    class Masks(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.masked_fill(x > 3, torch.finfo(x.dtype).min)

    found, _ = watched(Gives(), torch.tensor([3.0]))
    assert (found.largest, found.first_nonfinite) == (6.0, None)
    assert watched(nn.Sequential(Masks()), torch.tensor([2.0, 5.0]))[0].largest == 2.0


def test_nothing_seen() -> None:
    with Watch(nn.Identity()) as watch:
        pass
    assert watch.result is None


def test_hooks_are_gone_also_after_an_error() -> None:
    class Fails(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise ValueError("no")

    model = nn.Sequential(Scale(2), nn.Dropout(), Fails()).eval()
    with pytest.raises(ValueError, match="no"), Watch(model) as watch:
        model(torch.tensor([4.0]))
    assert watch.result is not None and watch.result.largest == 8.0  # as far as it came
    for module in model.modules():
        assert not module._forward_hooks and not module._forward_pre_hooks


def run(name: str, model: Any, dtype: torch.dtype) -> tuple[Range, str | None]:
    with torch.inference_mode(), Watch(model) as watch:
        for batch in batches_of(name)[:2]:
            model(**{k: v.to(dtype) if v.is_floating_point() else v for k, v in batch.arguments.items()})
    assert watch.result is not None
    found = watch.result
    return found, found.before if found else None


@pytest.mark.parametrize("name", CASES)
def test_healthy_models_are_healthy_in_fp16(name: str) -> None:
    found, _ = run(name, independent.load(checkpoints.folder(name), torch.float16), torch.float16)
    assert found.first_nonfinite is None and found.nonfinite_modules == 0
    assert found.limit in (FP16, torch.finfo(torch.float32).max)
    assert 50 < found.headroom < 1e5
    assert found.headroom == pytest.approx(found.limit / found.largest)


@pytest.mark.parametrize("name", ["llama", "t5", "resnet-classifier", "gemma2"])
def test_what_is_computed_stays_the_same(name: str) -> None:
    model = independent.load(checkpoints.folder(name), torch.bfloat16)
    batch = {k: v.bfloat16() if v.is_floating_point() else v for k, v in next(iter(batches_of(name))).arguments.items()}
    with torch.inference_mode():
        plain = model(**batch).logits
        with Watch(model):
            assert torch.equal(model(**batch).logits, plain)
        assert torch.equal(model(**batch).logits, plain)


def _llama_down(model: Any) -> nn.Parameter:
    return model.model.layers[1].mlp.down_proj.weight  # type: ignore[no-any-return]


def _t5_wo(model: Any) -> nn.Parameter:
    return model.half().encoder.block[1].layer[1].DenseReluDense.wo.weight  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("name", "weight", "first", "kind"),
    [
        ("llama-untied", _llama_down, "model.layers.1.mlp.down_proj", "Linear"),
        ("t5", _t5_wo, "encoder.block.1.layer.1.DenseReluDense.wo", "Linear"),
    ],
)
def test_overflow_of_a_real_model(name: str, weight: Callable[[Any], nn.Parameter], first: str, kind: str) -> None:
    overflowing = independent.load(checkpoints.folder(name), torch.float16)
    with torch.no_grad():
        weight(overflowing).clamp_(-1, 1).mul_(6e4)
    found, before = run(name, overflowing, torch.float16)
    assert (found.first_nonfinite, found.first_nonfinite_kind, before) == (first, kind, None)
    assert found.nonfinite_modules > 1 and found.headroom == 0
    in_bf16, _ = run(name, overflowing.bfloat16(), torch.bfloat16)
    assert in_bf16.first_nonfinite is None
    assert in_bf16.largest > FP16 and in_bf16.headroom > 1e30


def test_an_embedding_that_holds_nan() -> None:
    model = independent.load(checkpoints.folder("llama"), torch.float32)
    with torch.no_grad():
        model.get_input_embeddings().weight[:, 0] = math.nan
    found, _ = run("llama", model, torch.float32)
    assert (found.first_nonfinite, found.first_nonfinite_kind) == ("model.embed_tokens", "Embedding")
