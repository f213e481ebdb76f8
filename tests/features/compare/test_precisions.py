"""What a comparison says of precisions besides fidelity: ranges, clipped weights, libraries, quantised checkpoints."""

import importlib.util
import json
import math
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import qfund
from qfund import cli
from qfund.core.errors import CorruptCheckpoint, InvalidSpec, UnavailablePrecision, UnsupportedModel
from qfund.engine.kinds import kind_of
from qfund.features.compare.measure import compare as compare_measure
from qfund.features.compare.measure.compare import compare
from qfund.features.compare.request import report
from qfund.features.compare.request.decision import Margin, decide
from qfund.features.compare.request.link import from_query
from qfund.features.compare.request.report import PrecisionResult
from qfund.features.compare.request.spec import Spec, checked
from qfund.features.outputs.request.classes import ClassesRequest
from qfund.features.outputs.request.embeddings import EmbeddingsRequest
from qfund.features.outputs.request.generation import GenerationRequest
from qfund.models import opened
from tests.models import test_prequantized
from tests.tiny import checkpoints

TEXT = checkpoints.TEXT


def _compare(folder: Path, *precisions: str, **more: object) -> dict[str, PrecisionResult]:
    found = compare(Spec(str(folder), precisions=precisions, text=TEXT, **more))  # type: ignore[arg-type]
    assert report.from_json(report.to_json(found)) == found
    return {result.precision: result for result in (found.reference, *found.results)}


def _changed(tmp_path: Path, tensor: str, value: float, at: tuple[int, ...] | None = None) -> Path:
    """An untied Llama with one tensor scaled, or one element set."""
    shutil.copytree(checkpoints.folder("llama-untied"), tmp_path, dirs_exist_ok=True)
    stored = load_file(tmp_path / "model.safetensors")
    if at is None:
        stored[tensor] *= value
    else:
        stored[tensor][at] = value
    save_file(stored, tmp_path / "model.safetensors", {"format": "pt"})
    return tmp_path


# ---- ranges


def test_fp16_says_how_near_it_came_to_its_end() -> None:
    found = _compare(checkpoints.folder("llama"), "bf16", "fp16")["fp16"].range
    assert found is not None and found.first_nonfinite is None
    assert found.limit == 65504 and found.headroom == pytest.approx(65504 / found.largest) and found.headroom > 10
    assert found.largest_module


def test_the_module_where_fp16_overflows_is_named(tmp_path: Path) -> None:
    name = "model.layers.1.mlp.down_proj"
    found = _compare(_changed(tmp_path, f"{name}.weight", 4e4), "bf16", "fp16", "int8")
    assert found["fp16"].nonfinite_positions > 0
    seen = found["fp16"].range
    assert seen is not None
    assert (seen.first_nonfinite, seen.first_nonfinite_kind, seen.headroom) == (name, "Linear", 0.0)
    assert seen.bad_weights == 0, "what it computed was too large, not what it holds"
    assert seen.nonfinite_modules >= 2, "what comes after it is not finite either"
    assert found["bf16"].range is None and found["int8"].range is None, "nothing to say of them"


def test_where_fp32_overflows_the_module_is_named_too(tmp_path: Path) -> None:
    name = "model.layers.0.mlp.down_proj"
    found = _compare(_changed(tmp_path, f"{name}.weight", 3e38 / 4), "bf16")
    seen = found["fp32"].range
    assert found["fp32"].nonfinite_positions > 0 and seen is not None
    assert seen.first_nonfinite is not None and seen.first_nonfinite.startswith("model.layers.0")


# ---- weights that do not fit a format


def test_clipped_weights_are_counted() -> None:
    found = _compare(checkpoints.folder("llama"), "mxfp4", "int4")
    clipped = found["mxfp4"].saturation
    assert clipped is not None and found["int4"].saturation is None
    assert (
        0
        < clipped.weights
        < clipped.of
        == sum(share.parameters for dtype, share in found["mxfp4"].dtypes.items() if dtype == "float4_e2m1")
    )
    assert clipped.first in [f"{name}.weight" for name in found["mxfp4"].converted_modules]


def test_weights_that_are_nan_cannot_be_quantized_but_can_be_cast(tmp_path: Path) -> None:
    folder = _changed(tmp_path, "model.layers.1.self_attn.q_proj.weight", math.nan, (3, 4))
    with pytest.raises(CorruptCheckpoint, match=r"model\.layers\.1\.self_attn\.q_proj\.weight are NaN or infinite"):
        _compare(folder, "int4")
    found = _compare(folder, "bf16")
    assert found["bf16"].nonfinite_positions > 0 and not found["bf16"].fidelity
    seen = found["bf16"].range
    assert seen is not None and seen.first_nonfinite == "model.layers.1.self_attn.q_proj"
    assert seen.bad_weights == 1, "its weights are to blame"


