"""Inputs rounded block by block, beside integer products worked out in double precision."""

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType, quants

from qfund.checkpoints import checkpoint
from qfund.models.loading import load
from qfund.precisions.quantizers.ggml.blocks import Blocks
from qfund.precisions.quantizers.ggml.inputs import q8_0, q8_k, rounded_inputs
from qfund.precisions.table import PRECISIONS
from tests import independent
from tests.features.compare.test_architectures import batches_of
from tests.tiny import checkpoints


def test_blocks_of_32_have_a_scale_in_half_precision() -> None:
    x = torch.randn(4, 32, generator=torch.Generator().manual_seed(3))
    x[1] = 0
    codes = (x.double() * 127 / x.double().abs().amax(1, keepdim=True)).nan_to_num().round()
    scale = (x.abs().amax(1, keepdim=True) / 127).half().double()
    assert torch.equal(q8_0(x).double(), (codes * scale).float().double())
    # The package's own, of weights, rounds halves away from zero, which no value here is.
    theirs = quants.dequantize(quants.quantize(x.numpy(), GGMLQuantizationType.Q8_0), GGMLQuantizationType.Q8_0)
    assert np.array_equal(q8_0(x).numpy(), theirs)


def test_blocks_of_256_have_a_scale_in_single_precision() -> None:
    x = torch.randn(3, 256, generator=torch.Generator().manual_seed(3))
    x[2] = 0
    found = q8_k(x)
    assert torch.equal(found[2], x[2]) and (found.abs().amax(1) - x.abs().amax(1)).abs().max() < 1e-6
    steps = found[:2] / (x[:2].abs().amax(1, keepdim=True) / 127)
    assert (steps - steps.round()).abs().max() < 1e-4
    assert ((found - x)[:2].abs() <= x[:2].abs().amax(1, keepdim=True) / 254 * 1.0001).all()


def test_what_is_not_finite_stays_so() -> None:
    for bad in (torch.nan, torch.inf):
        x = torch.ones(2, 256)
        x[0, 5] = bad
        for found in (q8_k(x), q8_0(x.view(2, 8, 32))[:, 0]):
            assert not found[0].isfinite().any() and found[1].isfinite().all()


@pytest.mark.parametrize("name", ["Q8_0", "Q5_1", "Q4_1", "Q4_K", "IQ4_XS", "F16"])
def test_a_product_is_that_of_rounded_inputs(name: str) -> None:
    generator = torch.Generator().manual_seed(1)
    weight, x = torch.randn(6, 512, generator=generator), torch.randn(2, 3, 512, generator=generator)
    bias = torch.randn(6, generator=generator)
    kind = Blocks(name)
    stored = kind.quantize(weight)
    decoded = kind.dequantize(stored, (6, 512), torch.float32).double()
    seen = x.half() if name == "F16" else (q8_k if kind.size == 256 else q8_0)(x.unflatten(-1, (-1, kind.size)))
    expected = seen.reshape(x.shape).double() @ decoded.T + bias.double()
    found = rounded_inputs(x, kind, stored, (6, 512), bias)
    if name in ("Q5_1", "Q4_1"):  # a minimum times the sum of a block, in half precision
        minima = stored["data"].view(6, 16, -1)[..., 2:4].contiguous().view(torch.float16)[..., 0].double()
        sums = seen.sum(-1)
        expected += (sums.half().double() - sums.double()) @ minima.T
    assert found.shape == (2, 3, 6) and (found.double() - expected).abs().max() < 2e-4


@pytest.mark.parametrize("row", ["q4_k", "q8_0", "iq4_nl"])
@pytest.mark.parametrize("name", ["llama", "gpt2", "mixtral"])
def test_a_model_runs_with_the_weights_that_the_package_decodes(name: str, row: str) -> None:
    found = checkpoint.read(checkpoints.folder(name))
    loaded = load(found, PRECISIONS[row])
    plain = independent.load(checkpoints.folder(name), torch.float32)
    changed = 0
    for place, parameter in plain.named_parameters():
        owner, _, key = place.rpartition(".")
        module = loaded.model.get_submodule(owner)
        if hasattr(module, f"{key}_data"):
            other = getattr(module, key).detach()
            assert 0 < (other - parameter).abs().max() < 0.5 * parameter.abs().max()
            parameter.data = other.clone()
            changed += 1
    assert changed and all(not kept.name.endswith("norm") or kept for kept in loaded.left)
    inputs = batches_of(name)[:1]
    assert np.array_equal(independent.run(loaded.model, inputs).values, independent.run(plain, inputs).values)
    run = load(found, PRECISIONS[f"{row}_inputs"]).model
    off = independent.run(run, inputs).values - independent.run(plain, inputs).values
    assert 0 < np.median(np.abs(off)) < 0.1  # some tokens of a mixture take another expert
