"""What else is called BF16 and FP16: weights alone, inputs too, autocast, a head in FP32, each beside plain torch."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from qfund.checkpoints import checkpoint
from qfund.core.errors import NothingConverted
from qfund.features.compare.measure.compare import compare
from qfund.features.compare.request import examples
from qfund.features.compare.request.spec import Spec
from qfund.features.compare.view import choices
from qfund.inputs.texts import SECOND_HALF
from qfund.models import footprint, skeleton
from qfund.models.forward import arithmetic
from qfund.models.loading import LoadedModel, load
from qfund.precisions.precision import GGUF, MEANING, STORED, Precision
from qfund.precisions.quantizers.activations import BF16_INPUTS, FP16_INPUTS
from qfund.precisions.quantizers.cast import BF16, FP16
from qfund.precisions.quantizers.conversion import quantize_model
from qfund.precisions.quantizers.heads import heads_of
from qfund.precisions.quantizers.plan import plan_of
from qfund.precisions.table import PRECISIONS
from qfund.ui import pickers
from tests import independent
from tests.features.compare.test_architectures import CASES, batches_of
from tests.tiny import checkpoints

CASTS = {"bf16": torch.bfloat16, "fp16": torch.float16}

ROWS = [row for row in PRECISIONS.values() if row.family == MEANING]

#: A decoder, Conv1D, experts, a state-space model, an encoder-decoder, an encoder, pictures, convolutions.
SOME = ("llama", "gpt2", "mixtral", "mamba", "t5", "bert-masked", "vit-classifier", "convnext-classifier")


def _loaded(name: str, row: str) -> LoadedModel:
    return load(checkpoint.read(checkpoints.folder(name)), PRECISIONS[row])


def _plain(name: str, dtype: torch.dtype = torch.float32) -> Any:
    return independent.load(checkpoints.folder(name), dtype)


@torch.inference_mode()
def _logits(model: Any, name: str) -> torch.Tensor:
    found: torch.Tensor = model(**batches_of(name)[0].arguments).logits
    return found


def test_every_16_bit_cast_has_its_meanings_and_a_set_that_offers_them() -> None:
    kinds = ("weights", "inputs", "autocast", "fp32_head")
    assert [row.name for row in ROWS] == [f"{cast}_{kind}" for cast in CASTS for kind in kinds]
    assert all(row.variant_of is None and f"{row.name}_bf16" not in PRECISIONS for row in ROWS)
    for cast in CASTS:
        assert choices.PRESETS[f"Meanings of {cast.upper()}"] == (cast, *(f"{cast}_{kind}" for kind in kinds))
    assert not {row.name for row in ROWS} & set(choices.PRESETS["16-bit casts"])
    first = pickers.WITH_STORED.index(ROWS[0].name)
    assert pickers.WITH_STORED[first : first + len(ROWS)] == tuple(row.name for row in ROWS)
    assert {PRECISIONS[name].family for name in pickers.WITH_STORED[first + len(ROWS) : -1]} == {GGUF}
    # Beside every format to choose from they would say nothing.
    assert not {row.name for row in ROWS} & set(examples.EVERY_PRECISION.precisions)
    assert PRECISIONS[pickers.WITH_STORED[-1]].family == STORED


@pytest.mark.parametrize("name", SOME)
def test_bytes_are_foretold_and_are_what_arithmetic_says(name: str) -> None:
    found = checkpoint.read(checkpoints.folder(name))
    skeletons, plain = skeleton.Skeletons(found), _plain(name)
    whole = plain.get_memory_footprint()
    halved = 2 * sum(parameter.numel() for parameter in plain.parameters() if parameter.dim() > 1)
    for row in ROWS:
        if row.head and CASES[name].task.endswith("classifier"):
            with pytest.raises(NothingConverted):
                skeletons.footprint(row)
            continue
        loaded = load(found, row)
        assert skeletons.footprint(row).tensors == loaded.footprint.tensors, row.name
        if row.head:
            assert loaded.footprint.bytes == skeletons.footprint(PRECISIONS[row.name.split("_")[0]]).bytes
        else:
            assert loaded.footprint.bytes == whole - (halved if row.quantizer else 0), row.name
        if row.quantizer:  # every matrix, and what is asked for besides changes nothing
            assert loaded.left == () and loaded.footprint.bits_per_weight == 16
            assert skeletons.footprint(row, ("head", "embeddings")).tensors == loaded.footprint.tensors
        assert footprint.stored(loaded.model).parameters == sum(parameter.numel() for parameter in plain.parameters())


def _rounded(name: str, dtype: torch.dtype) -> Any:
    """A plain fp32 model whose weights of two and more dimensions were rounded."""
    model = _plain(name)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.data = parameter.data.to(dtype).float()
    return model


@contextmanager
def _rounding_inputs(model: Any, dtype: torch.dtype) -> Iterator[None]:
    """While the block runs, linear layers are given rounded inputs."""

    def before(module: nn.Module, args: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return (args[0].to(dtype).float(), *args[1:])

    layers = [module for module in model.modules() if isinstance(module, nn.Linear | Conv1D)]
    handles = [module.register_forward_pre_hook(before) for module in layers]
    yield
    for handle in handles:
        handle.remove()


@pytest.mark.parametrize("cast", CASTS)
@pytest.mark.parametrize("name", [name for name in SOME if name != "convnext-classifier"])
def test_weights_alone_run_as_the_fp32_model_with_rounded_weights(name: str, cast: str) -> None:
    ours, theirs = _logits(_loaded(name, f"{cast}_weights").model, name), _logits(_rounded(name, CASTS[cast]), name)
    assert torch.equal(ours, theirs)
    assert not torch.equal(theirs, _logits(_plain(name), name))


@pytest.mark.parametrize("cast", CASTS)
@pytest.mark.parametrize("name", ["llama", "gpt2", "mixtral", "t5", "bert-masked", "vit-classifier"])
def test_inputs_too_run_as_that_model_with_its_linear_layers_inputs_rounded(name: str, cast: str) -> None:
    model = _rounded(name, CASTS[cast])
    alone = _logits(model, name)
    with _rounding_inputs(model, CASTS[cast]):
        theirs = _logits(model, name)
    ours = _logits(_loaded(name, f"{cast}_inputs").model, name)
    if name == "gpt2":  # Conv1D multiplies the transposed weight, which may be summed in another order
        torch.testing.assert_close(ours, theirs, atol=2e-2 if cast == "bf16" else 2e-3, rtol=0)
    else:
        assert torch.equal(ours, theirs)
    assert not torch.equal(theirs, alone)


@pytest.mark.parametrize(("product", "quantizer"), [(BF16_INPUTS, BF16), (FP16_INPUTS, FP16)])
def test_rounded_inputs_are_multiplied_exactly_and_summed_in_fp32(product: Any, quantizer: Any) -> None:
    """Beside float64 on the rounded numbers: only the sum of 512 exact products is rounded."""
    generator = torch.Generator().manual_seed(0)
    x, weight = torch.randn(7, 512, generator=generator), torch.randn(9, 512, generator=generator)
    bias = torch.randn(9, generator=generator)
    stored, rounded = quantizer.quantize(weight), x.to(product.dtype).double()
    exact = rounded @ weight.to(product.dtype).double().T
    found = product(x, quantizer, stored, (9, 512), bias)
    bound = (rounded.abs() @ stored["data"].double().abs().T) * 512 * 2.0**-24
    assert found.dtype == torch.float32 and ((found.double() - exact - bias).abs() <= bound + 1e-6).all()
    one = product(x[:, :1], quantizer, quantizer.quantize(weight[:, :1]), (9, 1), None)
    assert torch.equal(one.double(), rounded[:, :1] @ weight[:, :1].to(product.dtype).double().T)


def test_what_fp16_cannot_hold_becomes_infinite_as_in_the_cast_of_the_whole_model() -> None:
    weight = torch.tensor([[65504.0, 65519.0, 65520.0, -1e6]])
    assert FP16.dequantize(FP16.quantize(weight), (1, 4), torch.float32).tolist() == [
        [65504.0, 65504.0, float("inf"), -float("inf")]
    ]
    assert torch.equal(FP16.quantize(weight)["data"], weight.half())


@pytest.mark.parametrize("cast", CASTS)
@pytest.mark.parametrize("name", ["llama", "gpt2", "t5", "bert-masked", "vit-classifier", "convnext-classifier"])
def test_autocast_is_torchs_own(name: str, cast: str) -> None:
    row = PRECISIONS[f"{cast}_autocast"]
    with arithmetic(row):
        ours = _logits(_loaded(name, row.name).model, name)
    with torch.autocast("cpu", CASTS[cast]):
        theirs = _logits(_plain(name), name)
    assert torch.equal(ours, theirs) and ours.dtype == theirs.dtype
    assert not torch.equal(ours.float(), _logits(_plain(name), name))


@pytest.mark.parametrize("row", ["bf16_autocast", "bf16", "fp32"])
def test_arithmetic_may_be_entered_anew_for_every_part(row: str) -> None:
    found = PRECISIONS[row]
    model: Any = _loaded("llama", row).model
    with arithmetic(found):
        whole = _logits(model, "llama")
    parts: list[Any] = []

    def enter(*_: Any) -> None:
        parts.append(arithmetic(found))
        parts[-1].__enter__()

    def leave(*_: Any) -> None:
        parts.pop().__exit__(None, None, None)

    with arithmetic(found):
        for module in model.modules():
            module.register_forward_pre_hook(enter)
            module.register_forward_hook(leave)
        assert torch.equal(_logits(model, "llama"), whole)
    assert not parts and not torch.is_autocast_enabled("cpu")


@pytest.mark.parametrize("cast", CASTS)
@pytest.mark.parametrize("name", ["llama", "llama-untied", "gpt2", "t5", "bert-masked"])
@torch.inference_mode()
def test_a_head_in_fp32_multiplies_the_same_numbers_wider(name: str, cast: str) -> None:
    """All before the head is the cast model's, bit for bit; the logits are fp32 and no rounded ones."""
    seen: list[torch.Tensor] = []
    plain = _plain(name, CASTS[cast])
    plain.get_output_embeddings().register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    rounded = _logits(plain, name)
    head = plain.get_output_embeddings()
    exact = seen[0].double() @ head.weight.double().T + (0 if head.bias is None else head.bias.double())
    model = _loaded(name, f"{cast}_fp32_head").model
    ours = _logits(model, name)
    assert ours.dtype == torch.float32 and rounded.dtype == CASTS[cast]
    torch.testing.assert_close(ours, exact.float(), atol=1e-5, rtol=1e-5)
    assert (ours - exact).abs().max() < 0.1 * (rounded - exact).abs().max()
    own = model.get_output_embeddings()
    assert own.weight.dtype == CASTS[cast]
    if name != "llama-untied":
        assert own.weight is model.get_input_embeddings().weight


