"""Weights that are quantised as they are read: the very same model, and of the wide weights one at a time."""

import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from qfund.checkpoints import checkpoint
from qfund.core.errors import CorruptCheckpoint
from qfund.models.loading import coding, load, read
from qfund.precisions.quantizers.conversion import quantize_model
from qfund.precisions.table import PRECISIONS
from tests.tiny import checkpoints, planned

#: Tied and untied, experts that are stacked while they are read, Conv1D, convolutions, weights stored twice.
NAMES = ("llama", "llama-sharded", "gpt2", "mixtral", "t5", "blip", "vit-classifier", "stored-tied-head", "gpt-oss")


def _held(model: Any) -> dict[str, torch.Tensor]:
    parameters = dict(model.named_parameters(remove_duplicate=False))
    return parameters | dict(model.named_buffers(remove_duplicate=False))


@pytest.mark.parametrize("also", [(), ("head", "embeddings")])
@pytest.mark.parametrize("precision", ["int8", "nf4_bf16"])
@pytest.mark.parametrize("name", NAMES)
def test_it_is_the_model_that_is_quantized_when_all_is_read(name: str, precision: str, also: tuple[str, ...]) -> None:
    found, row = checkpoint.read(planned.folder(name)), PRECISIONS[precision]
    loaded, whole = load(found, row, also), read(found, row.dtype)
    conversion = quantize_model(whole, row, also)
    assert loaded.converted == conversion.plan.converted and loaded.left == conversion.plan.left
    assert loaded.saturated == conversion.saturated
    ours, theirs = _held(loaded.model), _held(whole)
    assert list(ours) == list(theirs)
    for key, tensor in ours.items():
        assert tensor.dtype == theirs[key].dtype and torch.equal(tensor, theirs[key]), key
        assert not tensor.requires_grad and tensor.device.type == "cpu"
    shared = {(one, other) for one in ours for other in ours if ours[one] is ours[other]}
    assert shared == {(one, other) for one in theirs for other in theirs if theirs[one] is theirs[other]}
    assert not loaded.model.training
    if whole.can_generate():
        assert loaded.model.generation_config.to_dict() == whole.generation_config.to_dict()


def test_of_the_wide_weights_one_is_there_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    original: Any = vars(coding)["safe_open"]
    alive, most = set[str](), list[set[str]]()

    class Slice:
        def __init__(self, name: str, found: Any) -> None:
            self._name, self._found = name, found

        def __getitem__(self, key: Any) -> Any:
            tensor = self._found[key]
            alive.add(self._name)
            weakref.finalize(tensor.untyped_storage(), alive.discard, self._name)
            most.append(alive & converted)
            return tensor

    class File:
        def __init__(self, path: Any, framework: str) -> None:
            self._file = original(path, framework=framework)

        def __enter__(self) -> Any:
            return self

        def __exit__(self, *error: object) -> None: ...

        def keys(self) -> Any:
            return self._file.keys()

        def get_slice(self, name: str) -> Slice:
            return Slice(name, self._file.get_slice(name))

    found = checkpoint.read(checkpoints.folder("llama-untied"))
    converted = {f"{name}.weight" for name in load(found, PRECISIONS["int8"]).converted}
    assert len(converted) == 14
    monkeypatch.setattr(coding, "safe_open", File)
    load(found, PRECISIONS["int8"])
    assert set().union(*most) == converted and max(map(len, most)) == 1


def test_a_weight_that_is_not_finite_ends_the_load_with_its_name(tmp_path: Path) -> None:
    folder = checkpoints.make("llama", tmp_path / "broken")
    weights = load_file(folder / "model.safetensors")
    weights["model.layers.1.mlp.up_proj.weight"][3, 2] = torch.nan
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(CorruptCheckpoint, match=r"1 of the .* values of model\.layers\.1\.mlp\.up_proj\.weight"):
        load(checkpoint.read(folder), PRECISIONS["int8"])


def test_a_file_that_lacks_a_tensor_is_refused_as_when_it_is_read_whole(tmp_path: Path) -> None:
    folder = checkpoints.make("llama", tmp_path / "lacking")
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(CorruptCheckpoint, match=r"lacks 1 tensor: model\.layers\.1\.mlp\.up_proj\.weight"):
        load(checkpoint.read(folder), PRECISIONS["int8"])
