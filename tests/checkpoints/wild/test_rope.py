"""Factors of rotary frequencies beside those that transformers computes, and what is said of files that differ."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from qfund.checkpoints.wild import rope
from qfund.checkpoints.wild.packed_tensor import PackedTensor
from qfund.checkpoints.wild.quantized_file import QuantizedFile
from tests.tiny.checkpoints import folder

LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 512,
}
CONFIG = {"hidden_size": 256, "num_attention_heads": 4, "rope_theta": 10000.0, "max_position_embeddings": 4096}
LONG = {"rope_type": "longrope", "long_factor": [1.0, 2.0], "short_factor": [1.0, 1.5]}


def file(tensors: dict[str, list[float]], **facts: Any) -> QuantizedFile:
    made = {
        name: PackedTensor(name, (len(values),), "F32", 4 * len(values), _decode(values), quantized=False)
        for name, values in tensors.items()
    }
    return QuantizedFile(folder("llama") / "x.gguf", "gguf", "GGUF", made, 1, "id", facts=facts)


def _decode(values: list[float]) -> Any:
    return lambda start, stop: np.array(values, np.float32)[start:stop]


def test_factors_are_what_transformers_divides_frequencies_by() -> None:
    (found,) = rope.factors(CONFIG | {"rope_scaling": LLAMA3}).values()
    config = LlamaConfig(**CONFIG, rope_parameters=LLAMA3 | {"rope_theta": 10000.0})  # type: ignore[arg-type]
    scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](config, torch.device("cpu"))
    plain = 1 / 10000.0 ** (torch.arange(0, 64, 2).double() / 64)
    assert found == pytest.approx((plain / scaled.double()).tolist(), rel=1e-6)
    assert found[0] == 1 and found[-1] == pytest.approx(8)
    assert rope.factors(CONFIG) == {} == rope.factors({"rope_scaling": LLAMA3})
    assert set(rope.factors({"rope_parameters": LONG})) == {"rope_factors_long.weight", "rope_factors_short.weight"}


def test_what_differs_is_said() -> None:
    scaled = CONFIG | {"rope_scaling": LLAMA3}
    expected = rope.factors(scaled)
    assert list(rope.notes(scaled, file(expected))) == [] == list(rope.notes(CONFIG, file({})))
    assert "lacks the factors" in next(rope.notes(scaled, file({})))
    assert "the original asks for none" in next(rope.notes(CONFIG, file(expected)))
    others = {name: [1.01 * value for value in values] for name, values in expected.items()}
    assert "others than" in next(rope.notes(scaled, file(others)))
    assert "others than" in next(rope.notes(scaled, file({name: values[1:] for name, values in expected.items()})))
    linear = CONFIG | {"rope_parameters": {"full_attention": {"rope_type": "linear", "factor": 8.0}}}
    assert list(rope.notes(linear, file({}, rope_type="linear", rope_factor=8.0))) == []
    assert "4 times" in next(rope.notes(linear, file({}, rope_type="linear", rope_factor=4.0)))
    assert "the method none, the original by linear" in next(rope.notes(linear, file({})))
    assert "the method yarn" in next(rope.notes(CONFIG, file({}, rope_type="yarn", rope_factor=4.0)))
    assert list(rope.notes(scaled, replace(file({}), format="mlx"))) == []


@pytest.mark.parametrize("value", [None, "x", -1, 0, float("nan"), True, [1], {}])
@pytest.mark.parametrize("name", [*LLAMA3, "rope_theta", "head_dim", "rope_scaling"])
def test_odd_configs_raise_nothing(name: str, value: Any) -> None:
    config = CONFIG | {"rope_scaling": LLAMA3}
    changed = (
        config | {name: value}
        if name in ("rope_theta", "head_dim", "rope_scaling")
        else config | {"rope_scaling": LLAMA3 | {name: value}}
    )
    list(rope.notes(changed, file({"rope_freqs.weight": [1.0]}, rope_type=value, rope_factor=value)))
