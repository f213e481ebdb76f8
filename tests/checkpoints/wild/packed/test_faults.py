"""Files that lie, lack parts or are of another kind: said in words that name the tensor, before it is decoded."""

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from qfund.checkpoints.wild.packed.refused import REFUSED
from qfund.checkpoints.wild.table import open_file
from qfund.core.errors import ModelError, QfundError, UnsupportedModel
from tests.checkpoints.wild.packed.folders import MODULE, save
from tests.checkpoints.wild.packed.formats import CASES, Case

#: What a file may lack: the decoder then does without, as the format's own does.
_OPTIONAL = (".input_scale", ".weight_format", ".pre_quant_scale", ".compute_dtype", ".group_size", ".axis")


def every_part(case: Case) -> Iterator[tuple[str, dict[str, Tensor], dict[str, str]]]:
    torch.manual_seed(0)
    made = case.write(32, 64)
    for kind in made.parts:
        yield kind, dict(made.parts), made.metadata


def _save(case: Case, parts: dict[str, Tensor], metadata: dict[str, str], folder: Path) -> None:
    save(case.settings, {MODULE + kind: part for kind, part in parts.items()}, folder, case.key, metadata)


def read(folder: Path) -> None:
    for tensor in open_file(folder).tensors.values():
        tensor.values()


