"""Mixes of precisions in one walk give what whole models give whose modules were swapped one by one."""

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from qfund.models import loading, meta
from qfund.precisions.quantizers.plan import plan_of
from qfund.precisions.quantizers.quantizer import quantizer_of
from qfund.precisions.table import PRECISIONS
from qfund.stream.mixed import Mix, Mixed
from qfund.stream.streamed import Streamed
from qfund.stream.walker import Way
from tests.stream.test_stream import opened

FP32, INT4, BF16 = PRECISIONS["fp32"], PRECISIONS["int4"], PRECISIONS["bf16"]
MODELS = ("llama", "gpt2", "t5", "mixtral")


class Heard:
    """Logits by mix, batch by batch; the reference's comes with each few mixes."""

    def __init__(self) -> None:
        self.logits: dict[str, list[Tensor]] = {}

    def block(self, name: str, way: Way, batch: int, hidden: Tensor) -> None: ...

    def tile(self, batch: int, start: int, vocabulary: int, logits: Mapping[str, Any]) -> None:
        raise AssertionError("mixes come whole")

    def output(self, batch: int, outputs: Mapping[str, Any]) -> None:
        for name, output in outputs.items():
            held = self.logits.setdefault(name, [])
            if len(held) == batch:
                held.append(output.logits)
            assert torch.equal(held[batch], output.logits)


def quantized_modules(name: str) -> list[str]:
    model = meta.build(opened(name)[0], torch.float32)
    return list(plan_of(model, INT4).converted)


@pytest.mark.parametrize("name", MODELS)
def test_mixes_are_what_whole_models_with_these_modules_are(name: str) -> None:
    """Nothing swapped is the reference, bit for bit; everything swapped the precision; one module a plain model in
    which that module's weight was replaced by hand."""
    found, batches = opened(name)
    modules = quantized_modules(name)
    alone = next(module for module in reversed(modules) if "expert" not in module)
    mixes = [Mix("none"), Mix("all", dict.fromkeys(modules, "int4")), Mix("one", {alone: "int4"})]
    heard = Heard()
    Mixed(found, Way("reference", FP32), [INT4], mixes).run(batches, heard)
    plain = _Streams()
    Streamed(found, [Way("reference", FP32), Way("int4", INT4)], tiles=False).run(batches, plain)
    model = loading.load(found, FP32).model
    weight = model.get_submodule(alone).weight
    matrix = weight.detach().T if type(model.get_submodule(alone)).__name__ == "Conv1D" else weight.detach()
    quantizer = quantizer_of(INT4)
    assert quantizer is not None
    rounded = quantizer.dequantize(quantizer.quantize(matrix), tuple(matrix.shape), torch.float32)
    with torch.no_grad():
        weight.copy_(rounded.T if matrix is not weight.detach() and weight.shape != matrix.shape else rounded)
    for batch, given in enumerate(batches):
        assert torch.equal(heard.logits["none"][batch], plain.logits["reference"][batch])
        assert torch.equal(heard.logits["reference"][batch], plain.logits["reference"][batch])
        assert torch.equal(heard.logits["all"][batch], plain.logits["int4"][batch])
        with torch.inference_mode():
            expected = model(**given).logits
        assert not torch.equal(heard.logits["one"][batch], heard.logits["none"][batch])
        torch.testing.assert_close(heard.logits["one"][batch], expected, rtol=0, atol=1e-5)


class _Streams(Heard):
    def output(self, batch: int, outputs: Mapping[str, Any]) -> None:
        for name, output in outputs.items():
            self.logits.setdefault(name, []).append(output.logits)


def test_a_module_of_another_base_is_given_and_gives_that_dtype() -> None:
    found, batches = opened("llama")
    module = quantized_modules("llama")[0]
    heard = Heard()
    Mixed(found, Way("reference", FP32), [BF16], [Mix("cast", {module: "bf16"})]).run(batches, heard)
    model = loading.load(found, FP32).model
    layer = model.get_submodule(module)
    own, bias = layer.weight.bfloat16(), None if layer.bias is None else layer.bias.bfloat16()
    layer.forward = lambda x: torch.nn.functional.linear(x.bfloat16(), own, bias).float()
    for batch, given in enumerate(batches):
        with torch.inference_mode():
            torch.testing.assert_close(heard.logits["cast"][batch], model(**given).logits, rtol=0, atol=1e-5)


def test_until_they_differ_mixes_take_the_reference_s_hidden_states(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of L blocks swapped one by one, the reference's L forwards and L(L + 1)/2 others are run."""
    from transformers.models.llama.modeling_llama import LlamaMLP

    found, batches = opened("llama")
    modules = quantized_modules("llama")
    blocks: dict[str, list[str]] = {}
    for module in modules:
        blocks.setdefault(".".join(module.split(".")[:3]), []).append(module)
    counted, forward = [], LlamaMLP.forward

    def counting(self: Any, x: Tensor) -> Tensor:
        counted.append(1)
        found: Tensor = forward(self, x)  # type: ignore[no-untyped-call]
        return found

    monkeypatch.setattr(LlamaMLP, "forward", counting)
    mixes = [Mix(block, dict.fromkeys(inside, "int4")) for block, inside in blocks.items()]
    Mixed(found, Way("reference", FP32), [INT4], mixes).run(batches, Heard())
    count = len(blocks)
    assert count > 1
    assert len(counted) == len(batches) * (count + count * (count + 1) // 2)


def test_a_head_that_is_a_part_of_its_own_can_be_swapped() -> None:
    """Read and run apart from all blocks, it is the module before which forwards wait."""
    found, batches = opened("llama-untied")
    heard, plain = Heard(), _Streams()
    modules = quantized_modules("llama-untied")
    mixes = [Mix("head", {"lm_head": "int4"}), Mix("all", dict.fromkeys([*modules, "lm_head"], "int4"))]
    Mixed(found, Way("reference", FP32), [INT4], mixes, also=["head"]).run(batches, heard)
    Streamed(found, [Way("reference", FP32), Way("int4", INT4)], ["head"], tiles=False).run(batches, plain)
    model = loading.load(found, FP32).model
    quantizer = quantizer_of(INT4)
    assert quantizer is not None
    weight = model.lm_head.weight
    with torch.no_grad():
        weight.copy_(quantizer.dequantize(quantizer.quantize(weight), tuple(weight.shape), torch.float32))
    for batch, given in enumerate(batches):
        assert torch.equal(heard.logits["all"][batch], plain.logits["int4"][batch])
        with torch.inference_mode():
            torch.testing.assert_close(heard.logits["head"][batch], model(**given).logits, rtol=0, atol=1e-5)
