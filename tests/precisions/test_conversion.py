"""The walk that applies a quantiser to whole models: what it converts, what it leaves and why, and ties."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from torch import nn
from transformers.pytorch_utils import Conv1D

from qfund.checkpoints import checkpoint
from qfund.core.errors import CorruptCheckpoint, NothingConverted
from qfund.models import footprint
from qfund.models.loading import LoadedModel, load
from qfund.precisions.precision import CAST, GGUF, MEANING, Precision
from qfund.precisions.quantizers import conversion
from qfund.precisions.quantizers.conversion import quantize_model
from qfund.precisions.quantizers.integer import INT8_PER_CHANNEL
from qfund.precisions.quantizers.plan import plan_conversion, plan_of
from qfund.precisions.quantizers.quantizer import quantizer_of
from qfund.precisions.table import PRECISIONS
from tests import independent
from tests.features.compare.test_architectures import CASES, batches_of
from tests.tiny import checkpoints

INT8 = PRECISIONS["int8"]
#: Every row that quantises, on an fp32 base; ``tests/features/compare/test_meanings.py`` has those that cast, and
#: ``ggml`` beside this file has GGUF files.
QUANTIZING = [
    name
    for name, row in PRECISIONS.items()
    if row.quantizer and row.variant_of is None and row.family not in (MEANING, GGUF)
]
WEIGHT_ONLY = [name for name in QUANTIZING if PRECISIONS[name].weights_only]


def _quantized(name: str, row: Precision = INT8, also: tuple[str, ...] = ()) -> tuple[Any, LoadedModel]:
    loaded = load(checkpoint.read(checkpoints.folder(name)), row, also)
    return loaded.model, loaded


@pytest.mark.parametrize("name", CASES)
def test_forward_equals_bit_for_bit_a_float_model_with_rounded_weights(name: str) -> None:
    model, _ = _quantized(name)
    plain = independent.rounded(independent.load(checkpoints.folder(name), torch.float32), CASES[name].left)
    inputs = batches_of(name)
    ours, theirs = independent.run(model, inputs), independent.run(plain, inputs)
    assert np.array_equal(ours.values, theirs.values)


def _restored(name: str, row: Precision, also: tuple[str, ...] = ()) -> Any:
    """A plain float model whose weights were quantised and dequantised one by one."""
    quantizer = quantizer_of(row)
    assert quantizer is not None
    model = independent.load(checkpoints.folder(name), getattr(torch, row.dtype))
    for group in plan_of(model, row, also).groups:
        weight = group[0]
        parameter = model.get_submodule(weight.module).get_parameter(weight.key)
        matrix = parameter.detach()
        if isinstance(model.get_submodule(weight.module), Conv1D):
            matrix = matrix.T
        matrix = matrix.reshape(-1, matrix.shape[-1]) if "experts" in weight.module else matrix.flatten(1)
        restored = quantizer.dequantize(quantizer.quantize(matrix), tuple(matrix.shape), matrix.dtype)
        if isinstance(model.get_submodule(weight.module), Conv1D):
            restored = restored.T
        parameter.data = restored.reshape(parameter.shape).contiguous()
    return model


@pytest.mark.parametrize("row", WEIGHT_ONLY)
@pytest.mark.parametrize("name", ["llama", "gpt2", "mixtral", "vit-classifier"])
def test_every_weight_only_row_runs_as_the_float_model_with_its_weights(name: str, row: str) -> None:
    """In its own base, and in BF16; in one of them with head and embeddings too (tied and not), for the next row and on
    the next model in the other one."""
    also: list[tuple[str, ...]] = [(), ("head", "embeddings")]
    if (WEIGHT_ONLY.index(row) + len(name)) % 2:
        also.reverse()
    for found, parts in zip((PRECISIONS[row], PRECISIONS[f"{row}_bf16"]), also, strict=True):
        model, _ = _quantized(name, found, parts)
        inputs = batches_of(name)[:1]
        for batch in inputs:
            for key, value in batch.arguments.items():
                if value.is_floating_point():
                    batch.arguments[key] = value.to(model.dtype)
        ours, theirs = independent.run(model, inputs), independent.run(_restored(name, found, parts), inputs)
        if isinstance(model.get_submodule(""), transformers.GPT2LMHeadModel):
            # A transposed weight lies otherwise in memory, and the kernel may sum in another order.
            np.testing.assert_allclose(ours.values, theirs.values, atol=1e-5 if found.dtype == "float32" else 0.1)
        else:
            assert np.array_equal(ours.values, theirs.values), (found.name, parts)


@pytest.mark.parametrize("name", ["llama", "gpt2", "mixtral", "t5", "vit-classifier"])
def test_a_quantized_model_can_be_copied(name: str) -> None:
    model, _ = _quantized(name)
    twin = copy.deepcopy(model)
    inputs = batches_of(name)
    assert np.array_equal(independent.run(model, inputs).values, independent.run(twin, inputs).values)
    assert footprint.stored(twin).tensors == footprint.stored(model).tensors
    own = {tensor.data_ptr() for tensor in model.buffers() if tensor.numel()}
    assert own.isdisjoint(tensor.data_ptr() for tensor in twin.buffers() if tensor.numel())


@pytest.mark.parametrize("name", ["gpt2", "llama", "t5"])
def test_converted_modules_hold_integers_and_no_float_weight(name: str) -> None:
    model, plan = _quantized(name)
    assert plan.converted
    for module_name in plan.converted:
        module = model.get_submodule(module_name)
        assert list(type(module).quantized) == ["weight_data", "weight_scale"]
        assert "weight" not in dict(module.named_parameters())
        assert {key: tensor.dtype for key, tensor in module.named_buffers()} == {
            "weight_data": torch.int8,
            "weight_scale": torch.float32,
        }
        # Still a module of its kind, and its weight still reads as one.
        assert isinstance(module, nn.Linear | Conv1D) and module.weight.dtype == torch.float32
    plain = independent.load(checkpoints.folder(name), torch.float32)
    for module_name in plan.converted:
        assert model.get_submodule(module_name).weight.shape == plain.get_submodule(module_name).weight.shape


def test_conv1d_has_one_scale_an_output() -> None:
    model, plan = _quantized("gpt2")
    assert "transformer.h.0.attn.c_attn" in plan.converted
    attention = model.get_submodule("transformer.h.0.attn.c_attn")  # [in 32, out 96] as stored by GPT-2
    assert attention.weight_data.shape == (96, 32) and attention.weight_scale.shape == (96, 1)


@pytest.mark.parametrize("name", ["llama", "gpt2", "t5", "bert-masked", "blip"])
def test_tied_weights_are_still_one_tensor(name: str) -> None:
    model, _ = _quantized(name)
    parts = [part for part in model.modules() if hasattr(part, "get_output_embeddings")]
    pairs = [
        (part.get_input_embeddings(), head) for part in parts if (head := part.get_output_embeddings()) is not None
    ]
    assert pairs and all(head.weight is embeddings.weight for embeddings, head in pairs)


class Mixed(nn.Module):
    """A little of everything."""

    def __init__(self) -> None:
        super().__init__()
        self.plain = nn.Linear(4, 6)
        self.twin = nn.Linear(4, 6)
        self.twin.weight = self.plain.weight
        self.tied = nn.Linear(3, 5, bias=False)
        self.look_up = nn.Embedding(5, 3)
        self.tied.weight = self.look_up.weight
        self.convolution = nn.Conv2d(1, 2, 3)
        self.upwards = nn.ConvTranspose2d(2, 1, 3)
        self.attention = nn.MultiheadAttention(8, 2)
        self.normed = nn.utils.parametrizations.weight_norm(nn.Linear(4, 4))
        self.norm = nn.LayerNorm(4)
        self.experts = nn.Parameter(torch.randn(2, 4, 4))


def test_plan_says_of_every_weight_what_becomes_of_it() -> None:
    found = plan_conversion(Mixed())
    assert found.converted == ("plain", "twin", "convolution", "attention.out_proj")
    assert [len(group) for group in found.groups] == [2, 1, 1], "one parameter of two modules is one group"
    why = {row.name: (row.kind, row.why) for row in found.left}
    assert why == {
        "(the model itself)": ("Mixed", "no Linear layer: it uses its own experts [2, 4, 4] directly"),
        "tied": ("Linear", "shares its weight with look_up"),
        "look_up": ("Embedding", "an embedding: a look-up, not a multiplication (converted when asked for)"),
        "upwards": ("ConvTranspose2d", "a transposed convolution: its output channels are not its rows"),
        "attention": ("MultiheadAttention", "no Linear layer: it uses its own in_proj_weight [24, 8] directly"),
        "normed.parametrizations.weight": (
            "ParametrizationList",
            "no Linear layer: it uses its own original0 [4, 1] directly",
        ),
    }


def test_what_cannot_have_its_activations_quantized_is_left_by_rows_that_do() -> None:
    found = plan_conversion(Mixed(), product=True)
    assert found.converted == ("plain", "twin")
    why = {row.name: row.why for row in found.left}
    assert why["convolution"] == "a convolution: its activations are not quantised"
    assert "its parent multiplies" in why["attention.out_proj"]


@pytest.mark.parametrize("name", [name for name in CASES if name != "resnet-encoder"])
def test_every_layer_with_quantized_activations_is_really_called(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A layer whose weight somebody else multiplies by would run with its activations as they are, and nobody knew."""
    called: set[int] = set()

    def watched(row: Precision) -> Callable[..., Any]:
        def product(x: Any, quantizer: Any, stored: Any, shape: Any, bias: Any) -> Any:
            called.add(stored["data"].data_ptr())
            return nn.functional.linear(x, quantizer.dequantize(stored, shape, x.dtype), bias)

        return product

    monkeypatch.setattr(conversion, "product_of", watched)
    model, found = _quantized(name, PRECISIONS["int8_dynamic"])
    independent.run(model, batches_of(name)[:1])
    assert found.converted
    never = [part for part in found.converted if model.get_submodule(part).weight_data.data_ptr() not in called]
    assert not never