@pytest.mark.parametrize("name", list(CASES))
def test_a_missing_companion_is_named(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    for number, (kind, parts, metadata) in enumerate(every_part(case)):
        if kind in _OPTIONAL or (kind == ".g_idx" and not case.settings["desc_act"]):
            continue
        if kind.endswith(("zero_point", ".biases")) and name.startswith("ct-"):
            continue  # a symmetric weight
        del parts[kind]
        _save(case, parts, metadata, tmp_path / str(number))
        with pytest.raises(ModelError) as raised:
            read(tmp_path / str(number))
        assert MODULE.split(".")[-1] in str(raised.value) or "no weight in it is" in str(raised.value), kind


@pytest.mark.parametrize("name", list(CASES))
def test_parts_of_another_shape_or_dtype_are_refused(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    for number, (kind, parts, metadata) in enumerate(every_part(case)):
        part = parts[kind]
        if kind in (*_OPTIONAL, ".input_scale") or "quant_state" in kind:
            continue
        for change, other in {
            "longer": torch.cat([part, part]) if part.dim() else part.repeat(3),
            "another dtype": part.to(torch.float64 if part.dtype != torch.float64 else torch.int64),
            "empty": part[:0] if part.dim() else part.reshape(1)[:0],
        }.items():
            folder = tmp_path / f"{number}-{change}"
            _save(case, {**parts, kind: other}, metadata, folder)
            try:
                read(folder)
            except QfundError:
                continue
            # Twice the rows with one scale for all is a whole weight of another shape, which the original's is not.
            one_scale = change == "longer" and CASES[name].type.endswith("per tensor") and kind == ".weight"
            assert one_scale or (kind, change) == (".g_idx", "another dtype"), (kind, change)


JUNK: tuple[Any, ...] = (None, -1, 0, 5, 10**12, "x", [], {}, 1.5, True, [0, 0], {"a": 1})


@pytest.mark.parametrize("name", list(CASES))
def test_settings_of_any_kind_raise_nothing_but_words(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    torch.manual_seed(0)
    made = case.write(32, 64)
    _save(case, made.parts, made.metadata, tmp_path)
    plain = json.loads((tmp_path / "config.json").read_text())
    for path in _paths(case.settings):
        for junk in JUNK:
            config = json.loads(json.dumps(plain))
            place = config[case.key]
            for key in path[:-1]:
                place = place[key]
            place[path[-1]] = junk
            (tmp_path / "config.json").write_text(json.dumps(config))
            with suppress(QfundError):
                read(tmp_path)


@pytest.mark.parametrize("name", [name for name in CASES if name.startswith("ao-")])
def test_descriptions_of_any_kind_raise_nothing_but_words(name: str, tmp_path: Path) -> None:
    """torchao says of each tensor what it is in the header."""
    case = CASES[name]
    torch.manual_seed(0)
    made = case.write(32, 64)
    ((entry, text),) = made.metadata.items()
    for path in _paths(json.loads(text)):
        for junk in JUNK:
            described = place = json.loads(text)
            for key in path[:-1]:
                place = place[key]
            place[path[-1]] = junk
            _save(case, made.parts, {entry: json.dumps(described)}, tmp_path)
            with suppress(QfundError):
                read(tmp_path)


def test_tiles_say_whose_they_are_and_others_are_refused(tmp_path: Path) -> None:
    case = CASES["ao-int4-tiles"]
    made = case.write(32, 64)
    _save(case, made.parts, made.metadata, tmp_path)
    assert "NVIDIA" in open_file(tmp_path).notes[0]
    settings = {"quant_type": {"default": {"_data": {"int4_tile_packed_ntile": 16}}}}
    save(case.settings | settings, {MODULE + kind: part for kind, part in made.parts.items()}, tmp_path,
         metadata=made.metadata)  # fmt: skip
    with pytest.raises(UnsupportedModel, match="AMD"):
        open_file(tmp_path)


def test_words_for_ascend_are_refused(tmp_path: Path) -> None:
    case = CASES["ao-int4-words"]
    made = case.write(32, 64)
    parts = {**made.parts, "._weight_zero_point": made.parts["._weight_zero_point"].bfloat16()}
    _save(case, parts, made.metadata, tmp_path)
    with pytest.raises(UnsupportedModel, match="Ascend"):
        open_file(tmp_path)


def test_stacks_of_experts_of_torchao_are_refused_by_name(tmp_path: Path) -> None:
    name = "model.layers.0.mlp.experts.gate_up_proj"
    described = {name: json.dumps({"_type": "Float8Tensor", "_data": {}, "_tensor_data_names": ["qdata", "scale"]})}
    parts = {name.replace("gate", "_gate") + "_qdata": torch.zeros(2, 4, 4, dtype=torch.float8_e4m3fn)}
    save({"quant_method": "torchao"}, parts, tmp_path, metadata=described)
    with pytest.raises(UnsupportedModel, match="a stack of experts, as torchao's Float8Tensor"):
        open_file(tmp_path)


def _paths(settings: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    for key, value in settings.items():
        yield (key,)
        if isinstance(value, dict):
            yield from ((key, *rest) for rest in _paths(value))


@pytest.mark.parametrize("method", [*REFUSED, "nobody's"])
def test_other_formats_are_refused_by_name(method: str, tmp_path: Path) -> None:
    save({"quant_method": method}, {f"{MODULE}.weight": torch.zeros(2, 2, dtype=torch.uint8)}, tmp_path)
    with pytest.raises(UnsupportedModel) as raised:
        open_file(tmp_path)
    name = REFUSED.get(method, (method, ""))[0]
    assert name in raised.value.message
    assert "Unpack it" in raised.value.remedy


@pytest.mark.parametrize(
    ("name", "change", "word"),
    [
        ("gptq-4", {"checkpoint_format": "marlin"}, "'marlin'"),
        ("gptq-4", {"is_marlin_format": True}, "'marlin'"),
        ("awq", {"version": "gemv"}, "'gemv'"),
        ("awq", {"bits": 3}, "3 bits"),
        ("ct-int4", {"format": "marlin-24"}, "'marlin-24'"),
        ("ct-int4", {"sparsity_config": {"format": "sparse-24-bitmask"}}, "'sparse-24-bitmask'"),
        ("mlx-4", {"mode": "trellis"}, "'trellis'"),
    ],
)
def test_layouts_of_a_kernel_are_refused_by_name(name: str, change: dict[str, Any], word: str, tmp_path: Path) -> None:
    case = CASES[name]
    made = case.write(32, 32)
    tensors = {MODULE + kind: part for kind, part in made.parts.items()}
    save({**case.settings, **change}, tensors, tmp_path, case.key)
    with pytest.raises(UnsupportedModel) as raised:
        open_file(tmp_path)
    assert word in raised.value.message


def test_codes_that_the_format_does_not_explain_are_no_weights(tmp_path: Path) -> None:
    case = CASES["gptq-4"]
    made = case.write(32, 32)
    tensors = {MODULE + kind: part for kind, part in made.parts.items()}
    save(case.settings, {**tensors, "model.odd.weight": torch.zeros(4, 4, dtype=torch.int8)}, tmp_path)
    with pytest.raises(UnsupportedModel, match=r"model\.odd\.weight"):
        open_file(tmp_path)


def test_a_file_cut_short_is_said_to_be(tmp_path: Path) -> None:
    made = CASES["gptq-4"].write(32, 32)
    save(CASES["gptq-4"].settings, {MODULE + kind: part for kind, part in made.parts.items()}, tmp_path)
    file = tmp_path / "model.safetensors"
    (tensor,) = open_file(tmp_path).tensors.values()
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ModelError, match="truncated"):
        open_file(tmp_path)
    file.unlink()
    with pytest.raises(ModelError, match="can no longer be read"):
        tensor.values()
