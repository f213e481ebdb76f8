"""How long it takes, worked out by hand from what earlier comparisons took."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from qfund.core.processor import cpu_name
from qfund.features.compare.request import duration
from qfund.features.compare.request.costs import Costs
from qfund.features.compare.request.decision import Margin, decide
from qfund.features.compare.request.duration import Size, estimate
from qfund.features.compare.request.spec import Spec, checked
from tests.features.compare.reports import make_report
from tests.tiny.checkpoints import folder

SIZE = Size(parameters=1_000, vocabulary=100, context=512)
COSTS = Costs(
    cpu=cpu_name(),
    threads=2,
    device="cpu",
    parameters=1_000,
    vocabulary=100,
    context=512,
    opening=3.0,
    forward={"fp32": 0.01, "bf16": 0.02, "int8": 0.03},
    reading=6.0,
    ways=3,
    comparing=0.001,
    noise=0.05,
)
ASKED = Spec("a-model", precisions=("bf16", "int8"), max_tokens=16_384)


def test_by_hand() -> None:
    found = estimate(ASKED, SIZE, [COSTS])
    # 8 chunks of 512 are 4,096 tokens, then 6,144, 9,216, 13,824 and 16,384: five walks of 6 s, and 0.062 s a token.
    assert found.seconds == pytest.approx(3 + 5 * 6 + 16_384 * (0.06 + 2 * 0.001))
    assert found.first_tokens == 4096
    assert found.first == pytest.approx(3 + 2 * 6 + 4096 * 0.062)  # a round of one batch comes before
    assert found.measured


def test_another_size_is_scaled_and_pays_for_its_noise() -> None:
    twice = Size(parameters=2_000, vocabulary=50, context=512)
    found = estimate(replace(ASKED, max_tokens=1024), twice, [COSTS])
    assert found.seconds == pytest.approx(3 + 12 + 1024 * (0.12 + 2 * 0.0005) + 1024 * 2 * 0.05)


def test_a_precision_that_was_not_measured_takes_as_long_as_its_like() -> None:
    one = replace(ASKED, precisions=("int4",), max_tokens=1024)
    assert estimate(one, SIZE, [COSTS]).seconds == pytest.approx(3 + 4 + 1024 * (0.01 + 0.03 + 0.001))


def test_what_was_measured_elsewhere_or_of_a_wholly_other_size_says_nothing() -> None:
    for other in (replace(COSTS, cpu="another"), replace(COSTS, parameters=9_000), replace(COSTS, device="cuda")):
        assert not estimate(ASKED, SIZE, [other]).measured
    newest, older = replace(COSTS, opening=100.0), COSTS
    assert estimate(ASKED, SIZE, [newest, older]).seconds > 100


def test_what_a_minute_answers() -> None:
    # 3 + 6 + 512 · 0.062 is 41 s, and twice as many 73 s: all others take longer than a minute and a quarter.
    assert duration.quick(ASKED, SIZE, [COSTS]) == 1024
    assert duration.quick(ASKED, SIZE, [replace(COSTS, opening=1000.0)]) == duration.AMOUNTS[0]


def test_a_slow_model_reads_short_chunks_unless_somebody_chose_them() -> None:
    short = duration.with_short_chunks(ASKED, SIZE, [COSTS])
    assert short.context == 128 and estimate(short, SIZE, [COSTS]).first < 75
    chosen = replace(ASKED, context=512)
    assert duration.with_short_chunks(chosen, SIZE, [COSTS]) == chosen
    fast = replace(COSTS, forward=dict.fromkeys(COSTS.forward, 1e-4), comparing=1e-6)
    assert duration.with_short_chunks(ASKED, SIZE, [fast]).context is None


def test_more_tokens_ask_for_what_is_open_and_no_more_than_there_are() -> None:
    report = make_report()
    decisions = decide(report, Margin())
    assert duration.more(report, [row for row in decisions if row.state != "inconclusive"], Margin()) is None
    open_ = [replace(decisions[0], state="inconclusive", more_tokens=1000)]
    found = duration.more(report, open_, Margin(tokens=0.5))
    assert found is not None
    assert found.tokens == 1500 and found.spec.max_tokens == report.input.tokens + 1500
    assert found.spec.until == Margin(tokens=0.5) and checked(found.spec) == found.spec
    assert duration.more(report, [replace(open_[0], more_tokens=None)], Margin()) is None


def test_a_first_guess_knows_what_the_processor_multiplies_in(monkeypatch: pytest.MonkeyPatch) -> None:
    size = Size(parameters=1_000_000_000, vocabulary=32_000, context=512)
    asked = replace(ASKED, reference="bf16", precisions=("int8_bf16",))
    fast, slow = (
        (monkeypatch.setattr(duration, "multiplies_in", lambda dtype, there=there: there), estimate(asked, size, []))[1]
        for there in (True, False)
    )
    assert 8 < slow.seconds / fast.seconds < 0.1 + 8 / 0.6
    assert not slow.measured


def test_a_tokenizer_may_take_less_than_the_model(tmp_path: Path) -> None:
    shutil.copytree(folder("llama"), tmp_path / "model")
    path = tmp_path / "model" / "tokenizer_config.json"
    said = json.loads(path.read_text()) if path.is_file() else {}
    contexts = []
    for longest in (24, 10**30, "many"):
        path.write_text(json.dumps(said | {"model_max_length": longest}))
        found = duration.size_of(Spec(str(tmp_path / "model")))
        contexts.append(found and found.context)
    own = json.loads((tmp_path / "model" / "config.json").read_text())["max_position_embeddings"]
    assert contexts == [24, min(512, own), min(512, own)]