def test_a_model_without_an_output_head_has_none_to_widen() -> None:
    row, found = PRECISIONS["bf16_fp32_head"], checkpoint.read(checkpoints.folder("bert-encoder"))
    for refused in (lambda: skeleton.predict(found, row), lambda: load(found, row)):
        with pytest.raises(NothingConverted, match="would change nothing in BertModel: its output head is not there"):
            refused()
    assert heads_of(_plain("bert-encoder"), PRECISIONS["bf16"]) == {}


@pytest.mark.parametrize("row", [replace(row, name="x") for row in ROWS if row.product], ids=lambda row: row.label)
def test_where_inputs_are_out_of_reach_weights_are_rounded_all_the_same(row: Precision) -> None:
    """Experts, convolutions, and Mamba's ``dt_proj``, which its parent multiplies with."""
    for name, reached, others in (
        ("mixtral", {"q_proj", "k_proj", "v_proj", "o_proj", "lm_head"}, {"experts", "gate", "embed_tokens"}),
        ("mamba", {"in_proj", "x_proj", "out_proj", "lm_head"}, {"dt_proj", "conv1d", "mixer", "embeddings"}),
    ):
        weights = [weight for group in plan_of(_plain(name), row).groups for weight in group]
        assert {weight.module.rpartition(".")[2] for weight in weights if weight.inputs} == reached
        assert {weight.module.rpartition(".")[2] for weight in weights if not weight.inputs} == others
        (note,) = quantize_model(_plain(name), row).notes
        assert "out of reach (first of " in note and "embed" not in note
    assert quantize_model(_plain("llama"), row).notes == ()


def test_the_meanings_of_bf16_lose_less_the_less_they_round() -> None:
    """On the shipped model, scored as llama.cpp does: from weights alone to the whole model."""
    names = choices.PRESETS["Meanings of BF16"]
    found = compare(Spec("pydoc-llama", precisions=names, scoring=SECOND_HALF, max_tokens=1024))
    kl = {result.precision: result.fidelity["kl_mean"].value for result in found.results}
    middle = kl["bf16_autocast"], kl["bf16_fp32_head"]
    assert 0 < 1.5 * kl["bf16_weights"] < kl["bf16_inputs"]
    assert 2 * kl["bf16_inputs"] < min(middle) and 1.2 * max(middle) < kl["bf16"]
    assert kl["bf16"] > 8 * kl["bf16_weights"]
