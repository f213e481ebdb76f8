"""The lesson's notebook as a job: what it saw is what plain torch does, on the toy model and on other architectures."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from safetensors.torch import load_file

from qfund.checkpoints.catalog import CATALOG
from qfund.core.errors import InvalidSpec, OutOfBudget, QfundError
from qfund.engine import key_of
from qfund.engine.kinds import kind_of
from qfund.features.compare.measure.compare import compare
from qfund.features.compare.request.spec import Spec
from qfund.features.lesson.measure import notebook
from qfund.features.lesson.request.notebook import FORMATS, Notebook, NotebookRequest, checked
from qfund.models.dummy import DummyModel
from tests.tiny import checkpoints

DUMMY = CATALOG["dummy"].folder


@pytest.fixture(scope="module")
def found() -> Notebook:
    return notebook.notebook(NotebookRequest("dummy"))


def weights() -> dict[str, torch.Tensor]:
    return load_file(DUMMY / "model.safetensors")


def test_dtypes_are_those_of_the_notebook(found: Notebook) -> None:
    model: Any = DummyModel.from_pretrained(DUMMY, dtype=torch.float32)
    printed = [(name, str(part.dtype)) for name, part in model.named_parameters()]
    assert [(row.name, f"torch.{row.before}") for row in found.listed] == printed
    assert [(row.kind, row.dtype, row.tensors, row.elements, row.bytes) for row in found.before] == [
        ("weight", "float32", 11, 30, 120)
    ]
    assert [(row.dtype, row.bytes) for row in found.after] == [("bfloat16", 60)]
    assert found.stored == {"F32": 120}


def test_the_cast_rounds_as_torch_does(found: Notebook) -> None:
    pairs = [
        (full, low)
        for part in weights().values()
        for full, low in zip(part.flatten().tolist(), part.bfloat16().double().flatten().tolist(), strict=True)
    ]
    changed = sum(full != low for full, low in pairs)
    largest = max(abs(low - full) / abs(full) for full, low in pairs if full)
    assert (found.cast.weights, found.cast.rounded, found.cast.lost) == (30, changed, changed)
    assert found.cast.largest_relative == pytest.approx(largest, rel=1e-12) and largest <= 2**-8
    assert found.cast.returned_itself and found.cast.same_parameters == found.cast.parameters == 11
    assert found.cast.same_storage == 0 and (found.cast.bytes_before, found.cast.bytes_after) == (120, 60)


def test_a_second_name_follows_and_a_copy_leaves_the_original(found: Notebook) -> None:
    seen = found.copying
    assert (seen.name_shares, seen.copy_shares, seen.parameters) == (11, 0, 11)
    assert (seen.name_after, seen.original_after, seen.values_kept) == ("bfloat16", "float32", True)
    assert (seen.model_bytes, seen.copy_bytes) == (120, 60)


def test_outputs_are_the_lessons(found: Notebook) -> None:
    """Logits [−0.6872, 0.7132]; the published largest difference to the last digit, the mean to four."""
    full, low, half = found.outputs
    assert found.input == "input_ids [[1, 0], [0, 1]]" and found.shown == ("'0'", "'1'")
    assert full.values == pytest.approx((-0.6872, 0.7132), abs=5e-5) and full.mean is None
    assert low.largest == pytest.approx(0.0016907453536987305, abs=1e-9)
    assert low.mean == pytest.approx(0.0009978711605072021, abs=1e-7)
    assert [one.returned for one in found.outputs] == ["float32", "bfloat16", "float16"]
    assert half.mean is not None and low.mean is not None and half.mean < low.mean and not half.problem


def test_directly_loaded_weights_are_the_cast_ones(found: Notebook) -> None:
    assert (found.direct.equal, found.direct.tensors, found.direct.different) == (11, 11, ())
    assert found.direct.largest == 0 and found.direct.bytes == 60


def test_one_weight_in_formats_by_hand(found: Notebook) -> None:
    looked = found.weight
    assert looked is not None and tuple(one.precision for one in looked.formats) == FORMATS
    weight = weights()[looked.name].double()
    bf16, _, _, int8 = looked.formats
    error = (weight.float().bfloat16().double() - weight).abs()
    assert bf16.mean == pytest.approx(error.mean().item()) and bf16.largest == pytest.approx(error.max().item())
    assert bf16.sqnr == pytest.approx(10 * torch.log10((weight**2).sum() / (error**2).sum()).item())
    # Symmetric integers, one scale a row: absmax / 127.5, as torchao takes it.
    step = weight[0].abs().max().item() / 127.5
    assert int8.step == pytest.approx(step, rel=1e-6) and bf16.step is None
    assert int8.largest <= 0.5 * max(weight.abs().amax(1).tolist()) / 127.5 * (1 + 1e-6)
    assert sum(one.count for one in int8.bins) == weight.numel()
    for one in int8.bins:
        assert 2.0**one.exponent <= one.magnitude < 2.0 ** (one.exponent + 1)
    assert int8.bits == 8 + 32 / 2, "a scale of 32 bits for each row of two"


def lessons_of(name: str) -> Notebook:
    return notebook.notebook(NotebookRequest(str(checkpoints.folder(name))))


def test_integer_buffers_stay_and_a_rotary_table_is_rounded_by_the_cast_only() -> None:
    bert = lessons_of("bert-encoder")
    integers = [row for row in bert.listed if "int" in row.before]
    assert integers and all(row.before == row.after for row in integers)
    assert bert.gives == "hidden states" and bert.position == 39 and bert.shown[0] == "dimension 0"
    llama = lessons_of("llama")
    assert "model.rotary_emb.inv_freq" in llama.direct.different
    assert llama.direct.bytes > llama.cast.bytes_after, "the load keeps the table in FP32"
    assert llama.copying.ties == llama.copying.ties_kept == 1


@pytest.mark.parametrize("name", ["t5", "gpt2-classifier", "vit-classifier", "blip"])
def test_other_heads_are_run_too(name: str) -> None:
    found = lessons_of(name)
    assert all(one.returned or one.problem for one in found.outputs)
    assert found.outputs[1].mean is not None and found.outputs[1].mean > 0
    assert len(found.shown) == len(found.outputs[0].values) >= 1
    assert found.weight is not None


def test_a_checkpoint_in_bf16_is_not_changed_by_the_cast() -> None:
    found = lessons_of("llama-stored-bf16")
    assert found.cast.rounded == found.cast.lost == 0 and found.cast.weights > 0
    assert "BF16" in found.stored


def test_what_overflows_is_counted_and_not_averaged(tmp_path: Path) -> None:
    """Weights beyond FP16's largest number: its outputs are not finite, which is told and left out."""
    model = checkpoints.build(checkpoints.CHECKPOINTS["llama-untied"])
    with torch.no_grad():
        model.get_output_embeddings().weight[0] = 1e6
    checkpoints.write(model, checkpoints.CHECKPOINTS["llama-untied"], tmp_path)
    half = notebook.notebook(NotebookRequest(str(tmp_path))).outputs[2]
    assert half.nonfinite > 0 and half.mean is not None and half.mean < 1


def test_too_little_memory_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QFUND_MODEL_BUDGET_GIB", "0.0000001")
    with pytest.raises(OutOfBudget, match="a copy of it in FP32"):
        notebook.notebook(NotebookRequest("dummy"))


@pytest.mark.parametrize("model", ["", " ", "a\0b", "x" * 2000])
def test_no_model_is_told(model: str) -> None:
    with pytest.raises(InvalidSpec, match="No model is named"):
        checked(NotebookRequest(model))
    with pytest.raises(QfundError):
        key_of(NotebookRequest(model))


def test_results_survive_the_round_trip(found: Notebook) -> None:
    kind = kind_of(NotebookRequest("dummy"))
    assert kind.read_result(msgspec.json.encode(found)) == found
    assert kind.checked(NotebookRequest(" dummy ", "")) == NotebookRequest("dummy")


def test_the_original_in_the_cache_of_comparisons_is_untouched() -> None:
    """The job loads a model of its own: a comparison after it sees the same weights."""
    before = compare(Spec("dummy", precisions=("bf16",))).results[0].fidelity
    notebook.notebook(NotebookRequest("dummy"))
    assert compare(Spec("dummy", precisions=("bf16",))).results[0].fidelity == before
