"""Weights read straight from checkpoints: every dtype, every part, and what cannot be read."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from qfund.checkpoints import catalog, headers, hub, weights
from qfund.checkpoints.weights import TILE, Part
from qfund.core.errors import InvalidInput, InvalidSpec, ModelNotFound, QfundError, UnknownName, UnsupportedModel


def save(folder: Path, tensors: dict[str, torch.Tensor], shards: int = 1) -> str:
    """A checkpoint folder with these tensors, in one file or one for each."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"architectures": ["LlamaForCausalLM"]}))
    if shards == 1:
        save_file(tensors, folder / "model.safetensors")
    else:
        names = {name: f"model-{place}.safetensors" for place, name in enumerate(tensors)}
        for name, file in names.items():
            save_file({name: tensors[name]}, folder / file)
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    return str(folder)


@pytest.fixture
def tensors() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    return {
        "a.bias": torch.randn(7, generator=generator),
        "b.embed.weight": torch.randn(40, 3, generator=generator).bfloat16(),
        "c.weight": torch.randn(300, 270, generator=generator),
        "d.conv": torch.randn(6, 5, 2, 2, generator=generator).half(),
        "e.double": torch.randn(4, 4, generator=generator).double(),
        "f.ids": torch.arange(9).reshape(3, 3),
    }


@pytest.mark.parametrize("shards", [1, 2])
def test_every_dtype_is_read_to_the_bit(tmp_path: Path, tensors: dict[str, torch.Tensor], shards: int) -> None:
    model = save(tmp_path / "m", tensors, shards)
    assert weights.shapes_of(model) == {
        "b.embed.weight": (40, 3),
        "c.weight": (300, 270),
        "d.conv": (6, 20),
        "e.double": (4, 4),
    }
    for name in weights.shapes_of(model):
        found = weights.read(Part(model, tensor=name, whole=True))
        np.testing.assert_array_equal(found.values, tensors[name].flatten(1).float().numpy())
        assert found.stored_bytes == tensors[name].nbytes and found.tensor == name
    assert weights.read(Part(model)).tensor == "c.weight", "embeddings are not what one wants to see first"


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_float8_is_read(tmp_path: Path, dtype: torch.dtype) -> None:
    codes = torch.arange(256, dtype=torch.uint8).view(dtype).reshape(16, 16)
    model = save(tmp_path / "m", {"odd": torch.zeros(3, dtype=torch.uint8), "w": codes})
    found = weights.read(Part(model))
    assert found.tensor == "w" and found.stored_bytes == 256
    np.testing.assert_array_equal(found.values, codes.float().numpy())


def test_layers_are_in_order() -> None:
    stored = {f"layers.{place}.w": headers.StoredTensor("F32", (2, 2), 16) for place in (10, 9, 2)}
    assert list(weights.matrices(stored)) == ["layers.2.w", "layers.9.w", "layers.10.w"]


def test_a_tile_is_a_part(tmp_path: Path, tensors: dict[str, torch.Tensor]) -> None:
    model = save(tmp_path / "m", tensors)
    found = weights.read(Part(model, tensor="c.weight", row=100, column=17))
    np.testing.assert_array_equal(found.values, tensors["c.weight"][100 : 100 + TILE, 17 : 17 + TILE].numpy())
    assert found.values.shape == (200, 253) and (found.row, found.column) == (100, 17)
    assert weights.read(Part(model, tensor="c.weight")).values.shape == (256, 256)


def test_values_are_those_of_the_shipped_file() -> None:
    from safetensors.torch import load_file

    file = load_file(catalog.CATALOG["pydoc-llama"].folder / "model.safetensors")
    found = weights.read(Part(whole=True))
    np.testing.assert_array_equal(found.values, file[found.tensor].numpy())


def test_what_cannot_be_read_is_told(
    tmp_path: Path, tensors: dict[str, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = save(tmp_path / "m", tensors)
    cases: list[tuple[Part, type[QfundError], str]] = [
        (Part(model, tensor="c.wieght"), UnknownName, "c.weight"),
        (Part(model, tensor="c.weight", row=300), InvalidInput, "rows 0 to 299"),
        (Part("no-such-model"), UnknownName, "pydoc-llama"),
        (Part("owner/name"), ModelNotFound, "not on this machine yet"),
        (Part(save(tmp_path / "n", {"ids": torch.arange(4)})), UnsupportedModel, "no matrix"),
    ]
    for part, kind, said in cases:
        with pytest.raises(kind) as caught:
            weights.read(part)
        assert said in str(caught.value)
    monkeypatch.setattr(weights, "MOST", 1000)
    with pytest.raises(InvalidInput, match="300 × 270 weights; at most 1,000"):
        weights.read(Part(model, tensor="c.weight", whole=True))
    assert weights.read(Part(model, tensor="c.weight")).values.size == TILE**2
    monkeypatch.setenv("QFUND_ALLOW", "")
    with pytest.raises(InvalidSpec, match="does not open"):
        weights.read(Part(model))


def test_a_downloaded_hub_model_is_read(
    tmp_path: Path, tensors: dict[str, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(save(tmp_path / "m", tensors))
    monkeypatch.setattr(hub, "downloaded", lambda name, revision: folder if revision == "main" else None)
    assert weights.read(Part("owner/name", revision="main")).tensor == "c.weight"
    with pytest.raises(ModelNotFound):
        weights.read(Part("owner/name"))


def test_what_is_downloaded_is_found_without_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "models--owner--name"
    snapshot = cache / "snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text("a" * 40)
    (snapshot / "config.json").write_text("{}")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert hub.downloaded("owner/name", None) == snapshot
    assert hub.downloaded("owner/name", "other") is None and hub.downloaded("owner/else", None) is None