def test_a_row_of_zeros_stays_zero_in_every_format(tmp_path: Path) -> None:
    """torchao's FP8 makes NaN of it."""
    folder = _changed(tmp_path, "model.layers.0.mlp.up_proj.weight", 0.0, (5,))
    names = ("int8", "int8_dynamic", "int4", "int4_asym", "int2", "fp8_e4m3", "fp8_dynamic", "mxfp8", "mxfp4", "nvfp4")
    for result in _compare(folder, *names, "nf4", "fp4").values():
        assert result.nonfinite_positions == 0, result.precision


# ---- choices


def test_head_and_embeddings_are_quantized_when_asked_for() -> None:
    plain = _compare(checkpoints.folder("llama-untied"), "int8")["int8"]
    whole = _compare(checkpoints.folder("llama-untied"), "int8", also=("head", "embeddings"))["int8"]
    assert set(whole.converted_modules) - set(plain.converted_modules) == {"lm_head", "model.embed_tokens"}
    assert plain.note is whole.note is None
    saved = 2 * checkpoints.VOCABULARY * (3 * checkpoints.WIDTH - 4)
    assert plain.footprint_bytes - whole.footprint_bytes == saved
    assert whole.fidelity["kl_mean"].value > plain.fidelity["kl_mean"].value


def test_a_tied_weight_says_that_it_was_quantized_for_both() -> None:
    found = _compare(checkpoints.folder("llama"), "int8", also=("head",))["int8"]
    assert found.note == "model.embed_tokens and lm_head share one weight: both are quantised, and stay tied."
    assert {"model.embed_tokens", "lm_head"} <= set(found.converted_modules)


def test_rows_that_are_no_whole_groups_are_named() -> None:
    """48 inputs in groups of 32; torchao refuses them."""
    note = _compare(checkpoints.folder("llama"), "int4")["int4"].note
    assert note is not None and note.startswith("In 2 of 14 weights the last group of each row is shorter than 32")
    assert "model.layers.0.mlp.down_proj.weight: 48 inputs" in note


def test_a_precision_of_another_device_is_refused_before_anything_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    for loads in (compare_measure, opened):
        monkeypatch.setattr(loads, "model_cache", lambda: pytest.fail("loaded something"))
    with pytest.raises(UnavailablePrecision, match="TF32 needs an NVIDIA GPU"):
        _compare(checkpoints.folder("llama"), "tf32")


# ---- libraries


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama whose rows are whole groups, so that libraries take all of them."""
    folder: Path = tmp_path_factory.mktemp("wide")
    checkpoints.write(checkpoints.build(test_prequantized.TINY), test_prequantized.TINY, folder)
    return folder


def test_libraries_run_beside_and_give_the_same(wide: Path) -> None:
    found = _compare(wide, "bf16", "int8", "int4", "int8_dynamic", "nf4", libraries=True)
    assert found["bf16"].latency is not None and found["bf16"].libraries == ()
    libraries = {"int4": "torchao", "int8_dynamic": "torchao", "nf4": "bitsandbytes", "int8": "torchao"}
    for name, library in libraries.items():
        own = found[name]
        one = next(run for run in own.libraries if run.library == library)
        assert one.problem is None and (one.converted, one.left) == (own.converted, 0) == (14, 0)
        assert one.latency is not None and one.latency.value > 0 and one.latency.n >= 1 and one.version
        # torchao's int8 multiplies by the scale after the sum, qfund before it; all others are equal bit for bit.
        assert one.max_abs_diff is not None and one.max_abs_diff <= (1e-4 if name == "int8" else 0), name
        assert one.footprint_bytes is not None and one.transformers_bytes is not None
        # torchao pads every width to a byte and stores zero-points of symmetric formats; nobody stores less than qfund.
        assert own.footprint_bytes <= one.footprint_bytes < found["fp32"].footprint_bytes
        assert one.transformers_bytes != one.footprint_bytes


def test_outputs_of_other_models_are_not_compared(wide: Path) -> None:
    """Libraries leave embeddings, so theirs would be another model's outputs."""
    own = _compare(wide, "int4", also=("embeddings",), libraries=True)["int4"]
    one = own.libraries[0]
    assert one.left == 1 and one.max_abs_diff is None and one.latency is not None
    assert one.note is not None and "leaves 1 of the modules" in one.note


