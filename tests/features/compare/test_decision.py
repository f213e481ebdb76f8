"""Decisions on reports whose intervals are made to measure."""

import math
from dataclasses import replace

import pytest

from qfund.core.estimate import Estimate
from qfund.features.compare.request.decision import STATES, Decision, Finding, Margin, _phrase, decide
from qfund.features.compare.request.noise_floor import noise_floor, relative_to_floor
from qfund.features.compare.request.report import NoiseRun, Report
from qfund.features.compare.request.simultaneous import simultaneous
from qfund.features.compare.request.spec import Spec
from tests.features.compare.reports import make_report


def share(value: float, low: float | None, high: float | None, blocks: int = 64) -> Estimate:
    return Estimate(value, 0.001, 10_000, "share", low, high, blocks if low is not None else 0)


def ratio(value: float, low: float | None, high: float | None, blocks: int = 64) -> Estimate:
    return replace(share(value, low, high, blocks), unit="×")


BF16 = {
    "max_abs_logit_diff": Estimate(0.3, None, 10_000, "logit"),
    "kl_mean": Estimate(1e-4, 1e-6, 10_000, "nat", 0.9e-4, 1.1e-4, 64),
    "top1_agreement": share(0.99, 0.988, 0.992),
    "perplexity_ratio": ratio(1.0004, 1.0001, 1.0007),
}
NOISE = {
    "kl_mean": Estimate(1e-12, 0, 10_000, "nat"),
    "top1_agreement": share(0.9999, None, None),
    "perplexity_ratio": ratio(0.99999, None, None),
    "logit_sqnr": Estimate(120, 0, 10_000, "dB"),
}


def report(fidelity: dict[str, Estimate], nonfinite: int = 0, noise: bool = True, candidates: int = 1) -> Report:
    names = ("bf16", "fp16", "int8")[:candidates]
    found = make_report(Spec("pydoc-llama", precisions=names))
    results = tuple(replace(row, fidelity=fidelity, nonfinite_positions=nonfinite) for row in found.results)
    louder = NOISE | {"kl_mean": Estimate(5e-13, 0, 10_000, "nat")}
    runs = (
        NoiseRun("threads", "", 10_000, NOISE),
        NoiseRun("batch", "", 10_000, louder),
        NoiseRun("fp64", "", 10_000, NOISE | {"kl_mean": Estimate(1.0, 0, 10_000, "nat")}),
    )
    facts = replace(found.input, tokens=10_000, chunks=40, context=256)
    return replace(found, results=results, noise=runs if noise else (), input=facts)


def one(
    fidelity: dict[str, Estimate], margin: Margin | None = None, nonfinite: int = 0, noise: bool = True
) -> Decision:
    (found,) = decide(report(fidelity, nonfinite, noise), margin or Margin())
    assert found.state in STATES and found.sentence.startswith("BF16 is ") and found.sentence.endswith(".")
    return found


def test_within() -> None:
    found = one(BF16)
    assert found.state == "within" and found.more_tokens is None
    perplexity, tokens = found.findings
    assert (perplexity.metric, tokens.metric) == ("perplexity_ratio", "top1_agreement")
    assert (perplexity.estimate.value, perplexity.estimate.low, perplexity.estimate.high) == pytest.approx(
        (0.0004, 0.0001, 0.0007)
    )
    assert (tokens.estimate.value, tokens.estimate.low, tokens.estimate.high) == pytest.approx((0.01, 0.008, 0.012))
    assert (perplexity.margin, perplexity.floor) == pytest.approx((0.01, 1e-5))
    assert found.sentence == (
        "BF16 is within your margin: perplexity +0.04 % (+0.01 to +0.07 %, margin 1 %) and top tokens changed "
        "1 % (0.8 to 1.2 %, margin 2 %)."
    )


def test_outside() -> None:
    found = one(BF16 | {"top1_agreement": share(0.95, 0.94, 0.96)})
    assert found.state == "outside"
    assert [finding.state for finding in found.findings] == ["within", "outside"]
    assert found.sentence == "BF16 is outside your margin: top tokens changed 5 % (4 to 6 %, margin 2 %)."


