"""What rounding does to a module's own output, beside plain transformers in double precision."""

import math
from typing import Any

import pytest
import torch

from qfund.checkpoints import checkpoint
from qfund.core.errors import InvalidSpec, UnavailablePrecision, UnknownName
from qfund.features.layers import tables, words
from qfund.features.layers.measure.injected import layers
from qfund.features.layers.request.asked import Asked, checked
from qfund.features.layers.request.modules import Layers, LayersRequest, worst
from qfund.models import loading
from qfund.precisions.quantizers.quantizer import quantizer_of
from qfund.precisions.table import PRECISIONS
from tests.tiny import checkpoints

PRECISIONS_ = ("bf16", "int8", "int4", "int8_dynamic")


@pytest.fixture(scope="module")
def found() -> Layers:
    return layers(LayersRequest(str(checkpoints.folder("llama")), PRECISIONS_, text=checkpoints.TEXT, context=64))


def test_errors_are_those_of_the_module_s_own_inputs(found: Layers) -> None:
    """The inputs that plain transformers gives a module, multiplied in double precision."""
    from qfund.checkpoints import catalog
    from qfund.models import inputs, tasks

    folder = checkpoints.folder("llama")
    opened = checkpoint.read(folder)
    prepared = inputs.prepare(found.request, catalog.locate(str(folder)), opened, tasks.task_of(opened))
    model = loading.load(opened, PRECISIONS["fp32"]).model
    name = next(row.name for row in found.modules if row.kind == "down_proj")
    given: list[torch.Tensor] = []
    model.get_submodule(name).register_forward_pre_hook(lambda module, args: given.append(args[0].double()))
    with torch.inference_mode():
        for batch in prepared.batches:
            model(**batch.arguments)
    x = torch.cat([part.flatten(0, -2) for part in given])
    weight = model.get_submodule(name).weight.detach()
    quantizer = quantizer_of(PRECISIONS["int4"])
    assert quantizer is not None
    rounded = quantizer.dequantize(quantizer.quantize(weight), tuple(weight.shape), torch.float32)
    y, other = x @ weight.double().T, x @ rounded.double().T
    row = next(row for row in found.modules if row.name == name)
    error = row.injected["int4"]
    assert error.relative_l2 == pytest.approx(float((other - y).norm() / y.norm()), rel=1e-5)
    assert error.sqnr == pytest.approx(20 * math.log10(float(y.norm() / (other - y).norm())), abs=1e-4)
    assert error.cosine == pytest.approx(float((y * other).sum() / (y.norm() * other.norm())), abs=1e-9)
    assert row.inputs is not None
    assert row.inputs.rms == pytest.approx(float(x.square().mean().sqrt()), rel=1e-5)
    assert row.channels[0].largest == pytest.approx(float(x.abs().max()), rel=1e-6)
    assert row.channels[0].index == int(x.abs().amax(0).argmax())
    assert row.weights.rms == pytest.approx(float(weight.double().square().mean().sqrt()), rel=1e-6)
    assert row.weights.largest == row.group.largest == float(weight.abs().max())
    assert weight[row.group.row, row.group.start : row.group.start + 32].abs().max() == weight.abs().max()
    assert sum(row.weights.spread.counts) + row.weights.spread.zeros == weight.numel()


def test_every_module_is_there_in_every_precision(found: Layers) -> None:
    assert [row.name for row in found.modules] == sorted(
        {row.name for row in found.modules}, key=[row.name for row in found.modules].index
    )
    for row in found.modules:
        assert set(row.injected) == set(PRECISIONS_)
        # Fewer bits: larger errors, fewer bytes; rounding inputs too adds to that of weights.
        errors = {name: row.injected[name].relative_l2 for name in PRECISIONS_}
        assert 0 < errors["bf16"] < errors["int8"] < errors["int4"]
        assert errors["int8"] < errors["int8_dynamic"]
        sizes = {name: row.injected[name].bytes for name in PRECISIONS_}
        assert sizes["int4"] < sizes["int8"] < sizes["bf16"] < row.bytes == 4 * row.parameters
    assert {row.block for row in found.modules} == {0, 1}
    assert len(tables.injected(found)) == len(found.modules) * len(PRECISIONS_)


def test_streamed_and_whole_models_agree(found: Layers, monkeypatch: pytest.MonkeyPatch) -> None:
    from qfund.features.layers.measure import injected
    from qfund.stream.walker import NotStreamable

    def refuse(*_: Any, **__: Any) -> Any:
        raise NotStreamable("of a test")

    monkeypatch.setattr(injected, "Mixed", refuse)
    whole = layers(found.request)
    assert whole.whole == "of a test"
    assert [(row.name, row.shape, row.bytes) for row in whole.modules] == [
        (row.name, row.shape, row.bytes) for row in found.modules
    ]
    for one, other in zip(whole.modules, found.modules, strict=True):
        assert one.channels == other.channels and one.weights == other.weights
        for name in PRECISIONS_:
            assert one.injected[name].bytes == other.injected[name].bytes
            assert one.injected[name].relative_l2 == pytest.approx(other.injected[name].relative_l2, rel=1e-6)


@pytest.mark.parametrize("name", ["gpt2", "mixtral", "bert-encoder", "vit-classifier"])
def test_other_architectures(name: str) -> None:
    """Conv1D, stacked experts, encoders, pictures."""
    folder = str(checkpoints.folder(name))
    text = None if name == "vit-classifier" else checkpoints.TEXT[:200]
    result = layers(LayersRequest(folder, ("int8", "int4"), text=text, max_tokens=64))
    assert result.modules
    for row in result.modules:
        assert 0 < row.injected["int8"].relative_l2 < row.injected["int4"].relative_l2 < 1, row.name
    if name == "mixtral":
        assert any("experts" in row.name for row in result.modules)


def test_more_precision_changes_next_to_nothing() -> None:
    result = layers(
        LayersRequest(str(checkpoints.folder("llama")), ("fp64", "bf16"), "fp32", text=checkpoints.TEXT[:99])
    )
    doubled = [row.injected["fp64"].relative_l2 for row in result.modules]
    assert max(doubled) < 1e-6


def test_sentences(found: Layers) -> None:
    sentence = words.injected_headline(found, "int4")
    assert worst(found, "int4", 1)[0].name in sentence and sentence.startswith("INT4")
    assert "median" in words.module_sentence(found.modules[0])


@pytest.mark.parametrize(
    ("request_", "error", "said"),
    [
        (Asked("dummy", ("int99",)), UnknownName, "int99"),
        (Asked("dummy", ("stored",)), UnavailablePrecision, "one by one"),
        (Asked("dummy", ("fp32",)), InvalidSpec, "reference itself"),
        (Asked("dummy", ("int8",), "int4"), InvalidSpec, "quantised itself"),
        (Asked("dummy", ("int8",), max_tokens=1), InvalidSpec, "max_tokens"),
        (Asked(" ", ("int8",)), InvalidSpec, "No model"),
    ],
)
def test_what_cannot_be_asked(request_: Asked, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        checked(request_)
