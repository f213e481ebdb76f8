"""A recipe file among the candidates: a precision for each module, measured like any other."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from qfund.core.errors import InvalidSpec, QfundError, UnknownName, UnsupportedModel
from qfund.engine import key_of
from qfund.features.compare.measure.compare import compare
from qfund.features.compare.request.spec import Spec
from qfund.features.layers.measure.searched import recipe as search
from qfund.features.layers.measure.swapped import swaps
from qfund.features.layers.request.recipe import RecipeRequest, document
from qfund.features.layers.request.swaps import SwapsRequest
from qfund.precisions import recipes
from qfund.stream.held.lanes import Lanes
from tests.tiny.checkpoints import TEXT, folder

UP, DOWN = "model.layers.0.mlp.up_proj", "model.layers.1.mlp.down_proj"


def written(where: Path, modules: object, reference: str = "fp32", name: str = "mix.json") -> Path:
    path = where / name
    path.write_text(json.dumps({"reference": reference, "modules": modules}))
    return path


def asked(*files: Path, **more: object) -> Spec:
    spec = Spec(str(folder("llama")), precisions=(), text=TEXT, context=32, files=tuple(map(str, files)))
    return replace(spec, **more)  # type: ignore[arg-type]


def converted(model: str, row: str) -> list[str]:
    (result,) = compare(Spec(model, precisions=(row,), text=TEXT, context=32)).results
    names = [tensor.name for tensor in result.tensors if tensor.dtype != tensor.logical]
    return list(dict.fromkeys(name.rpartition(".")[0] for name in names))


@pytest.mark.parametrize(("row", "reference"), [("int4", "fp32"), ("int8_bf16", "bf16"), ("q4_k_m", "fp32")])
def test_one_precision_everywhere_is_that_precision(row: str, reference: str, tmp_path: Path) -> None:
    modules = dict.fromkeys(converted(str(folder("llama")), row), row)
    path = written(tmp_path, modules, reference)
    own, mixed = compare(asked(path, precisions=(row,), reference=reference)).results
    assert mixed.fidelity == own.fidelity
    assert mixed.footprint_bytes == own.footprint_bytes
    assert mixed.file is not None and mixed.file.bytes == own.footprint_bytes


def test_biases_are_none_of_the_quantized_weights(tmp_path: Path) -> None:
    model = str(folder("gpt2"))
    path = written(tmp_path, dict.fromkeys(converted(model, "int4"), "int4"))
    own, mixed = compare(asked(path, model=model, precisions=("int4",))).results
    assert mixed.file is not None
    assert mixed.file.bits_of_quantized == own.bits_per_weight


def test_only_what_it_names_is_converted(tmp_path: Path) -> None:
    path = written(tmp_path, {UP: "int4", DOWN: "int8", "model.layers.0.mlp.gate_proj": "fp32"})
    report = compare(asked(path))
    (row,) = report.results
    assert report.whole is None  # streamed
    assert row.converted == 2
    codes = {tensor.name.rpartition(".")[0] for tensor in row.tensors if tensor.dtype != tensor.logical}
    assert codes == {UP, DOWN}
    assert row.fidelity["kl_mean"].value > 0
    assert row.file is not None
    assert {name: count for name, (count, _) in row.file.types.items()} == {"INT4 g32": 1, "INT8 weight-only": 1}


@Lanes(1, 1).threaded()  # with more, models in memory are side by side, a part of the threads each
def test_whole_models_give_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, {UP: "int4", DOWN: "nf4"})
    streamed = compare(asked(path)).results
    monkeypatch.setattr("qfund.features.compare.measure.course.streamed.streamed_or_why_not", lambda *args: "asked")
    report = compare(asked(path))
    assert report.whole == "asked"
    assert [row.fidelity for row in report.results] == [row.fidelity for row in streamed]


def test_two_recipes_of_one_name_are_two(tmp_path: Path) -> None:
    """Also where models and blocks are kept between comparisons."""
    found = []
    for modules in ({UP: "int8"}, {UP: "int2"}):
        spec = asked(written(tmp_path, modules))
        found.append((key_of(spec), compare(spec).results[0].fidelity["kl_mean"].value))
    assert found[0][0] != found[1][0]
    assert found[1][1] > 2 * found[0][1]


def test_layout_of_the_file_does_not_matter(tmp_path: Path) -> None:
    first = recipes.read(written(tmp_path, {UP: "int4", DOWN: "int8"}))
    again = recipes.read(written(tmp_path, {DOWN: "int8", UP: "int4"}, name="other.json"))
    assert first.id == again.id


@Lanes(1, 1).threaded()
def test_what_it_costs_is_what_the_swaps_cost(tmp_path: Path) -> None:
    """Which are measured in another way: modules borrowed from a second model."""
    text = {"text": TEXT, "context": 16, "max_tokens": 64}
    request = SwapsRequest(str(folder("llama")), ("int4",), part="kind", **text)  # type: ignore[arg-type]
    found = next(row for row in swaps(request).swaps if row.part == "up_proj")
    path = written(tmp_path, dict.fromkeys(found.modules, "int4"))
    (row,) = compare(asked(path, **text)).results
    assert row.fidelity["kl_mean"].value == pytest.approx(found.kl.value, rel=1e-9)


def test_what_a_search_saves_can_be_read(tmp_path: Path) -> None:
    request = RecipeRequest(
        str(folder("llama")), ("int8", "int4"), bits=6.5, text=TEXT, context=16, max_tokens=32, test_tokens=32
    )
    found = search(request)
    path = tmp_path / "saved.json"
    path.write_text(json.dumps(document(found)))
    (row,) = compare(asked(path, max_tokens=32)).results
    assert row.footprint_bytes == row.predicted_bytes == found.recipe.bytes


@pytest.mark.parametrize(
    ("modules", "reference", "error", "said"),
    [
        ({UP: "int9"}, "fp32", UnknownName, "int9"),
        ({UP: "int4"}, "int4", InvalidSpec, "leaves the rest in INT4"),
        ({UP: "int4_bf16"}, "fp32", InvalidSpec, "does not leave the rest in FP32"),
        ({UP: "int8_dynamic"}, "fp32", InvalidSpec, "rounds what goes in too"),
        ({UP: "fp32"}, "fp32", InvalidSpec, "every module in FP32"),
        ({UP: 4}, "fp32", InvalidSpec, UP),
        ({}, "fp32", InvalidSpec, "names no modules"),
        ([UP], "fp32", InvalidSpec, "names no modules"),
        ({"encoder.layer.0.output": "int4"}, "fp32", UnsupportedModel, "another architecture"),
    ],
)
def test_a_recipe_that_cannot_be(
    modules: object, reference: str, error: type[QfundError], said: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=said):
        compare(asked(written(tmp_path, modules, reference)))


@pytest.mark.parametrize("content", ["", "[", "7", "null", "[" * 5000, '{"modules": "all"}', "\ud800"])
def test_a_file_that_is_no_recipe(content: str, tmp_path: Path) -> None:
    path = tmp_path / "mix.json"
    path.write_bytes(content.encode("utf-8", "surrogatepass"))
    with pytest.raises(InvalidSpec, match=r"mix\.json is no recipe"):
        recipes.read(path)


def test_a_recipe_is_no_reference(tmp_path: Path) -> None:
    path = written(tmp_path, {UP: "int4"})
    with pytest.raises(InvalidSpec, match="no reference"):
        compare(asked(path, precisions=("int8",), reference=str(path)))