def test_a_better_perplexity_is_within() -> None:
    found = one(BF16 | {"perplexity_ratio": ratio(0.99, 0.985, 0.995)})
    assert found.state == "within"
    assert "perplexity −1 % (−1.5 to −0.5 %, margin 1 %)" in found.sentence


def test_inconclusive_says_how_many_more_tokens() -> None:
    """The bad end is 0.4 beyond the estimate and the margin 0.2: four times the tokens, so three times as many more."""
    found = one(BF16 | {"top1_agreement": share(0.982, 0.978, 0.986)})
    assert (found.state, found.more_tokens) == ("inconclusive", 30_000)
    assert found.sentence == (
        "BF16 is inconclusive, about 30,000 more tokens would decide: top tokens changed 1.8 % (1.4 to 2.2 %, "
        "margin 2 %)."
    )


def test_more_tokens_would_decide() -> None:
    """Shown by reading as many more: with errors as they shrink with √n, the decision is no longer inconclusive."""
    for value in (0.981, 0.985, 0.979, 0.9735):
        low, high = value - 0.008, value + 0.008
        found = one(BF16 | {"top1_agreement": share(value, low, high)})
        assert found.state == "inconclusive" and found.more_tokens is not None
        for factor, state in ((1.02, {"within", "outside"}), (0.9, {"inconclusive"})):
            more = 0.008 / math.sqrt(1 + factor * found.more_tokens / 10_000)
            again = one(BF16 | {"top1_agreement": share(value, value - more, value + more)})
            assert again.state in state


def test_an_estimate_on_the_margin_is_never_decided() -> None:
    found = one(BF16 | {"top1_agreement": share(0.75, 0.7, 0.8)}, Margin(tokens=0.25))
    assert (found.state, found.more_tokens) == ("inconclusive", None)
    assert "no number of tokens is sure to decide" in found.sentence


def test_none_of_many_shrinks_with_n() -> None:
    found = one(BF16 | {"top1_agreement": share(1.0, 0.96, 1.0)})
    assert (found.state, found.more_tokens) == ("inconclusive", 10_000)  # 4 % to 2 %


def test_too_few_chunks() -> None:
    few = report({name: replace(found, low=None, high=None, blocks=0) for name, found in BF16.items()})
    few = replace(few, input=replace(few.input, chunks=3, tokens=600))
    (found,) = decide(few, Margin())
    assert (found.state, found.more_tokens) == ("inconclusive", 1500)  # 8 · 256 − 600 = 1448
    assert "an interval takes 8 chunks or more, and there are 3" in found.sentence


def test_indistinguishable() -> None:
    like_noise = {
        "kl_mean": Estimate(2e-12, 1e-12, 10_000, "nat", 0.5e-12, 3e-12, 64),
        "top1_agreement": share(0.9998, 0.9995, 0.99995),
        "perplexity_ratio": ratio(1.0, 0.99998, 1.00002),
        "max_abs_logit_diff": Estimate(1e-5, None, 10_000, "logit"),
    }
    found = one(like_noise)
    assert found.state == "indistinguishable"
    assert found.sentence.startswith("BF16 is indistinguishable from FP32: perplexity 0 %")
    assert found.sentence.endswith("; no measurable difference.")
    # KL sees a difference though no margin is set on it: it is within, and not the same.
    assert one(like_noise | {"kl_mean": BF16["kl_mean"]}).state == "within"
    # Without a floor, only equality is no difference.
    assert one(like_noise, noise=False).state == "within"
    # So few tokens that the interval leaves the margin prove nothing.
    assert one(like_noise | {"top1_agreement": share(1.0, 0.9, 1.0)}).state == "inconclusive"


def test_equal_outputs_are_indistinguishable_however_few() -> None:
    same = {
        "max_abs_logit_diff": Estimate(0.0, None, 10, "logit"),
        "top1_agreement": Estimate(1.0, 0.0, 10, "share"),
        "perplexity_ratio": Estimate(1.0, 0.0, 10, "×"),
    }
    found = one(same, noise=False)
    assert (found.state, found.more_tokens) == ("indistinguishable", None)
    assert found.sentence == "BF16 is indistinguishable from FP32: every output is exactly the same."


def test_broken() -> None:
    assert one(BF16, nonfinite=1).sentence == (
        "BF16 is broken: outputs at 1 position are not finite (NaN or infinity)."
    )
    assert one({}).state == "broken"


