"""Types of GGUF files with an importance matrix, as llama-quantize made the shipped model with one.

The importance of ``importance()`` was written as a GGUF file and given to llama-quantize (ggml 0.25.3, one thread) with
an F32 file; ``MADE`` has the start of the SHA-256 of the first 32 rows of all its matrices, in the checkpoint's order
(llama.cpp permutes the rows of queries and keys).
"""

import hashlib
from typing import Any

import numpy as np
import pytest
import torch

from qfund.checkpoints import checkpoint
from qfund.core.errors import UnsupportedModel
from qfund.models import loading
from qfund.precisions.gguf_names import gguf_name
from qfund.precisions.importance import Importance
from qfund.precisions.precision import Precision
from qfund.precisions.quantizers.ggml.weighted import Weighted, weighted
from qfund.precisions.quantizers.plan import plan_of, quantizers
from qfund.precisions.table import PRECISIONS
from tests.precisions.ggml.test_files import chosen, weights
from tests.tiny.checkpoints import folder

#: By row; pure ones of the files of that name.
MADE = {
    "q8_0": "9e10e950d9e4b87b",
    "q6_k": "3e78b1b6fc0429ec",
    "q5_k_m": "27058930cca95004",
    "q4_k_m": "f88d77f5e527cc4e",
    "q4_k_s": "bd2cb52a1c5947b6",
    "q4_0_mix": "f44e5d3f2988905a",
    "q3_k_m": "11a950a52884b6ea",
    "q2_k_mix": "f6cf95e281338e1f",
    "iq4_xs_mix": "2bbb575d0f5e01f8",
    "q5_0": "2c8cc7c85897e77e",
    "q4_1": "0cd8afb0792fd68b",
    "q5_1": "533cd5f3f146da41",
    "iq4_nl": "2d0c3f0f756b91af",
}


def means(name: str, columns: int) -> "np.ndarray[tuple[int], np.dtype[np.float32]]":
    """Of the inputs of a weight: numbers of four powers of ten, and some of zero."""
    places = np.arange(columns, dtype=np.int64) * 7919 + sum(name.encode()) * 104729
    return ((places % 1009) / 1009.0).astype(np.float32) ** 4


def importance() -> Importance:
    names = {gguf_name(name): weight.shape for name, weight in weights().items() if weight.dim() == 2}
    return Importance(
        "made", {str(name): means(str(name), shape[1]) for name, shape in names.items() if "blk" in str(name)}
    )


@pytest.mark.parametrize("row", MADE)
def test_every_matrix_has_the_bytes_of_the_file(row: str) -> None:
    digest = hashlib.sha256()
    for name, quantizer in chosen(weighted(PRECISIONS[row], importance())).items():
        if name != "model.embed_tokens.weight":  # of which nothing is known, and pure rows have no head of its own type
            digest.update(quantizer.quantize(weights()[name][:32])["data"].numpy().tobytes())
    assert digest.hexdigest()[:16] == MADE[row]


def test_experts_have_an_importance_each() -> None:
    model = loading.frame(checkpoint.read(folder("mixtral")), "float32", None)
    row = PRECISIONS["q4_0"]
    experts = model.config.num_local_experts
    generator = np.random.default_rng(3)
    entries, places = {}, {}
    for group in plan_of(model, row).groups:
        weight = model.get_parameter(group[0].name)
        name = str(gguf_name(group[0].name))
        places[name] = group[0].name
        shape = (experts, weight.shape[-1]) if weight.dim() > 2 else weight.shape[-1:]
        entries[name.replace("gate_up", "gate")] = generator.random(shape, np.float32).reshape(-1)
    found = chosen_of(model, weighted(row, Importance("made", entries)))
    gate = next(quantizer for name, quantizer in found.items() if "gate_up_proj" in name)
    assert isinstance(gate, Weighted) and len(gate.given) == experts and not gate.by_rows(32)
    values = torch.randn(experts * 4, gate.given.shape[1], generator=torch.Generator().manual_seed(1))
    together = gate.quantize(values)["data"]
    for number in range(experts):
        alone = Weighted(gate.name, gate.given[number : number + 1], "one")
        rows = slice(4 * number, 4 * number + 4)
        assert torch.equal(together[rows], alone.quantize(values[rows])["data"])
    some = next(name for name, place in places.items() if "gate_up_proj" in place).replace("gate_up", "gate")
    for wrong in (entries | {some: entries[some][1:]}, {"blk.0.nothing.weight": np.ones(4, np.float32)}):
        with pytest.raises(UnsupportedModel, match="importance matrix"):
            chosen_of(model, weighted(row, Importance("wrong", wrong)))


def chosen_of(model: Any, row: Precision) -> dict[str, Any]:
    groups = plan_of(model, row).groups
    return {group[0].name: found for group, found in zip(groups, quantizers(model, row, groups), strict=True)}