def test_mamba_multiplies_by_one_weight_itself() -> None:
    """``dt_proj`` is never called, so its activations would silently stay as they are."""
    _, found = _quantized("mamba", PRECISIONS["int8_dynamic"])
    assert {name.rpartition(".")[2] for name in found.converted} == {"in_proj", "x_proj", "out_proj"}
    why = {row.name.rpartition(".")[2]: row.why for row in found.left}
    assert "its parent multiplies with its weight itself" in why["dt_proj"]
    assert any(name.endswith("dt_proj") for name in _quantized("mamba")[1].converted), "weights alone are in reach"


@pytest.mark.parametrize("also", [("head",), ("embeddings",), ("head", "embeddings")])
@pytest.mark.parametrize("row", ["int8", "int4_asym", "nvfp4"])
@pytest.mark.parametrize("name", ["llama", "gpt2", "t5", "bert-masked"])
def test_tied_weights_are_quantized_once_and_stay_tied(name: str, row: str, also: tuple[str, ...]) -> None:
    model, plan = _quantized(name, PRECISIONS[row], also)
    heads = [part.get_output_embeddings() for part in model.modules() if hasattr(part, "get_output_embeddings")]
    embeddings = model.get_input_embeddings()
    head = next(found for found in heads if found is not None)
    assert head.weight_data is embeddings.weight_data and head.weight_scale is embeddings.weight_scale
    assert torch.equal(head.weight, embeddings.weight)
    rows = {found.name: found for found in footprint.stored(model).tensors}
    shared = [found for found in rows.values() if found.shared_with and found.kind != "buffer"]
    assert shared and all(found.bytes == 0 for found in shared)
    # The asked embeddings of positions too, where there are any, and only where embeddings were asked for.
    positions = [name for name in plan.converted if "position" in name or name.endswith("wpe")]
    assert bool(positions) == (name in ("gpt2", "bert-masked") and "embeddings" in also)


