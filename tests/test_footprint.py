"""Bytes: what is stored, what was foretold, and what transformers and plain arithmetic say of the same models."""

import math
from typing import Any

import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from qfund import checkpoint, footprint
from qfund.loading import load
from qfund.precisions import PRECISIONS
from tests import checkpoints, independent
from tests.test_architectures import ALL, CASES, CASTS, NOTHING_TO_CONVERT, measured

NAMES = list(CASES)
PAIRS = [(name, precision) for name in NAMES for precision in (CASTS if name in NOTHING_TO_CONVERT else ALL)]


def _result(name: str, precision: str) -> Any:
    return next(result for result in measured(name).results if result.precision == precision)


@pytest.mark.parametrize(("name", "precision"), PAIRS)
def test_prediction_is_exact(name: str, precision: str) -> None:
    """Row by row: names, shapes, dtypes, bytes, ties; in the order of the model."""
    result = _result(name, precision)
    foretold = footprint.predict(checkpoint.read(checkpoints.folder(name)), PRECISIONS[precision])
    assert result.predicted_bytes == result.footprint_bytes == foretold.bytes

    def key(row: Any) -> tuple[str, str]:
        return row.name, row.kind

    assert sorted(foretold.tensors, key=key) == sorted(result.tensors, key=key)


@pytest.mark.parametrize(("name", "precision"), [pair for pair in PAIRS if pair[1] in CASTS])
def test_a_cast_takes_what_transformers_counts(name: str, precision: str) -> None:
    plain = independent.load(checkpoints.folder(name), independent.DTYPES[precision])
    result = _result(name, precision)
    assert result.footprint_bytes == result.transformers_bytes == plain.get_memory_footprint()
    assert sum(share.parameters for share in result.dtypes.values()) == plain.num_parameters()


@pytest.mark.parametrize("name", [name for name in NAMES if name not in NOTHING_TO_CONVERT])
def test_int8_takes_one_byte_a_weight_and_four_a_row(name: str) -> None:
    plain = independent.load(checkpoints.folder(name), torch.float32)
    expected = plain.get_memory_footprint()
    scales = 0
    for module_name, module in plain.named_modules():
        if isinstance(module, nn.Linear | Conv1D) and module_name not in CASES[name].left:
            rows = module.weight.shape[1 if isinstance(module, Conv1D) else 0]
            expected += module.weight.numel() * (1 - 4) + rows * 4
            scales += rows * 4
    result = _result(name, "int8")
    assert result.footprint_bytes == expected
    assert result.parts["scales"] == scales
    assert result.footprint_bytes < _result(name, "fp32").footprint_bytes
    assert sum(share.parameters for share in result.dtypes.values()) == plain.num_parameters()


@pytest.mark.parametrize(("name", "precision"), PAIRS)
def test_rows_sum_to_every_total(name: str, precision: str) -> None:
    result = _result(name, precision)
    assert sum(row.bytes for row in result.tensors) == result.footprint_bytes
    assert sum(result.parts.values()) == result.footprint_bytes
    assert sum(share.bytes for share in result.dtypes.values()) == result.footprint_bytes
    sizes = {"float32": 4, "bfloat16": 2, "float16": 2, "int8": 1, "int64": 8}
    by_name = {row.name: row for row in result.tensors}
    assert len(by_name) == len(result.tensors)
    for row in result.tensors:
        owner = row if row.shared_with is None else by_name[row.shared_with]
        assert (owner.shape, owner.dtype, owner.shared_with) == (row.shape, row.dtype, None)
        assert row.bytes == (math.prod(row.shape) * sizes[row.dtype] if owner is row else 0)


@pytest.mark.parametrize(
    ("name", "tied"),
    [
        ("llama", {"lm_head.weight": "model.embed_tokens.weight"}),
        ("llama-untied", {}),
        ("gpt2", {"lm_head.weight": "transformer.wte.weight"}),
        (
            "t5",
            {
                "encoder.embed_tokens.weight": "shared.weight",
                "decoder.embed_tokens.weight": "shared.weight",
                "lm_head.weight": "shared.weight",
            },
        ),
        (
            "bert-masked",
            {
                "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
                "cls.predictions.decoder.bias": "cls.predictions.bias",
            },
        ),
    ],
)
@pytest.mark.parametrize("precision", ALL)
def test_tied_weights_stay_tied_and_count_once(name: str, tied: dict[str, str], precision: str) -> None:
    shared = {row.name: row.shared_with for row in _result(name, precision).tensors if row.shared_with}
    assert shared == tied


def test_t5_keeps_one_matrix_of_each_block_in_fp32() -> None:
    wo = sum(row.bytes for row in _result("t5", "fp32").tensors if row.name.endswith(".wo.weight"))
    assert wo == 4 * (2 + 2) * 48 * 32
    fp16, bf16 = _result("t5", "fp16"), _result("t5", "bf16")
    assert fp16.dtypes["float32"].bytes == wo
    assert fp16.footprint_bytes == bf16.footprint_bytes + wo // 2
    assert bf16.dtypes.keys() == {"bfloat16"}


def test_buffers_do_not_shrink_where_they_are_integers() -> None:
    fp32, bf16 = (_result("bert-encoder", precision) for precision in ("fp32", "bf16"))
    assert bf16.parts["buffers"] == fp32.parts["buffers"] == bf16.dtypes["int64"].bytes > 0
    assert bf16.parts["weights"] * 2 == fp32.parts["weights"]


class Shared(nn.Module):
    """Two names for one weight, parameters and buffers of the root itself, and empty ones."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(3))
        self.first = nn.Linear(4, 5, bias=False)
        self.second = nn.Linear(4, 5, bias=False)
        self.second.weight = self.first.weight
        self.register_buffer("steps", torch.zeros(2, dtype=torch.int64))
        self.register_buffer("unsaved", torch.zeros(7, dtype=torch.bfloat16), persistent=False)
        self.register_parameter("empty", nn.Parameter(torch.empty(0)))
        self.register_parameter("nothing", nn.Parameter(torch.empty(0, 3)))


def test_stored_bytes_by_hand() -> None:
    found = footprint.stored(Shared())
    sizes = {row.name: (row.bytes, row.kind, row.shared_with) for row in found.tensors}
    assert sizes == {
        "scale": (12, "weight", None),
        "empty": (0, "weight", None),
        "nothing": (0, "weight", None),
        "steps": (16, "buffer", None),
        "unsaved": (14, "buffer", None),
        "first.weight": (80, "weight", None),
        "second.weight": (0, "weight", "first.weight"),
    }
    assert found.bytes == 12 + 16 + 14 + 80
    assert found.parts == {"weights": 92, "scales": 0, "buffers": 30}
    assert found.parameters == 3 + 20


@pytest.mark.parametrize("precision", ALL)
def test_a_loaded_model_holds_what_its_rows_say(precision: str) -> None:
    """The bytes behind the rows are there: every storage of the model, counted once."""
    loaded = load(checkpoint.read(checkpoints.folder("llama")), PRECISIONS[precision])
    storages = {}
    for tensor in [*loaded.model.parameters(), *loaded.model.buffers()]:
        storages[tensor.untyped_storage().data_ptr()] = tensor.numel() * tensor.element_size()
    assert loaded.footprint.bytes == sum(storages.values())
