"""Every format, unpacked bit for bit as its library does it, or as its description says: all of it, and any rows."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from torch import Tensor

from qfund.checkpoints.wild.quantized_file import QuantizedFile
from qfund.checkpoints.wild.table import open_file
from tests.checkpoints.wild.packed import folders
from tests.checkpoints.wild.packed.formats import CASES

ARCHITECTURES = ("llama", "qwen3", "gemma2", "phi", "gpt2", "opt", "gpt-neox", "mixtral")
#: On every architecture; the others on one.
EVERYWHERE = (
    *("gptq-4", "awq", "ct-int4", "ct-w8a8", "ct-nvfp4"),
    *("fp8-blocks", "nf4-nested", "ao-int8", "hqq-4", "mlx-4"),
)
Made = Callable[[str, str], tuple[QuantizedFile, dict[str, Tensor]]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Format, architecture → the folder opened, and what its tensors stand for."""

    @cache
    def make(name: str, architecture: str) -> tuple[QuantizedFile, dict[str, Tensor]]:
        folder: Path = tmp_path_factory.mktemp("packed") / name
        values = folders.write(architecture, CASES[name], folder)
        return open_file(folder), values

    return make


@pytest.mark.parametrize(
    ("name", "architecture"),
    [(name, "llama-untied") for name in CASES]
    + [(name, architecture) for name in EVERYWHERE for architecture in ARCHITECTURES],
)
def test_every_tensor_is_what_the_format_says(name: str, architecture: str, made: Made) -> None:
    found, values = made(name, architecture)
    assert set(found.tensors) == set(values)
    for key, tensor in found.tensors.items():
        expected = values[key].numpy()
        assert tensor.shape == expected.shape
        np.testing.assert_array_equal(tensor.values(), expected, err_msg=key)
    assert {tensor.type for tensor in found.tensors.values() if tensor.quantized} == {CASES[name].type}


@pytest.mark.parametrize("name", list(CASES))
def test_any_rows_are_those_of_the_whole(name: str, made: Made) -> None:
    for tensor in made(name, "llama-untied")[0].tensors.values():
        whole = tensor.values()
        for first, last in ((0, 1), (3, 10), (tensor.rows - 3, tensor.rows), (1, tensor.rows), (5, 5)):
            np.testing.assert_array_equal(tensor.decode(first, last), whole[first:last])


@pytest.mark.parametrize("name", list(CASES))
def test_the_bytes_are_those_of_the_file(name: str, made: Made) -> None:
    found, _ = made(name, "llama-untied")
    raw = (found.path / "model.safetensors").read_bytes()
    assert found.bytes == len(raw)
    assert sum(tensor.bytes for tensor in found.tensors.values()) == len(raw) - 8 - int.from_bytes(raw[:8], "little")
