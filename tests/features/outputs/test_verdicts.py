"""Verdicts of embeddings and classes, on numbers made by hand."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from qfund.core.environment import Environment
from qfund.features.outputs.request import embeddings
from qfund.features.outputs.request.classes import SOFTMAX, Classes, ClassesRequest, Item
from qfund.features.outputs.request.embeddings import Embedded, Embeddings, EmbeddingsRequest
from qfund.features.outputs.request.verdicts import Margin, verdict
from tests.features.outputs.generations import make_embeddings


def embedded(noise: float, count: int = 24, candidates: tuple[str, ...] = ("bf16",)) -> Embeddings:
    draws = np.random.default_rng(0)
    vectors = draws.normal(size=(count, 64))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    other = vectors + noise * draws.normal(size=vectors.shape) / 8
    other = other / np.linalg.norm(other, axis=1, keepdims=True) if noise else vectors

    def similarity(rows: NDArray[np.float64]) -> tuple[tuple[float | None, ...], ...]:
        return tuple(tuple(row) for row in (rows @ rows.T).tolist())

    request = EmbeddingsRequest("m", precisions=candidates, texts=tuple(f"text {n}" for n in range(count - 1)))
    candidate = Embedded(similarity(other), tuple((vectors * other).sum(1).tolist()))
    rows = dict.fromkeys(candidates, candidate)
    return Embeddings(
        1, request, "", environment(), "BertModel", "text encoder", "", 64, Embedded(similarity(vectors)), rows
    )


def environment() -> Environment:
    return make_embeddings().environment


def test_the_three_states_of_embeddings() -> None:
    near, far = verdict(embedded(0.002), "bf16", Margin()), verdict(embedded(0.5), "bf16", Margin())
    assert near.state == "within" and near.sentence.startswith("BF16 is within your margin: cosine 0.9999")
    assert "pairs of neighbours in another order" in near.sentence and "margin 2 %" in near.sentence
    assert far.state == "outside" and all(finding.state == "outside" for finding in far.findings)
    assert verdict(embedded(0), "bf16", Margin()).state == "indistinguishable"
    found = embedded(0.1)
    loss = 1 - float(np.mean([value for value in found.candidates["bf16"].cosine if value is not None]))
    assert verdict(found, "bf16", Margin(loss, 1)).state == "inconclusive"
    assert verdict(found, "bf16", Margin(2, 1)).state == "within"
    few = verdict(embedded(0.002, 5), "bf16", Margin())
    assert few.state == "inconclusive" and "an interval takes 8 or more, and there are 5" in few.sentence
    one = verdict(found, "bf16", Margin()).findings[0].estimate
    among = verdict(embedded(0.1, candidates=("bf16", "fp16", "int8")), "bf16", Margin()).findings[0].estimate
    assert one.low is not None and among.low is not None and one.value == among.value and among.low < one.low


def test_what_is_not_finite_is_broken() -> None:
    found = embedded(0.1)
    row = found.candidates["bf16"]
    broken = replace(found, candidates={"bf16": replace(row, cosine=(None, *row.cosine[1:]))})
    assert verdict(broken, "bf16", Margin()).state == "broken"


def test_pairs_in_another_order_are_counted_by_hand() -> None:
    found = embedded(0.4, 6)
    one, other = (np.array(part.similarity, float) for part in (found.reference, found.candidates["bf16"]))
    expected = []
    for query in range(6):
        rest = [n for n in range(6) if n != query]
        pairs = [(a, b) for a in rest for b in rest if a < b]
        expected.append(
            sum((one[query, a] < one[query, b]) != (other[query, a] < other[query, b]) for a, b in pairs) / len(pairs)
        )
    assert embeddings.reordered(found, "bf16") == pytest.approx(expected)


@pytest.mark.parametrize(("flips", "state"), [(0, "within"), (200, "outside"), (8, "inconclusive")])
def test_flips_of_classes(flips: int, state: str) -> None:
    def item(number: int) -> Item:
        chosen: dict[str, tuple[str, ...]] = {"fp32": ("a",), "bf16": ("b" if number < flips else "a",)}
        values: dict[str, tuple[float, ...]] = dict.fromkeys(chosen, (0.6, 0.4))
        return Item(f"text {number}", ("a", "b"), values, chosen, 1.0, {"bf16": 0.01})

    request = ClassesRequest("m", precisions=("bf16",))
    items = tuple(map(item, range(400)))
    found = Classes(1, request, "", environment(), "B", "sequence classifier", "text", SOFTMAX, 2, items)
    assert verdict(found, "bf16", Margin()).state == state
    assert "other classes" in verdict(found, "bf16", Margin()).sentence
