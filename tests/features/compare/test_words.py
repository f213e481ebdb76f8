"""Sentences: what they say, and above all what they do not say."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest

from qfund.core.estimate import Estimate
from qfund.core.intervals import t_quantile
from qfund.core.metrics.histogram import Histogram
from qfund.core.tensors import DtypeShare, LeftModule
from qfund.drawing import numbers, phrases
from qfund.features.compare.request.decision import Finding, Margin, decide
from qfund.features.compare.request.listing import Headline
from qfund.features.compare.request.report import LibraryRun, PrecisionResult, Range, Report, Saturation
from qfund.features.compare.request.simultaneous import simultaneous
from qfund.features.compare.request.spec import Spec
from qfund.features.compare.words import candidates as candidates_words
from qfund.features.compare.words import damage, findings, footprints, headlines, libraries
from qfund.features.compare.words import report as report_words
from qfund.inputs.facts import TextFacts
from qfund.inputs.texts import SECOND_HALF
from qfund.precisions.table import PRECISIONS
from tests.features.compare.reports import make_report


@pytest.fixture
def report() -> Report:
    return make_report()


def share(value: float, se: float | None = 0.001, n: int = 16_384) -> Estimate:
    return Estimate(value, se, n, "share")


def changed(result: PrecisionResult, **fidelity: Estimate) -> PrecisionResult:
    return replace(result, fidelity=fidelity)


@pytest.mark.parametrize(
    ("candidate", "reference", "expected"),
    [
        (8_133_248, 16_266_368, "half the memory (7.76 MiB instead of 15.5 MiB)"),
        (250, 1000, "a quarter of the memory (250 B instead of 1000 B)"),
        (1000, 1000, "the same memory (1000 B)"),
        (999, 1000, "nearly the same memory (999 B instead of 1000 B)"),
        (350, 1000, "35 % of the memory (350 B instead of 1000 B)"),
        (2009, 8000, "a quarter of the memory (1.96 KiB instead of 7.81 KiB)"),
        (245, 1000, "24.5 % of the memory (245 B instead of 1000 B)"),
        (252, 1000, "25.2 % of the memory (252 B instead of 1000 B)"),
        (504, 1000, "50.4 % of the memory (504 B instead of 1000 B)"),
        (1500, 1000, "1.50 × the memory (1.46 KiB instead of 1000 B)"),
        (10, 0, "10 B"),
    ],
)
def test_memory_in_words(report: Report, candidate: int, reference: int, expected: str) -> None:
    result = replace(report.results[0], footprint_bytes=candidate)
    assert candidates_words.memory_phrase(result, replace(report.reference, footprint_bytes=reference)) == expected


@pytest.mark.parametrize(
    ("value", "low", "high", "expected"),
    [
        (1.0004, 1.0002, 1.0006, "perplexity × 1.00040 (1.00020 to 1.00060)"),
        (1.0002, 0.9999, 1.0005, "perplexity × 1.00020 (0.99990 to 1.00050), perhaps unchanged"),
        (0.99, 0.984, 0.996, "perplexity × 0.990 (0.984 to 0.996)"),
        (1.02, None, None, "perplexity × 1.0200 (too few chunks to judge)"),
        (float("inf"), None, None, "a perplexity that is not finite"),
    ],
)
def test_perplexity_has_changed_only_beyond_the_interval(
    value: float, low: float | None, high: float | None, expected: str
) -> None:
    found = Estimate(value, 0.001, 100, "×", low, high, 10)
    assert candidates_words.perplexity_phrase(found) == expected
    assert candidates_words.perplexity_phrase(Estimate(1.0, 0.0, 100, "×")) == "exactly the same perplexity"


@pytest.mark.parametrize("candidates", [1, 2, 43])
def test_every_form_of_a_change_of_perplexity_says_the_same(report: Report, candidates: int) -> None:
    """Ratio, difference and Δ NLL are one mean: hand-made ends of its interval, also where many are looked at."""
    mean, low, high, reference = 0.0028, -0.0004, 0.0060, 31.4

    def of(link: Callable[[float], float]) -> Estimate:
        return Estimate(link(mean), 0.001, 100, "", link(low), link(high), 10)

    result = changed(
        report.results[0],
        ln_perplexity_ratio=of(lambda end: end),
        perplexity_ratio=of(math.exp),
        perplexity=replace(of(math.exp), value=reference * math.exp(mean)),
        # As older results have it, from another interval that does not hold 0.
        perplexity_diff=Estimate(reference * math.expm1(mean), 0.04, 100, "", 0.01, 0.18, 10),
    )
    whole = replace(report, results=(result,) * candidates)
    found = simultaneous(whole, result)
    one = found["ln_perplexity_ratio"]
    assert one.low is not None and one.high is not None
    wider = t_quantile(1 - 0.025 / candidates, 9) / t_quantile(0.975, 9)
    assert (one.low, one.high) == pytest.approx((mean - (mean - low) * wider, mean + (high - mean) * wider))
    for name, link in (("perplexity_ratio", math.exp), ("perplexity_diff", lambda end: reference * math.expm1(end))):
        assert (found[name].low, found[name].high) == pytest.approx((link(one.low), link(one.high)))
    judged = next(f for f in decide(whole, Margin())[0].findings if f.metric == "perplexity_ratio").estimate
    assert (judged.low, judged.high) == pytest.approx((math.expm1(one.low), math.expm1(one.high)))


@pytest.mark.parametrize(("n", "se"), [(29, 0.001), (1, None)])
def test_a_few_positions_claim_no_change_of_perplexity(n: int, se: float | None) -> None:
    text = candidates_words.perplexity_phrase(Estimate(1.02, se, n, ""))
    assert text.startswith("perplexity × 1.0200") and text.endswith(f"(too few positions to judge: {n})")
    enough = Estimate(1.02, 0.001, candidates_words.ENOUGH, "", 1.01, 1.03, 10)
    assert "too few" not in candidates_words.perplexity_phrase(enough)


@pytest.mark.parametrize(
    ("value", "low", "high", "said"),
    [
        (-2.39e-8, -4e-8, 1e-9, "less than 0.001 %"),
        (9e-6, 8e-6, 9.9e-6, "less than 0.001 %"),
        (-2.39e-8, -4e-8, 1.1e-5, ""),  # the interval reaches further
        (0.0, 0.0, 0.0, ""),  # exactly the same
    ],
)
def test_a_perplexity_has_no_power_of_ten_in_a_sentence(value: float, low: float, high: float, said: str) -> None:
    finding = Finding("perplexity_ratio", Estimate(value, 1e-9, 99, "share", low, high, 9), 0.01, None, "within")
    assert findings.unchanged(finding) == said
    assert not said or findings.phrase(finding) == f"no change of perplexity: {said}"
    assert findings.unchanged(replace(finding, metric="top1_agreement")) == ""


def test_a_cosine_below_one_is_never_called_one() -> None:
    for gap in (0.3, 1e-3, 3e-7, 4e-12, 5e-15):
        for estimate in (
            Estimate(1 - gap, gap, 10, ""),
            Estimate(1 - gap, gap * 100, 10, ""),
            Estimate(1 - gap, 0.0, 9, ""),
        ):
            found = numbers.metric_text("hidden_cosine", estimate).partition(" ")[0]
            assert float(found) < 1
        assert float(numbers.cosine_text(1 - gap)) < 1
    assert numbers.metric_text("hidden_cosine", Estimate(1.0, 0.0, 9, "")).startswith("1")
    assert numbers.metric_text("kl_mean", Estimate(0.99999, 0.01, 9, "")) == "1.000 ± 0.010"


def test_a_reference_that_guesses_is_said_to_beside_every_verdict(report: Report) -> None:
    perplexity = {"perplexity": Estimate(3950.0, 10.0, 100, "")}
    guessing = replace(report.reference, fidelity=perplexity)
    for vocabulary, said in ((4096, True), (50_000, False), (0, False)):
        whole = replace(report, reference=guessing, model=replace(report.model, vocabulary=vocabulary))
        assert any("no better than chance" in alarm for alarm in candidates_words.reference_alarms(whole)) is said
        assert all(("no better than chance" in row.sentence) is said for row in decide(whole, Margin()))


def test_all_and_none_have_a_count_and_no_error() -> None:
    assert numbers.estimate_text(share(1.0, 0.0, 74)) == "100 (all of 74)"
    assert numbers.estimate_text(share(0.0, 0.0, 74)) == "0 (none of 74)"


def test_one_position_is_said_as_one(report: Report) -> None:
    for value, expected in (
        (1.0, "the same top token on the one position"),
        (0.0, "another top token on the one position"),
    ):
        result = changed(report.results[0], top1_agreement=share(value, None, 1))
        assert candidates_words.verdict(report, result).outputs == (expected,)


def stored(report: Report, **dtypes: int) -> Report:
    return replace(report, model=replace(report.model, checkpoint_dtypes=dtypes))


def test_what_the_checkpoint_stores_is_said_and_an_upcast_reference_too(report: Report) -> None:
    assert "stored as FP32" in report_words.provenance(report)
    assert report_words.notes(report) == report.input.notes
    half = stored(report, BF16=990, F32=5)
    assert "stored as BF16 ·" in report_words.provenance(half)
    assert report_words.notes(half)[-1] == (
        "The checkpoint is stored in BF16; FP32 is its upcast, so memory is said beside what is on disk."
    )
    bf16 = replace(half.results[0], footprint_bytes=498)
    assert candidates_words.verdict(half, bf16).memory == "half of what is on disk (498 B instead of 995 B)"
    whole = replace(bf16, footprint_bytes=995)
    assert candidates_words.verdict(half, whole).memory == "as much as on disk (995 B)"
    assert "stored as mixed BF16 and FP32" in report_words.provenance(stored(report, F32=20, BF16=980))
    assert report_words.notes(stored(report, F32=20, BF16=980)) == report.input.notes
    assert report_words.stored_phrase(stored(report)) == [] and report_words.notes(stored(report)) == report.input.notes


def test_what_was_quantized_besides_is_said(report: Report) -> None:
    also = replace(report, spec=replace(report.spec, also=("head", "embeddings")))
    said = "Quantised too: the output head and token and position embeddings."
    assert report_words.notes(also) == (*report.input.notes, said)
    assert report_words.notes(stored(also, BF16=990))[-2] == said
    casts = replace(also, results=also.results[:2])
    assert report_words.notes(casts) == report.input.notes, "nothing was quantised"


def test_a_card_says_which_weights_stay_wider(report: Report) -> None:
    fp16, int8 = report.results[1:]
    assert (
        candidates_words.arithmetic(fp16) == "Whole model in fp16: weights, activations and logits."
    )  # a buffer is no weight
    wide = {"float16": DtypeShare(100, 77), "float32": DtypeShare(6, 23)}
    assert candidates_words.arithmetic(replace(fp16, footprint_bytes=100, dtypes=wide)) == (
        "FP16 but for 23 % of the bytes in float32 (modules that transformers keeps)."
    )
    assert (
        candidates_words.arithmetic(int8) == "Weights are dequantised before each multiplication, which runs in fp32."
    )


def test_what_is_emulated_says_what_hardware_made_for_it_would_do(report: Report) -> None:
    mxfp4 = replace(report.results[2], precision="mxfp4")
    assert candidates_words.arithmetic(mxfp4).endswith(
        " Emulated here: GPUs made for it multiply MXFP4 themselves and round activations to it too; here only weights "
        "are."
    )


def test_the_sentence_of_a_language_model(report: Report) -> None:
    result = changed(
        replace(report.results[0], footprint_bytes=952),
        max_abs_logit_diff=Estimate(0.25, None, 16_384, "logit"),
        top1_agreement=share(0.99022, 0.00077),
        perplexity_ratio=Estimate(1.0004, 0.00009, 16_320, ""),
    )
    assert candidates_words.verdict(report, result).sentence == (
        "BF16: half the memory (952 B instead of 1.86 KiB), the same top token on 99.02 % of 16,384 positions, "
        "perplexity × 1.0004 (too few chunks to judge)."
    )


def test_all_and_none_are_said_in_words(report: Report) -> None:
    for value, expected in ((1.0, "on every one of 16,384 positions"), (0.0, "on none of 16,384 positions")):
        result = changed(report.results[0], top1_agreement=share(value, 0.0))
        assert expected in candidates_words.verdict(report, result).sentence


def test_equal_outputs_are_called_equal(report: Report) -> None:
    result = changed(
        report.results[0],
        max_abs_logit_diff=Estimate(0.0, None, 10, "logit"),
        top1_agreement=share(1.0, 0.0),
        perplexity_ratio=Estimate(1.0, 0.0, 10, ""),
    )
    assert candidates_words.verdict(report, result).outputs == ("exactly the same logits",)


def test_a_classifier_has_no_perplexity_and_no_tokens(report: Report) -> None:
    report = replace(report, tokens=None, input=replace(report.input, source="pictures"))
    result = changed(report.results[0], top1_agreement=share(0.875, 0.0861, 16), kl_mean=Estimate(0.1, 0.01, 16, "nat"))
    outputs = candidates_words.verdict(report, result).outputs
    assert outputs == ("the same top class on 88 % of 16 pictures",)


def test_an_encoder_is_judged_by_cosines(report: Report) -> None:
    report = replace(report, tokens=None)
    result = changed(
        report.results[0],
        mean_abs_hidden_diff=Estimate(0.01, 0.001, 10, ""),
        hidden_cosine=Estimate(0.9999712, 1e-6, 10, ""),
        pooled_cosine=Estimate(1.0, 0.0, 2, ""),
    )
    assert candidates_words.verdict(report, result).outputs == (
        "hidden states at a mean cosine of 0.9999712 to the reference's",
        "pooled output at 1",
    )


def test_what_is_not_finite_is_said_loudly(report: Report) -> None:
    some = replace(report.results[1], nonfinite_positions=3)
    assert candidates_words.verdict(report, some).alarms == (
        "FP16: 3 positions gave outputs that are not finite (NaN or infinity). "
        "They are counted here and left out of every other number. FP16 ends at 65,504: use BF16.",
    )
    assert "65,504" not in candidates_words.verdict(report, replace(some, precision="bf16")).alarms[0]
    none_left = replace(some, fidelity={})
    found = candidates_words.verdict(report, none_left)
    assert found.outputs == ("nothing that could be compared",)
    assert found.alarms[0].endswith("None is left to compare. FP16 ends at 65,504: use BF16.")
    assert candidates_words.verdict(report, report.results[0]).alarms == ()
    assert candidates_words.reference_alarms(replace(report, reference=some))


def seen(headroom: float, first: str | None = None, kind: str | None = None, modules: int = 0) -> Range:
    return Range(65504.0, 46_800.0, "model.layers.3.mlp.down_proj", headroom, first, kind, modules)


def test_the_module_where_what_is_not_finite_begins_is_named(report: Report) -> None:
    first = "model.layers.3.mlp.down_proj"
    fp16 = replace(report.results[1], range=seen(0.0, first, "Linear", 12))
    assert candidates_words.verdict(report, fp16).alarms == (
        "FP16: the first values that are not finite come out of model.layers.3.mlp.down_proj (Linear); 12 modules are "
        "affected. FP16 ends at 65,504: use BF16.",
    )
    outputs, begins = candidates_words.verdict(report, replace(fp16, nonfinite_positions=3)).alarms
    assert outputs.endswith("left out of every other number.") and begins.endswith("use BF16.")
    one = replace(fp16, precision="bf16", range=seen(0.0, first, None, 1))
    assert candidates_words.verdict(report, one).alarms == (
        f"BF16: the first values that are not finite come out of {first}; 1 module is affected.",
    )
    assert candidates_words.verdict(report, one).cautions == () and candidates_words.headroom_phrase(one) is None


def test_bf16_is_no_remedy_where_the_reference_is_not_finite_either(report: Report) -> None:
    first = "model.layers.3.mlp.down_proj"
    fp16 = replace(report.results[1], nonfinite_positions=3, range=seen(0.0, first, "Linear", 12))
    alike = replace(report.reference, nonfinite_positions=3, range=seen(0.0, first, "Linear", 9))
    later = replace(alike, range=seen(0.0, "lm_head", "Linear", 1))
    unknown = replace(alike, range=None)
    for reference, advised in ((alike, False), (unknown, False), (later, True), (report.reference, True)):
        said = candidates_words.verdict(replace(report, reference=reference), fp16).alarms[-1]
        assert said.endswith("use BF16.") == advised
        assert advised or said.endswith("12 modules are affected.")
    said = candidates_words.reference_alarms(replace(report, reference=replace(alike, precision="fp16")))[-1]
    assert said.endswith("use BF16."), "a reference in fp16 may overflow by itself"


@pytest.mark.parametrize(("bad", "said"), [(1, "1 value of its weights is"), (3000, "3,000 values of its weights are")])
def test_weights_that_are_not_finite_are_no_overflow(report: Report, bad: int, said: str) -> None:
    found = replace(seen(0.0, "model.norm", "RMSNorm", 2), bad_weights=bad)
    for precision in ("bf16", "fp16"):
        result = replace(report.results[1], precision=precision, range=found)
        (alarm,) = candidates_words.verdict(report, result).alarms
        assert alarm.endswith(f"2 modules are affected. {said} NaN or infinite.")


LEFT = (
    LeftModule("a", "Embedding", "an embedding: a look-up, not a multiplication (converted when asked for)"),
    LeftModule(
        "b", "Linear", "the output head: errors there go straight to the logits (converted when asked for: head)"
    ),
    LeftModule("c", "Embedding", "an embedding: a look-up, not a multiplication (converted when asked for)"),
)


def test_what_was_quantized_and_what_stays_is_told(report: Report) -> None:
    int8 = replace(report.results[2], converted=44, left=3, left_modules=LEFT)
    assert footprints.conversion_phrase(int8) == (
        "44 modules were quantised; 3 stay: an embedding (2), the output head (1)"
    )
    assert footprints.conversion_phrase(replace(int8, converted=1, left=0, left_modules=())) == "1 module was quantised"
    assert footprints.conversion_phrase(replace(int8, left=1, left_modules=())) == "44 modules were quantised; 1 stays"
    assert footprints.conversion_phrase(report.results[0]) is None
    many = tuple(LeftModule(str(index), "Linear", f"shares its weight with {index}") for index in range(9))
    assert str(footprints.conversion_phrase(replace(int8, left=9, left_modules=many))).endswith("other reasons (3)")


def test_what_else_is_worth_knowing_is_told_quietly(report: Report) -> None:
    bf16, fp16, int8 = report.results
    assert candidates_words.asides(bf16) == ()
    assert candidates_words.asides(replace(fp16, range=replace(seen(976.0), largest=67.1))) == (
        "Largest value 67.1 of 65,504 in model.layers.3.mlp.down_proj.",
    )
    assert candidates_words.asides(replace(fp16, range=seen(1.4))) == (), "that is a caution"
    assert candidates_words.asides(replace(fp16, range=seen(7e33))) == ()
    assert candidates_words.asides(replace(int8, precision="mxfp4", note="Both were quantised.")) == (
        "1 module was quantised; 1 stays: shares its weight with the embedding (1).",
        "Emulated here: GPUs made for it multiply MXFP4 themselves and round activations to it too; here only weights "
        "are.",
        "Both were quantised.",
    )


def test_notes_of_libraries_are_said_once(report: Report) -> None:
    noted = (LibraryRun("torchao", "1", "A()", 9, note="Stored unpacked."),)
    runs = tuple(replace(result, libraries=noted) for result in report.results[:2])
    assert libraries.library_notes(replace(report, results=(*runs, report.results[2]))) == [
        "BF16 and FP16 with torchao: Stored unpacked."
    ]


def test_why_nothing_was_compared_is_said(report: Report) -> None:
    assert report_words.nothing_compared(report).startswith("No position could be compared, so")
    broken = replace(report, reference=replace(report.reference, nonfinite_positions=1))
    assert report_words.nothing_compared(broken).startswith("No output is finite in both")


@pytest.mark.parametrize(("headroom", "said"), [(1.4, True), (1.99, True), (2.0, False), (7e33, False)])
def test_little_headroom_is_worth_a_word(report: Report, headroom: float, said: bool) -> None:
    result = replace(report.results[1], range=seen(headroom))
    assert candidates_words.verdict(report, result).alarms == ()
    assert bool(candidates_words.verdict(report, result).cautions) == said
    if headroom == 1.4:
        assert candidates_words.verdict(report, result).cautions == (
            "FP16 came within × 1.4 of its limit (46,800 of 65,504 in model.layers.3.mlp.down_proj).",
        )
        assert candidates_words.headroom_phrase(result) == (
            "The largest activation was 46,800 in model.layers.3.mlp.down_proj: 1.4 times that would still be finite."
        )
    if headroom > candidates_words.MUCH_HEADROOM:
        assert str(candidates_words.headroom_phrase(result)).endswith("mlp.down_proj: nowhere near its limit.")
    assert candidates_words.headroom_phrase(report.results[1]) is None


def test_weights_that_were_clipped_are_told_without_alarm(report: Report) -> None:
    clipped = replace(report.results[2], saturation=Saturation(3214, 4_066_560, "model.layers.0.q_proj"))
    found = candidates_words.verdict(report, replace(clipped, precision="mxfp4"))
    assert found.alarms == ()
    assert found.cautions == (
        "MXFP4: 0.08 % of the weights lie beyond the largest code and were clipped; inherent in power-of-two scales "
        "(others: NVFP4 or NF4).",
    )
    mxfp8 = candidates_words.verdict(report, replace(clipped, precision="mxfp8_bf16")).cautions
    assert mxfp8[0].endswith("power-of-two scales (others: FP8 with per-row scales).")
    one = candidates_words.verdict(report, replace(clipped, saturation=Saturation(1, 9, "a"))).cautions
    assert one == ("INT8 weight-only: 11 % of the weights lie beyond the largest code and were clipped, first in a.",)
    for count, of, said in ((9, 9, "100"), (1, 10**7, "less than 0.001"), (22154, 3538944, "0.6"), (1, 100, "1")):
        few = candidates_words.verdict(report, replace(clipped, saturation=Saturation(count, of, "a"))).cautions[0]
        assert few.startswith(f"INT8 weight-only: {said} % of the weights")


def test_times_are_said_only_as_far_as_the_error_allows() -> None:
    assert libraries.latency_phrase(None) == "not measured here"
    assert libraries.latency_phrase(Estimate(1.3, 0.02, 9, "×")) == "× 1.30 ± 0.02"
    assert libraries.latency_phrase(Estimate(0.97, 0.02, 9, "×")) == "no measurable difference (× 0.97 ± 0.02)"
    assert libraries.latency_phrase(Estimate(0.9, None, 1, "×")) == "× 0.9"


def test_why_a_library_could_not_run_is_said_once(report: Report) -> None:
    missing = (LibraryRun("bitsandbytes", "", "A()", problem="It is not installed."),)
    runs = tuple(replace(result, libraries=missing) for result in report.results[:2])
    good = replace(report.results[2], libraries=(LibraryRun("torchao", "1", "B()", 9),))
    assert libraries.library_problems(replace(report, results=(*runs, good))) == [
        "BF16 and FP16 with bitsandbytes: It is not installed."
    ]


def test_the_figure_that_people_know_is_explained_where_it_differs(report: Report) -> None:
    assert footprints.transformers_phrase(report.results) == ""
    other = replace(report.results[2], transformers_bytes=1)
    said = footprints.transformers_phrase((*report.results[:2], other))
    assert said.startswith("For INT8 weight-only the third figure is another one:")


def test_the_body_breaks_no_line_within_a_number(report: Report) -> None:
    for result in report.results:
        body = candidates_words.verdict(report, result).body
        assert " ±" not in body and "± " not in body and "× " not in body
        assert body[0].isupper() or body[0].isdigit()


def test_the_input_is_said_with_what_was_scored_of_it(report: Report) -> None:
    def said(spec: Spec, source: str = "text", texts: int = 0) -> str:
        named = tuple(TextFacts(str(number), "", 500, 2) for number in range(texts))
        facts = replace(report.input, source=source, tokens=1000, chunks=4, context=256, texts=named)
        return report_words.input_phrase(replace(report, spec=spec, input=facts))

    assert said(Spec("m")) == "own text of 1,000 tokens in 4 chunks of up to 256"
    assert said(Spec("m", stride=9)) == "own text of 1,000 tokens in 4 chunks of up to 256, one every 9 tokens"
    half = said(Spec("m", scoring=SECOND_HALF), "texts", 2)
    assert half == "2 own texts of 1,000 tokens in 4 chunks of 256, the second half of each scored"


def test_provenance_says_what_when_where_and_with_what(report: Report) -> None:
    text = report_words.provenance(report)
    for part in (
        "23 November 2026, 12:00 UTC",
        "torch 2.13.0+cpu",
        "AMD EPYC",
        "2 threads",
        "sha256:0000",
        "1 chunk of",
    ):
        assert part in text
    assert text.count("qfund") == 1


def test_titles_and_lists(report: Report) -> None:
    assert report_words.title(report) == "pydoc-llama: FP32 against BF16, FP16 and INT8 weight-only"
    assert phrases.listed(["a"]) == "a"
    assert phrases.listed(["a", "b"]) == "a and b"
    assert phrases.listed([]) == ""
    assert numbers.count_text(4_071_680) == "4.07 M"
    assert numbers.count_text(30) == "30"
    assert phrases.when("not a time") == "not a time"


def test_a_saved_row_says_only_what_there_is() -> None:
    full = Headline("bf16", 0.5, 1.13e-4, 0.9902, 1.0004)
    assert headlines.headline_numbers(full) == (
        "50 % of the memory, top-1 agreement 99.02 %, perplexity × 1.0004, KL 1.13e-4 nat"
    )
    assert headlines.headline_numbers(Headline("bf16", None, None, None, None)) == ""
    encoder = Headline("bf16", 0.5, None, None, None, hidden_cosine=0.9999998)
    assert headlines.headline_numbers(encoder) == "50 % of the memory, hidden-state cosine 0.999999800"


def test_a_gap_between_stored_and_predicted_is_explained(report: Report) -> None:
    result = report.results[0]
    assert footprints.gap_phrase(result) is None
    more = replace(result, predicted_bytes=result.footprint_bytes - 2048)
    assert footprints.gap_phrase(more) == "BF16 takes 2 KiB more than shapes alone predict."
    unforeseen = footprints.gap_phrase(replace(result, precision="stored", predicted_bytes=None))
    assert unforeseen == "As stored was not predicted: nothing foretells how a checkpoint was quantised."


def test_equal_outputs_are_counted(report: Report) -> None:
    histogram = report.results[0].differences
    assert histogram is not None
    whole = sum(histogram.counts) + histogram.zeros
    assert f"BF16 {100 * histogram.zeros / whole:.2g} %" in damage.equal_phrase(report)


def test_equal_outputs_of_many_are_a_range(report: Report) -> None:
    equal = Histogram(0.0, 1.0, (50,), 50), Histogram(0.0, 1.0, (99,), 1)
    results = [replace(report.results[0], precision=name, differences=equal[0]) for name in list(PRECISIONS)[:8]]
    few = replace(report, results=(*results, replace(report.results[2], differences=equal[1])))
    assert damage.equal_phrase(few).endswith("from 1 % (INT8 weight-only) to 50 % (FP64) of all outputs.")