def test_a_library_that_is_missing_says_what_to_install(wide: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "bitsandbytes" else find(name))
    run = _compare(wide, "nf4", libraries=True)["nf4"].libraries[0]
    assert run.problem is not None and "pip install bitsandbytes" in run.problem
    assert run.latency is None and run.footprint_bytes is None


def test_without_being_asked_no_library_runs(wide: Path) -> None:
    assert all(not result.libraries and result.latency is None for result in _compare(wide, "nf4").values())


# ---- checkpoints that are quantised already


@pytest.fixture(scope="module")
def quantized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Written by torchao, with a tokenizer."""
    folder: Path = tmp_path_factory.mktemp("quantised")
    test_prequantized.torchao(folder)
    checkpoints.byte_level().save_pretrained(folder)
    return folder


def test_a_quantized_checkpoint_is_shown_as_what_it_is(quantized: Path) -> None:
    found = _compare(quantized, "stored", reference="stored")["stored"]
    assert found.predicted_bytes is None and found.note is not None and "torchao Int8WeightOnly" in found.note
    assert found.converted == test_prequantized.LINEARS
    # A byte a weight; a scale in fp32 and a zero-point a row; all else in bf16.
    codes, scales = test_prequantized.WEIGHTS, test_prequantized.ROWS
    assert found.parts["weights"] == codes + 2 * test_prequantized.FLOATS
    assert found.bits_per_weight == pytest.approx(8 * (codes + found.parts["scales"]) / codes)
    assert scales * 4 <= found.parts["scales"] <= scales * 9
    assert found.dtypes["int8"].parameters == test_prequantized.WEIGHTS
    assert found.transformers_bytes != found.footprint_bytes
    assert found.fidelity["max_abs_logit_diff"].value == 0


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
def test_a_quantized_checkpoint_is_never_quantized_or_cast_again(quantized: Path, precision: str) -> None:
    with pytest.raises(UnsupportedModel, match=r"is already quantised \(torchao") as caught:
        _compare(quantized, precision, reference="stored")
    assert "`stored`" in caught.value.remedy


def test_what_is_stored_is_its_own_reference(quantized: Path) -> None:
    """Nobody has to name the reference, since no other is possible."""
    assert checked(Spec(str(quantized), precisions=("stored",))).reference == "stored"
    assert set(_compare(quantized, "stored")) == {"stored"}


@pytest.mark.parametrize("reference", ["bf16", "FP32", "int8"])
def test_another_reference_beside_what_is_stored_is_refused_never_dropped(quantized: Path, reference: str) -> None:
    with pytest.raises(InvalidSpec, match=f"cannot be compared with {reference.lower()}"):
        qfund.compare(str(quantized), "stored", reference=reference.lower())
    with pytest.raises(SystemExit, match="2"):
        cli.main(["embed", str(quantized), "--precision", "stored", "--reference", reference])
    opened, problems = from_query({"model": ["m"], "p": ["stored"], "ref": [reference.lower()]}, Spec("m"))
    assert (opened.reference, opened.precisions) == ("stored", ("stored",)) and "are gone" in problems[0]
    for request in (Spec, GenerationRequest, ClassesRequest, EmbeddingsRequest):
        other = request("m", reference.lower(), ("stored",))
        with pytest.raises(InvalidSpec, match=f"cannot be compared with {reference.lower()}"):
            kind_of(other).checked(other)
        assert request("m", precisions=("stored",)).reference == "stored" and request("m").reference == "fp32"


def test_what_is_compared_with_itself_is_called_that(quantized: Path) -> None:
    report = qfund.compare(str(quantized), "stored", text=TEXT)
    (decision,) = decide(report, Margin())
    assert "compared with itself alone" in decision.sentence and "indistinguishable" not in decision.sentence


def test_a_plain_checkpoint_has_no_stored_form() -> None:
    with pytest.raises(UnsupportedModel, match="llama is not quantised"):
        _compare(checkpoints.folder("llama"), "stored")


def test_a_method_that_cannot_be_read_here_is_refused_by_name(tmp_path: Path) -> None:
    shutil.copytree(checkpoints.folder("llama"), tmp_path, dirs_exist_ok=True)
    path = tmp_path / "config.json"
    settings = {"quant_method": "gptq", "bits": 4, "group_size": 128}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"quantization_config": settings}))
    weights = load_file(tmp_path / "model.safetensors") | {"codes": torch.zeros(4, 4, dtype=torch.int32)}
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(UnsupportedModel, match=r"already quantised \(GPTQ 4 bits"):
        _compare(tmp_path, "stored", reference="stored")
