"""The noise of a model that stays in memory: one way after the other when the candidates are done, and the same."""

import pytest

from qfund.features.compare.measure import streamed
from qfund.features.compare.measure.compare import compare
from qfund.features.compare.request.spec import Spec
from qfund.stream import streamed as walks
from qfund.stream.held.lanes import Lanes
from qfund.stream.walker import Walker
from tests.tiny.checkpoints import folder

TEXT = "one two three four five six seven eight nine ten eleven twelve " * 6


@pytest.mark.parametrize("name", ["llama", "bert-masked", "bert-classifier", "bert-encoder"])
@Lanes(1, 1).threaded()  # with more, models in memory are side by side, a part of the threads each
def test_it_is_what_a_walk_over_the_weights_gives(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = Spec(str(folder(name)), precisions=("bf16", "int8", "fp64"), text=TEXT, context=16, max_tokens=96)
    at_once: list[int] = []
    outputs = walks.Streamed._outputs

    def counted(self: walks.Streamed, batch: int, walkers: list[Walker]) -> dict[str, object]:
        at_once.append(len(walkers))
        return outputs(self, batch, walkers)

    monkeypatch.setattr(walks.Streamed, "_outputs", counted)
    held = compare(spec)
    assert held.whole is None and max(at_once) == 4 and at_once.count(1) >= len(held.noise) > 0
    monkeypatch.setattr(streamed, "HELD", 0)
    walked = compare(spec)
    assert held.noise == walked.noise and held.reference.fidelity == walked.reference.fidelity
    assert held.tokens == walked.tokens
    for one, other in zip(held.results, walked.results, strict=True):
        assert (one.fidelity, one.drift, one.chunks) == (other.fidelity, other.drift, other.chunks)
