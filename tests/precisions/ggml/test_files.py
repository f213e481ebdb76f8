"""The shipped model as llama-quantize made it: the types of all tensors, their bytes, and the size of the file.

``pydoc_llama.json`` has, for the files that ggml 0.25.3 (b25.3, one thread, no importance matrix) wrote from an F32
file: the bytes of all tensors, and for each matrix its type and the first 16 hex digits of the SHA-256 of its first 32
rows, in the order of the checkpoint (llama.cpp permutes the rows of queries and keys).
"""

import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from qfund.checkpoints import catalog, checkpoint
from qfund.models import loading, skeleton
from qfund.precisions.precision import Precision
from qfund.precisions.quantizers.plan import plan_of, quantizers
from qfund.precisions.table import PRECISIONS

MADE: dict[str, Any] = json.loads((Path(__file__).parent / "pydoc_llama.json").read_text())
#: What llama-quantize calls a file → the row that foretells it.
ROWS = {
    "Q8_0": "q8_0",
    "Q6_K": "q6_k",
    "Q5_K_M": "q5_k_m",
    "Q4_K_M": "q4_k_m",
    "Q4_0": "q4_0_mix",
    "Q3_K_M": "q3_k_m",
    "Q2_K": "q2_k_mix",
    "IQ4_XS": "iq4_xs_mix",
}
FOLDER = catalog.CATALOG["pydoc-llama"].folder


@cache
def weights() -> dict[str, torch.Tensor]:
    return load_file(FOLDER / "model.safetensors")


def chosen(row: Precision) -> dict[str, Any]:
    """Name of a weight → what quantises it."""
    model = loading.frame(checkpoint.read(FOLDER), "float32", None)
    groups = plan_of(model, row).groups
    return {group[0].name: found for group, found in zip(groups, quantizers(model, row, groups), strict=True)}


@pytest.mark.parametrize("file", MADE)
def test_every_tensor_has_the_type_and_the_bytes_of_the_file(file: str) -> None:
    expected = MADE[file]["tensors"]
    found = {}
    for name, quantizer in chosen(PRECISIONS[ROWS[file]]).items():
        data = quantizer.quantize(weights()[name][:32])["data"]
        found[name] = [quantizer.name, hashlib.sha256(data.numpy().tobytes()).hexdigest()[:16]]
    assert found == expected


@pytest.mark.parametrize("file", MADE)
def test_the_size_is_foretold_to_the_byte(file: str) -> None:
    foretold = skeleton.predict(checkpoint.read(FOLDER), PRECISIONS[ROWS[file]])
    buffers = sum(row.bytes for row in foretold.tensors if row.kind == "buffer")  # no file has rotary frequencies
    assert foretold.bytes - buffers == MADE[file]["bytes"]
    run = skeleton.predict(checkpoint.read(FOLDER), PRECISIONS[f"{ROWS[file]}_inputs"])
    assert run.tensors == foretold.tensors