def test_untied_head_and_embeddings_are_separate_choices() -> None:
    for also, wanted in {
        ("head",): {"lm_head"},
        ("embeddings",): {"model.embed_tokens"},
        (): set(),
    }.items():
        _, plan = _quantized("llama-untied", INT8, also)
        assert {name for name in plan.converted if "layers" not in name} == wanted


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused_by_name(value: float) -> None:
    model: Any = checkpoints.build(checkpoints.CHECKPOINTS["llama"])
    model.get_submodule("model.layers.1.mlp.up_proj").weight.data[3, 4] = value
    with pytest.raises(CorruptCheckpoint, match=r"1 of the 1,536 values of model.layers.1.mlp.up_proj.weight"):
        quantize_model(model, INT8)


def test_clipped_weights_are_counted_by_name() -> None:
    """MXFP4's largest value is 6 powers of two; 7.9 of them must be clipped, 6.9 rounds to 6 as 5.9 does."""
    model: Any = nn.Sequential(nn.Linear(32, 2, bias=False), nn.Linear(2, 2, bias=False))
    model[0].weight.data.fill_(1.0)
    model[0].weight.data[0, :3] = torch.tensor([7.9, -7.9, 6.9])
    model[1].weight.data.fill_(1.0)
    assert quantize_model(copy.deepcopy(model), PRECISIONS["mxfp4"]).saturated == {"0.weight": 2}
    assert quantize_model(model, PRECISIONS["int4"]).saturated == {}


