"""Scores by gradients: Fisher's information by hand on a model of one layer, and the order that single swaps give."""

import pytest
import torch

from qfund.core.errors import OutOfBudget, UnsupportedModel
from qfund.features.layers import tables, words
from qfund.features.layers.measure.gradient import scores
from qfund.features.layers.measure.injected import layers
from qfund.features.layers.measure.opening import opening
from qfund.features.layers.measure.swapped import swaps
from qfund.features.layers.request.modules import Layers, LayersRequest
from qfund.features.layers.request.swaps import SwapsRequest
from qfund.models.cache import model_cache
from tests.tiny import checkpoints

TEXT = checkpoints.TEXT * 4


@pytest.fixture(scope="module")
def found() -> Layers:
    model = str(checkpoints.folder("llama"))
    return layers(LayersRequest(model, ("int8", "int4", "int2"), text=TEXT, context=16, gradient=True))


def test_they_foretell_what_swaps_cost(found: Layers) -> None:
    swapped = swaps(SwapsRequest(found.request.model, ("int8", "int4"), text=TEXT, context=16, part="module"))
    frame = tables.against(found, swapped)
    ranked = tables.rank_correlation(frame, "score")
    assert set(ranked) == {"int8", "int4"} and min(ranked.values()) > 0.7
    # Not the order alone: the sum over modules is that of single swaps within what one draw scatters.
    for _, rows in frame.groupby("precision"):
        assert 0.6 < rows["score"].sum() / rows["kl"].sum() < 1.7
    sentences = words.ranks(tables.rank_correlation(frame), ranked)
    assert len(sentences) == 2 and "gradients" in sentences[1]


def test_more_bits_cost_less_and_a_request_has_one_answer(found: Layers) -> None:
    for row in found.modules:
        eight, four, two = (row.injected[name].score for name in ("int8", "int4", "int2"))
        assert eight is not None and four is not None and two is not None and 0 < eight < four < two
    again = scores(opening(found.request, lambda *_: None), lambda *_: None)
    for row in found.modules:
        assert again[row.name, "int4"] == pytest.approx(row.injected["int4"].score, rel=1e-6)


def test_of_the_last_module_they_are_the_second_order_of_its_divergence() -> None:
    """The head's outputs are the logits z, where KL(softmax z ‖ softmax z + δ) is ½ Var_p(δ) to second order; over
    many positions one draw at each comes to that."""
    model = str(checkpoints.folder("llama"))
    request = LayersRequest(model, ("int8",), text=TEXT * 3, also=("head",), gradient=True)
    opened = opening(request, lambda *_: None)
    found = scores(opened, lambda *_: None)["lm_head", "int8"]
    with opened.opened.loaded(["fp32", "int8"], lambda _: None) as (reference, other):
        total, count = 0.0, 0
        for batch in opened.prepared.batches:
            with torch.inference_mode():
                hidden = reference.model.model(input_ids=batch.arguments["input_ids"]).last_hidden_state
                logits, moved = reference.model.lm_head(hidden), other.model.lm_head(hidden)
            chosen = torch.ones(logits.shape[:2], dtype=torch.bool) if batch.scored is None else batch.scored
            p, delta = logits[chosen].double().softmax(-1), (moved - logits)[chosen].double()
            mean = (p * delta).sum(-1, keepdim=True)
            total += float(0.5 * (p * (delta - mean) ** 2).sum())
            count += int(chosen.sum())
    assert count > 500 and found == pytest.approx(total / count, rel=0.3)


def test_without_being_asked_there_are_none() -> None:
    plain = layers(LayersRequest(str(checkpoints.folder("llama")), ("int4",), text=checkpoints.TEXT))
    assert all(row.injected["int4"].score is None for row in plain.modules)
    assert tables.injected(plain)["score"].isna().all()


@pytest.mark.parametrize("name", ["gpt2", "mixtral"])
def test_other_architectures(name: str) -> None:
    folder = str(checkpoints.folder(name))
    result = layers(LayersRequest(folder, ("int4",), text=checkpoints.TEXT[:200], max_tokens=64, gradient=True))
    held = [row.injected["int4"].score for row in result.modules]
    assert held and all(value is not None and value >= 0 for value in held) and any(held)


def test_pictures_are_classified() -> None:
    result = layers(LayersRequest(str(checkpoints.folder("vit-classifier")), ("int4",), max_tokens=64, gradient=True))
    assert all((row.injected["int4"].score or 0) > 0 for row in result.modules)


def test_what_cannot_go_backward_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnsupportedModel, match="no gradient"):
        layers(LayersRequest(str(checkpoints.folder("bert-encoder")), ("int4",), text="The fox.", gradient=True))
    request = LayersRequest(str(checkpoints.folder("llama")), ("int4",), text="The fox.", gradient=True)
    opened = opening(request, lambda *_: None)
    monkeypatch.setattr(model_cache(), "budget", 1)
    with pytest.raises(OutOfBudget, match="whole model in memory"):
        scores(opened, lambda *_: None)
