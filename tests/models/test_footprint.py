"""Bytes: what is stored, what was foretold, and what transformers and plain arithmetic say of the same models."""

import math
from collections.abc import Callable
from copy import deepcopy
from functools import lru_cache
from typing import Any

import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from qfund.checkpoints import checkpoint
from qfund.core.errors import NothingConverted
from qfund.models import footprint, loading, skeleton
from qfund.models.loading import coding, load
from qfund.precisions.precision import GGUF, MEANING, STORED, Precision
from qfund.precisions.quantizers.plan import Plan, plan_conversion
from qfund.precisions.table import PRECISIONS, unavailable
from tests import independent
from tests.features.compare.test_architectures import ALL, CASES, CASTS, measured
from tests.tiny import checkpoints

NAMES = list(CASES)
PAIRS = [(name, precision) for name in NAMES for precision in ALL]
#: Every row that this device can load, but for what else is called BF16 and FP16: see ``compare/test_meanings.py``. Of
#: GGUF files, which differ in their blocks, one type, a mix, and one as it is run.
_FILES = ("q8_0", "q4_k_m", "q4_0_inputs")
ROWS = [
    row
    for row in PRECISIONS.values()
    if row.family not in (STORED, MEANING)
    and (row.family != GGUF or row.name in _FILES)
    and not unavailable(row, "cpu")
]

#: Architectures of which every row is loaded: linear layers, GPT-2's transposed ones, stacks of experts.
WHOLE = ("llama", "gpt2", "mixtral")
#: Rows that are converted with everything that may be: of each sort, of all bases.
_EVERYTHING = ("int8", "int4_asym_bf16", "nf4", "nvfp4_bf16")


def _sort(row: Precision) -> str:
    """What rows share that choose the same weights of an architecture, and lay them out by the same code. They differ
    in bits, the size of a group, and the dtype of scales and of what stays: ``tests/precisions`` has their arithmetic.
    """
    if row.quantizer is None or row.family == GGUF:
        return row.name
    return "with activations" if row.product else str(row.quantizer).partition(":")[0]


SORTS = {sort: [row for row in ROWS if _sort(row) == sort] for sort in dict.fromkeys(map(_sort, ROWS))}


def rows_of(name: str) -> list[Precision]:
    """A quarter of each sort, one at least, and on the next architecture the next ones."""
    place = NAMES.index(name)
    return [
        row
        for rows in SORTS.values()
        for number, row in enumerate(rows)
        if name in WHOLE or number % min(4, len(rows)) == place % min(4, len(rows))
    ]