def test_gpt_oss_stacks_its_experts_the_other_way_round() -> None:
    """[experts, in, out]: groups of 32 must lie along the inputs."""
    config = transformers.GptOssConfig(
        vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, num_local_experts=2, num_experts_per_tok=1,
    )  # fmt: skip
    model: Any = checkpoints.build(checkpoints.Tiny("GptOssForCausalLM", lambda: config))
    experts = model.get_submodule("model.layers.0.mlp.experts")
    before = experts.down_proj.detach().clone()  # [2, 64, 32]
    plan = quantize_model(model, PRECISIONS["int4"]).plan
    assert "model.layers.0.mlp.experts" in plan.converted
    assert experts.down_proj_scale.shape == (2 * 32, 64 // 32)
    quantizer = quantizer_of(PRECISIONS["int4"])
    assert quantizer is not None
    for expert in range(2):
        matrix = before[expert].T.contiguous()
        wanted = quantizer.dequantize(quantizer.quantize(matrix), (32, 64), torch.float32).T
        assert torch.equal(experts.down_proj[expert], wanted)
    ids = torch.arange(12)[None]
    assert model(input_ids=ids).logits.isfinite().all()


def test_a_weight_that_its_parent_reads_is_dequantized_there_too() -> None:
    """torch's attention multiplies with ``out_proj.weight`` itself, without calling ``out_proj``."""
    torch.manual_seed(0)
    model = nn.ModuleDict({"attention": nn.MultiheadAttention(8, 2)}).eval().requires_grad_(False)
    states = torch.randn(5, 1, 8)
    before, _ = model["attention"](states, states, states)
    plan = quantize_model(model, INT8)
    assert plan.plan.converted == ("attention.out_proj",)
    after, _ = model["attention"](states, states, states)
    assert 0 < (after - before).abs().max() < 0.02


def test_a_model_with_nothing_to_convert_is_refused_and_left_alone() -> None:
    model = nn.Sequential(nn.Embedding(4, 2), nn.BatchNorm2d(2))
    with pytest.raises(NothingConverted, match=r"in Sequential: .* Embedding"):
        quantize_model(model, INT8)
    assert isinstance(model[0].weight, nn.Parameter)


def test_a_heads_weights_stay_where_only_a_part_of_the_model_knows_it() -> None:
    """BLIP's decoder, untied: the whole model names no output head, its text decoder does."""
    tiny = checkpoints.CHECKPOINTS["blip"]
    config = tiny.config()
    config.tie_word_embeddings = config.text_config.tie_word_embeddings = False
    model = checkpoints.build(checkpoints.Tiny(tiny.architecture, lambda: config))
    head = "text_decoder.cls.predictions.decoder"
    assert model.get_submodule(head).weight is not model.get_input_embeddings().weight
    left = {row.name: row.why for row in plan_conversion(model).left}
    assert left[head].startswith("the output head")


def test_a_cast_has_no_quantizer_and_a_row_names_its_own() -> None:
    assert all((quantizer_of(row) is None) == (row.quantizer is None) for row in PRECISIONS.values())
    assert all(row.quantizer is None for row in PRECISIONS.values() if row.family == CAST)
    assert quantizer_of(INT8) is INT8_PER_CHANNEL


def test_activations_are_quantized_where_the_row_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every converted layer multiplies by the row's product, with what is stored."""
    seen: list[tuple[int, ...]] = []

    def watched(row: Precision) -> Callable[..., Any]:
        def product(x: Any, quantizer: Any, stored: Any, shape: Any, bias: Any) -> Any:
            seen.append(shape)
            return nn.functional.linear(x, quantizer.dequantize(stored, shape, x.dtype), bias)

        return product

    plain, _ = _quantized("gpt2")
    monkeypatch.setattr(conversion, "product_of", watched)
    model, plan = _quantized("gpt2", PRECISIONS["int8_dynamic"])
    inputs = batches_of("gpt2")[:1]
    ours, theirs = independent.run(model, inputs), independent.run(plain, inputs)
    assert len(seen) == len(plan.converted) == 8 and (96, 32) in seen
    np.testing.assert_allclose(ours.values, theirs.values, atol=1e-5)


@pytest.mark.parametrize("row", ["int8_dynamic", "int4_dynamic", "fp8_dynamic"])
@pytest.mark.parametrize("name", ["llama", "gpt2", "falcon", "t5", "vit-classifier"])
def test_quantized_activations_differ_from_weights_alone_but_not_by_much(name: str, row: str) -> None:
    found = PRECISIONS[row]
    weights_only = next(
        other for other in PRECISIONS.values() if other.quantizer == found.quantizer and other.weights_only
    )
    (model, _), (plain, _) = _quantized(name, found), _quantized(name, weights_only)
    inputs = batches_of(name)[:1]
    ours, theirs = independent.run(model, inputs).values, independent.run(plain, inputs).values
    noise = np.square(ours - theirs).sum() / np.square(theirs).sum()
    assert 0 < noise < 0.2, noise