def test_a_margin_on_kl() -> None:
    assert one(BF16, Margin(kl=2e-4)).state == "within"
    found = one(BF16, Margin(None, None, kl=1e-5))
    assert found.state == "outside"
    assert found.sentence == "BF16 is outside your margin: KL 1.00e-4 nat (9.00e-5 to 1.10e-4 nat, margin 1.00e-5 nat)."


def test_a_margin_that_nothing_answers() -> None:
    hidden = {"mean_abs_hidden_diff": Estimate(0.1, 0.01, 100, "", 0.09, 0.11, 20)}
    found = one(hidden)
    assert (found.state, found.findings, found.more_tokens) == ("inconclusive", (), None)
    assert "asks for nothing that these outputs have" in found.sentence


def test_many_candidates_make_intervals_wider() -> None:
    near = BF16 | {"top1_agreement": share(0.985, 0.9802, 0.9898)}
    assert one(near).state == "within"
    three = decide(report(near, candidates=3), Margin())
    assert [found.state for found in three] == ["inconclusive"] * 3
    assert [found.precision for found in three] == ["bf16", "fp16", "int8"]


def test_noise_floor_is_the_loudest_run_but_for_float64() -> None:
    found = report(BF16)
    floor = noise_floor(found)
    assert floor["kl_mean"] == 1e-12
    assert floor["top1_agreement"] == pytest.approx(1e-4)
    assert floor["logit_sqnr"] == pytest.approx(1e-6)
    assert noise_floor(report(BF16, noise=False)) == {}
    relative = relative_to_floor(found, found.results[0])
    assert relative["kl_mean"] == pytest.approx(1e8)
    assert relative["perplexity_ratio"] == pytest.approx(40)
    assert relative["max_abs_logit_diff"] is None


def test_an_encoder_is_judged_by_the_cosine_of_its_hidden_states() -> None:
    def cosine(value: float, low: float, high: float) -> dict[str, Estimate]:
        return {
            "max_abs_hidden_diff": Estimate(0.3, None, 10_000, ""),
            "hidden_cosine": Estimate(value, 1e-4, 10_000, "", low, high, 64),
        }

    near, far = one(cosine(0.9999, 0.9998, 0.99995)), one(cosine(0.8, 0.78, 0.82))
    assert near.sentence == (
        "BF16 is within your margin: hidden states' cosine 0.999900 (0.999800 to 0.9999500, margin 0.99)."
    )
    assert far.sentence == "BF16 is outside your margin: hidden states' cosine 0.800 (0.780 to 0.820, margin 0.99)."
    assert one(cosine(0.99, 0.985, 0.995)).state == "inconclusive"
    assert one(cosine(0.8, 0.78, 0.82), Margin(cosine=0.3)).state == "within"


def test_no_interval_of_a_share_goes_beyond_all() -> None:
    report = make_report()
    wide = replace(report.results[0].fidelity["top1_agreement"], value=0.9, low=0.6, high=1.0, blocks=8)
    fidelity = report.results[0].fidelity | {"top1_agreement": wide}
    among = simultaneous(report, replace(report.results[0], fidelity=fidelity))["top1_agreement"]
    assert among.low is not None and 0 <= among.low < 0.6 and among.high == 1


@pytest.mark.parametrize(
    ("value", "low", "high", "margin", "said"),
    [
        (-6.97e-6, -2e-4, 1.9e-4, 0.01, "perplexity under 0.01 % (−0.02 to +0.019 %, margin 1 %)"),
        (2e-6, -3e-5, 3e-5, 0.01, "perplexity under 0.01 % (0 to 0 %, margin 1 %)"),
        (2e-6, 1e-6, 3e-6, 1e-6, "perplexity +2.00e-4 % (+1.00e-4 to +3.00e-4 %, margin 1.00e-4 %)"),
    ],
)
def test_a_change_that_nobody_would_act_on_has_no_exponent(
    value: float, low: float, high: float, margin: float, said: str
) -> None:
    finding = Finding("perplexity_ratio", share(value, low, high), margin, None, "within")
    assert _phrase(make_report(Spec("dummy")), finding) == said
