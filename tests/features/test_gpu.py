"""Features on a GPU that is simulated (``tests.simulated_gpu``): they run, nothing of two devices is mixed, and answers
are the processor's."""

import math
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
import pytest

from qfund.features.compare.measure import streamed
from qfund.features.compare.measure.compare import compare
from qfund.features.compare.request.spec import Spec
from qfund.features.kv.measure.kv import kv
from qfund.features.kv.request import KvRequest
from qfund.features.layers.measure.injected import layers
from qfund.features.layers.measure.swapped import swaps
from qfund.features.layers.request.modules import LayersRequest
from qfund.features.layers.request.swaps import SwapsRequest
from qfund.features.outputs.measure.generate import generate
from qfund.features.outputs.request.generation import GenerationRequest
from qfund.stream import head
from tests.simulated_gpu import simulated

#: Told of the machine, how long things took, and what is nothing but rounding.
_OTHERWISE = {"created", "environment", "costs", "seconds", "forward_seconds", "load_seconds", "latency", "noise"}


def differences(one: Any, other: Any, at: str = "") -> Iterator[str]:
    """Where two results differ by more than products of other strides do."""
    if is_dataclass(one) and type(one) is type(other):
        for field in fields(one):
            if field.name not in _OTHERWISE:
                yield from differences(getattr(one, field.name), getattr(other, field.name), f"{at}.{field.name}")
    elif isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        for key in one:
            yield from differences(one[key], other[key], f"{at}[{key}]")
    elif isinstance(one, tuple | list) and isinstance(other, tuple | list) and len(one) == len(other):
        for number, (mine, yours) in enumerate(zip(one, other, strict=True)):
            yield from differences(mine, yours, f"{at}[{number}]")
    elif isinstance(one, np.ndarray):
        yield from [] if np.allclose(one, other, 1e-4, 1e-6, equal_nan=True) else [at]
    elif isinstance(one, float) and isinstance(other, float):
        if not (math.isclose(one, other, rel_tol=1e-4, abs_tol=1e-6) or (math.isnan(one) and math.isnan(other))):
            yield f"{at}: {one} {other}"
    elif one != other:
        yield f"{at}: {one} {other}"


PRECISIONS = ("bf16", "fp16", "int8", "int8_dynamic", "fp8_dynamic", "nf4", "q4_0")
CASES: dict[str, Callable[[], Any]] = {
    "tokens": lambda: compare(Spec("dummy", precisions=PRECISIONS, max_tokens=64)),
    "labels": lambda: compare(Spec("docstring-kinds", precisions=("int8",), text="A function. A class.")),
    "hidden states": lambda: compare(Spec("docstring-vectors", precisions=("int8",), text="A function. A class.")),
    "caches": lambda: kv(KvRequest("pydoc-llama", ("int8", "q4_0"), max_tokens=16)),
    "layers": lambda: swaps(SwapsRequest("dummy", max_tokens=32)),
    "gradients": lambda: layers(LayersRequest("dummy", max_tokens=32, gradient=True)),
    "texts": lambda: generate(
        GenerationRequest("pydoc-llama", precisions=("bf16",), prompts=("def",), max_new_tokens=3, temperature=0.5)
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_answers_are_the_processors(name: str) -> None:
    expected = CASES[name]()
    with simulated() as asked:
        found = CASES[name]()
    assert not list(differences(expected, found))
    assert "synchronize" in asked or name in ("caches", "texts", "layers", "gradients"), (
        "seconds of what has not been waited for"
    )


@pytest.mark.parametrize("tiles", [False, True])
def test_a_walk_over_a_checkpoint(tiles: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streamed, "HELD", 0)
    if tiles:
        monkeypatch.setattr(head, "WHOLE", 16)
        monkeypatch.setattr(head, "TILE", 256)
    spec = Spec("dummy", precisions=("bf16", "int8"), max_tokens=64)
    expected = compare(spec)
    with simulated():
        assert not list(differences(expected, compare(spec)))