def test_every_row_is_loaded_on_many_architectures_and_every_sort_on_all() -> None:
    on = {row.name: {name for name in NAMES if row in rows_of(name)} for row in ROWS}
    assert all(len(names) > len(NAMES) // 4 and names.issuperset(WHOLE) for names in on.values())
    assert all({_sort(row) for row in rows_of(name)} == SORTS.keys() for name in NAMES)
    assert len(SORTS) == 4 + 3 + 5  # casts, files, and five ways to convert


def _result(name: str, precision: str) -> Any:
    return next(result for result in measured(name).results if result.precision == precision)


@pytest.mark.parametrize(("name", "precision"), PAIRS)
def test_prediction_is_exact(name: str, precision: str) -> None:
    """Row by row: names, shapes, dtypes, bytes, ties; in the order of the model."""
    result = _result(name, precision)
    foretold = skeleton.predict(checkpoint.read(checkpoints.folder(name)), PRECISIONS[precision])
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


@pytest.fixture
def read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests of one checkpoint: it is read once in each dtype, and copies of the model are converted, which share
    their configuration."""

    def once(original: Callable[[checkpoint.Checkpoint, str], Any]) -> Callable[[checkpoint.Checkpoint, str], Any]:
        models = dict[str, Any]()

        def made(found: checkpoint.Checkpoint, dtype: str) -> Any:
            if dtype not in models:
                models[dtype] = original(found, dtype)
            held = [module.config for module in models[dtype].modules() if hasattr(module, "config")]
            return deepcopy(models[dtype], {id(config): config for config in held})

        return made

    monkeypatch.setattr(loading, "read", once(loading.read))
    monkeypatch.setattr(coding, "frame", once(loading.frame))


@pytest.mark.parametrize("name", NAMES)
def test_every_row_is_foretold_to_the_byte(name: str, read_once: None) -> None:
    """Every sort of precision on every architecture: names, shapes, dtypes, bytes, ties."""
    found = checkpoint.read(checkpoints.folder(name))
    skeletons = skeleton.Skeletons(found)
    asked = [(row, ()) for row in rows_of(name)]
    everything = _EVERYTHING if name in WHOLE else _EVERYTHING[NAMES.index(name) % len(_EVERYTHING) :][:1]
    for row, also in [*asked, *((PRECISIONS[row], ("head", "embeddings")) for row in (*everything, "int8_dynamic"))]:
        try:
            foretold = skeletons.footprint(row, also)
        except NothingConverted:
            assert "resnet" in name and (row.product or row.family == GGUF)  # convolutions alone
            continue
        counted = load(found, row, also).footprint
        assert foretold.tensors == counted.tensors, row.name
        assert foretold.bytes == counted.bytes, row.name
        if row.family != GGUF:  # tests/precisions/ggml has their arithmetic
            assert counted.bytes == _formula(name, row, also), row.name
        if row.quantizer:
            assert counted.bits_per_weight is not None and counted.bits_per_weight >= row.bits


@lru_cache(maxsize=4)  # one model's dtypes
def _plain(name: str, dtype: str) -> Any:
    return independent.load(checkpoints.folder(name), getattr(torch, dtype))


@lru_cache(maxsize=16)
def _plan(name: str, dtype: str, product: bool, every_matrix: bool, also: tuple[str, ...]) -> Plan:
    return plan_conversion(_plain(name, dtype), also, product, every_matrix)


def _formula(name: str, row: Precision, also: tuple[str, ...]) -> int:
    """Bytes by arithmetic on the shapes of the plain model, apart from any quantiser's code."""
    plain = _plain(name, row.dtype)
    total = plain.get_memory_footprint()
    if row.quantizer is None:
        return int(total)
    for group in _plan(name, row.dtype, row.product is not None, row.every_matrix, also).groups:
        module = plain.get_submodule(group[0].module)
        parameter = module.get_parameter(group[0].key)
        rows, columns = parameter.shape[0], parameter.shape[1:].numel()
        if parameter.dim() == 3 and "experts" in group[0].module:
            rows, columns = parameter.shape[:2].numel(), parameter.shape[2]
        if isinstance(module, Conv1D):
            rows, columns = columns, rows
        total += _converted_bytes(row, rows, columns, parameter.element_size())
        total -= parameter.numel() * parameter.element_size()
    return int(total)


def _converted_bytes(row: Precision, n: int, k: int, base: int) -> int:
    """Of one matrix [n, k] whose base dtype has ``base`` bytes."""
    kind = row.variant_of or row.name
    if kind in ("nf4", "fp4"):
        return math.ceil(n * k / 2) + 4 * math.ceil(n * k / 64)
    if kind in ("mxfp8", "mxfp4"):
        return n * (k if kind == "mxfp8" else math.ceil(k / 2)) + n * math.ceil(k / 32)
    if kind == "nvfp4":
        return n * math.ceil(k / 2) + n * math.ceil(k / 16) + 4
    if kind in ("int8", "int8_dynamic") or kind.startswith("fp8"):
        return n * k + 4 * n
    if kind == "int8_g32":
        return n * k + 4 * n * math.ceil(k / 32)
    bits = row.bits
    planes = [width for width in (4, 2, 1) if bits & width]
    data = n * sum(math.ceil(k * width / 8) for width in planes)
    groups = n * math.ceil(k / int(kind.partition("_g")[2] or 32))
    return data + groups * (base + (kind == "int4_asym"))


@pytest.mark.parametrize("name", NAMES)
def test_int8_takes_one_byte_a_weight_and_four_a_row(name: str) -> None:
    plain = independent.load(checkpoints.folder(name), torch.float32)
    expected = plain.get_memory_footprint()
    scales = 0
    for module_name, module in plain.named_modules():
        if isinstance(module, nn.Linear | Conv1D | nn.Conv1d | nn.Conv2d) and module_name not in CASES[name].left:
            rows = module.weight.shape[1 if isinstance(module, Conv1D) else 0]
            expected += module.weight.numel() * (1 - 4) + rows * 4
            scales += rows * 4
        if module_name.endswith(".mlp.experts"):
            for weight in (module.gate_up_proj, module.down_proj):
                rows = weight.shape[:2].numel()
                expected += weight.numel() * (1 - 4) + rows * 4
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
        assert row.storage == row.dtype and row.parameters == (math.prod(row.shape) if row.kind == "weight" else 0) * (
            owner is row
        )
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


def test_dtypes_say_what_is_stored_what_it_is_stored_in_and_what_the_weight_claims() -> None:
    loaded = load(checkpoint.read(checkpoints.folder("llama")), PRECISIONS["int3_bf16"])
    weight = loaded.model.get_submodule("model.layers.0.mlp.up_proj").weight
    rows = {row.name: row for row in loaded.footprint.tensors}
    data = rows["model.layers.0.mlp.up_proj.weight_data"]
    assert (data.dtype, data.storage, data.logical) == ("int3", "uint8", "bfloat16")
    assert str(weight.dtype) == "torch.bfloat16"
    assert data.parameters == weight.numel() == 48 * 32 and data.bytes == 48 * (8 + 4)
    scale = rows["model.layers.0.mlp.up_proj.weight_scale"]
    assert (scale.dtype, scale.storage, scale.kind, scale.parameters) == ("bfloat16", "bfloat16", "scale", 0)
    assert loaded.footprint.bits_per_weight is not None
    assert loaded.footprint.dtypes["int3"].parameters == loaded.footprint.quantized
