"""The table of the nine questions: its code runs and prints what was measured, its figures come out, its guesses are
judged by hand-made numbers."""

import ast
import contextlib
import io
import re
from dataclasses import replace
from pathlib import Path

import pytest

from qfund.checkpoints.catalog import CATALOG
from qfund.core.estimate import Estimate
from qfund.core.feature import lazily
from qfund.features.compare.request.report import LibraryRun, Report
from qfund.features.compare.request.spec import Spec
from qfund.features.lesson import figures as lesson_figures
from qfund.features.lesson import link
from qfund.features.lesson import tables as lesson_tables
from qfund.features.lesson import words as lesson_words
from qfund.features.lesson.request import published, questions
from qfund.features.lesson.request.notebook import Notebook
from qfund.features.lesson.request.published import CourseFigure
from qfund.features.lesson.request.questions import PREDICTIONS, QUESTIONS, Asked, snippet
from qfund.features.lesson.words import TRUTHS
from qfund.features.memory.request.load_peak import LoadPeaks
from qfund.features.memory.request.plan import Plan
from tests.engine.shipping import ships
from tests.features.compare.reports import make_report
from tests.features.memory.plans import PLAN, make_peaks
from training import course

ROOT = Path(__file__).resolve().parents[3]
ARCHITECTURES = {
    "dummy": "DummyModel",
    "pydoc-llama": "LlamaForCausalLM",
    "shapes-blip": "BlipForConditionalGeneration",
    "docstring-kinds": "DistilBertForSequenceClassification",
    "docstring-vectors": "DistilBertModel",
}


def the_lesson(model: str) -> Notebook:
    found = ships(Asked(model).lesson)
    assert isinstance(found, Notebook)
    return found


def the_plan(model: str) -> Plan:
    found = ships(Asked(model).plan)
    assert isinstance(found, Plan)
    return found


def test_nine_questions_in_the_lesson_s_order() -> None:
    assert list(QUESTIONS) == [
        *("dtypes", "cast", "inference", "deepcopy", "outputs"),
        *("footprint", "loading", "linear", "savings"),
    ]
    for question in QUESTIONS.values():
        assert callable(lazily(question.evidence))
        assert questions.source(question.snippet)
        assert len(question.answer) < 520, "short"
    files = {path.stem for path in (ROOT / "qfund/features/lesson/snippets").glob("*.py")} - {"__init__"}
    assert files == {question.snippet for question in QUESTIONS.values()}
    assert PREDICTIONS.keys() == TRUTHS.keys()
    ids = {figure.id for figure in published.load().figures}
    assert {prediction.course for prediction in PREDICTIONS.values() if prediction.course} <= ids
    assert {figure.question for figure in published.load().figures} <= QUESTIONS.keys()


@pytest.fixture
def at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """Snippets name the shipped models as seen from the project's folder."""
    monkeypatch.chdir(ROOT)


def printed(name: str, model: str) -> str:
    """What exactly the code that the page shows prints."""
    code = snippet(QUESTIONS[name].snippet, Asked(model), ARCHITECTURES[model])
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        exec(compile(code, f"<{name}>", "exec"), {"__name__": "__main__"})
    return output.getvalue()


def numbers(text: str) -> list[float]:
    return [float(found.replace(",", "")) for found in re.findall(r"-?\d[\d,]*(?:\.\d+)?(?:e-?\d+)?", text)]


pytestmark = pytest.mark.usefixtures("at_home")


@pytest.mark.parametrize("model", CATALOG)
def test_code_prints_dtypes(model: str) -> None:
    lines = printed("dtypes", model).splitlines()
    found = the_lesson(model)
    assert len(lines) == sum(row.tensors for row in found.before)
    for row in found.listed:
        assert f"torch.{row.before}" in next(line for line in lines if re.match(rf"{re.escape(row.name)}\b", line))


@pytest.mark.parametrize("model", CATALOG)
def test_code_casts(model: str) -> None:
    cast = the_lesson(model).cast
    assert numbers(printed("cast", model)) == [cast.rounded, cast.weights, cast.lost]


def test_code_runs_in_three_dtypes() -> None:
    lines = printed("inference", "dummy").splitlines()
    outputs = the_lesson("dummy").outputs
    for line, output in zip(lines, outputs, strict=True):
        dtype, _, values = line.partition(": ")
        assert dtype == f"torch.{output.returned}"
        assert ast.literal_eval(values) == pytest.approx(list(output.values), abs=1e-6)
    assert "torch.float16" in printed("inference", "pydoc-llama")


@pytest.mark.parametrize("model", CATALOG)
def test_code_copies(model: str) -> None:
    assert printed("deepcopy", model) == (
        "cast in place: True, the second name is torch.bfloat16\nwith a copy: torch.float32 beside torch.bfloat16\n"
    )


def test_code_compares_outputs() -> None:
    mean, largest, same = numbers(printed("outputs", "dummy"))
    low = the_lesson("dummy").outputs[1]
    assert (mean, largest) == pytest.approx((low.mean, low.largest), rel=1e-3) and same == 100
    assert numbers(printed("outputs", "pydoc-llama"))[0] > 0


@pytest.mark.parametrize("model", CATALOG)
def test_code_counts_the_footprint(model: str) -> None:
    plan = the_plan(model)
    *_, ratio = numbers(printed("footprint", model))
    entry = lesson_words.entry(plan, "bf16")
    assert entry is not None and ratio == pytest.approx(entry.ratio, rel=1e-9)
    assert f"{plan.fp32_bytes:,} bytes" in printed("footprint", model)


@pytest.mark.parametrize("model", CATALOG)
def test_code_loads_directly_and_casts(model: str) -> None:
    text, found = printed("loading", model), the_lesson(model)
    assert f"direct: {found.direct.bytes:,} bytes" in text
    assert f"cast afterwards: {found.cast.bytes_before:,} bytes had to fit, for {found.cast.bytes_after:,}" in text
    assert "bit for bit: True" in text and all(name in text for name in found.direct.different)


@pytest.mark.parametrize("model", CATALOG)
def test_code_quantizes_linearly(model: str) -> None:
    steps, relative, *_ = (numbers(line)[-1] for line in printed("linear", model).replace("INT8", "").splitlines())
    lines = printed("linear", model).splitlines()
    assert "at most 0.500 steps off" in lines[0] and steps == 0.5
    assert 0 < float(re.findall(r"0\.\d+", lines[1])[0]) <= 2**-8 and relative
    means = [[float(value) for value in re.findall(r"\d\.\de-\d+", line)] for line in lines[2:]]
    (small_int, _), (small_float, large_float) = means
    if model == "pydoc-llama":  # four weights have no halves to speak of
        assert small_float < large_float, "a float's error follows the weight"
        assert small_int > 5 * small_float


@pytest.mark.parametrize("model", ["dummy", "pydoc-llama"])  # of a captioner the page says that it wants pictures
def test_code_saves_bytes_and_measures_time(model: str) -> None:
    first, second = printed("savings", model).splitlines()
    before, after, times = numbers(first)
    plan = the_plan(model)
    entry = lesson_words.entry(plan, "int8")
    assert entry is not None and before == plan.fp32_bytes
    # torchao stores a zero-point of one byte for each symmetric scale beside what qfund stores.
    scales = entry.parts["scales"] // 4
    assert after == entry.predicted_bytes + scales and times == pytest.approx(before / after, abs=0.005)
    assert numbers(second)[-2 if "FP32" in second else -1] > 0


def test_code_for_other_models_is_code_for_them() -> None:
    code = snippet("dtypes", Asked("org/name", "v1"), "BertForMaskedLM")
    assert 'BertForMaskedLM.from_pretrained("org/name", revision="v1", dtype=' in code
    assert "from transformers import BertForMaskedLM" in code and "Dummy" not in code
    for name in {question.snippet for question in QUESTIONS.values()}:
        ast.parse(snippet(name, Asked("org/name", "v1"), "BertForMaskedLM"))


@pytest.mark.parametrize(
    ("model", "architecture"),
    [('x"); import os #', "LlamaForCausalLM"), ("org/name", "X; import os"), ("org/name", "Ünsafe()"), ("a\nb", "")],
)
def test_what_a_stranger_named_is_no_code(model: str, architecture: str) -> None:
    tree = ast.parse(snippet("dtypes", Asked(model), architecture))
    imports = [name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names]
    assert imports == ["torch"]
    strings = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and node.value == model]
    assert strings, "the name is one string"


# The course's figures.


@pytest.fixture(scope="module")
def anew() -> dict[str, CourseFigure]:
    return {figure.id: figure for figure in course.compute().figures}


def test_the_course_s_figures_are_what_comes_out(anew: dict[str, CourseFigure]) -> None:
    """Fails while published.json is out of date: run python -m training.course."""
    shown = {figure.id: figure for figure in published.load().figures}
    assert shown.keys() == anew.keys()
    for name, figure in shown.items():
        if name in ("mean_difference", "logit_0", "logit_1", "largest_difference"):  # other processors add otherwise
            assert isinstance(anew[name].now, float) and figure.now == pytest.approx(anew[name].now, abs=1e-7)
            assert replace(figure, now=0) == replace(anew[name], now=0)
        else:
            assert figure == anew[name]


def test_how_they_compare(anew: dict[str, CourseFigure]) -> None:
    verdicts = {name: figure.verdict for name, figure in anew.items()}
    for name in ("third_float32", "third_float16", "third_bfloat16", "logit_0", "logit_1", "largest_difference"):
        assert verdicts[name] == "exactly"
    for name in ("mse_guessed", "scale", "zero_point", "mse", "packed"):
        assert verdicts[name] == "exactly"
    for name in ("blip_fp32", "blip_bf16", "blip_ratio", "flan_fp32", "flan_int8", "flan_times"):
        assert verdicts[name] == "explained"
    assert verdicts["mean_difference"] in ("exactly", "nearly")
    assert verdicts["half"] == "changed" and verdicts["blip_captions"] == verdicts["flan_text"] == "not run here"


def test_sizes_by_hand(anew: dict[str, CourseFigure]) -> None:
    """The head of BLIP is 30,524 × 768, that of flan-t5-small 32,128 × 512; 145 layers keep 2 scales of 4 bytes."""
    now = {name: figure.now for name, figure in anew.items()}
    assert now["blip_fp32"] == 989_660_400 - 4 * 30_524 * 768 == 895_890_672
    assert now["blip_bf16"] == 494_832_248 - 2 * 30_524 * 768 == 447_947_384
    assert now["flan_fp32"] == 307_844_608 - 4 * 32_128 * 512 == 242_046_464
    assert now["flan_int8"] == 126_828_680 - 32_128 * 512 - 4 * 32_128 - 145 * 8 == 110_249_472


@pytest.mark.parametrize(
    ("figure", "verdict"),
    [
        (CourseFigure("", "", "", 1, 1), "exactly"),
        (CourseFigure("", "", "", 2.43, 2.4272, digits=2), "exactly"),
        (CourseFigure("", "", "", 2.43, 2.4372, digits=2), "changed"),
        (CourseFigure("", "", "", 1.0, 1.0005), "nearly"),
        (CourseFigure("", "", "", 1000, 900, 1000), "explained"),
        (CourseFigure("", "", "", 1000, 900, 999.9), "changed"),
        (CourseFigure("", "", "", "0.33…", "0.3333"), "exactly"),
        (CourseFigure("", "", "", "0.34…", "0.3333"), "changed"),
        (CourseFigure("", "", "", "a", None), "not run here"),
    ],
)
def test_verdicts(figure: CourseFigure, verdict: str) -> None:
    assert figure.verdict == verdict and verdict in published.VERDICTS


# Guesses.


def option(name: str, measured: object) -> str | None:
    truth = TRUTHS[name](measured)
    return None if truth is None else PREDICTIONS[name].options[truth.option]


def test_the_ratio_of_footprints() -> None:
    assert option("ratio", PLAN) == "a little above 0.5"  # 2,460 ÷ 4,880, of which 40 bytes are buffers
    truth = TRUTHS["ratio"](PLAN)
    assert (
        truth is not None and "2,460 ÷ 4,880" in truth.sentence and "20 more: 40 bytes did not shrink" in truth.sentence
    )
    assert option("ratio", the_plan("dummy")) == "exactly 0.5"
    assert option("ratio", the_plan("pydoc-llama")) == "a little above 0.5"
    alone = replace(PLAN, entries=PLAN.entries[:1])
    assert option("ratio", alone) is None and option("times", alone) is None


def test_how_many_times_smaller() -> None:
    truth = TRUTHS["times"](the_plan("pydoc-llama"))
    assert truth is not None and option("times", the_plan("pydoc-llama")) == "2 to 3 ×"
    assert "16,266,368 bytes become 5,698,688" in truth.sentence and truth.sentence.startswith("2.85")
    assert option("times", the_plan("dummy")) == "less than 2 ×"


def test_how_many_weights_the_cast_changes() -> None:
    assert option("rounded", the_lesson("dummy")) == "most"  # 22 of 30
    assert option("rounded", the_lesson("pydoc-llama")) == "nearly all"
    found = the_lesson("dummy")
    none = replace(found, cast=replace(found.cast, rounded=0))
    assert option("rounded", none) == "hardly any"
    assert option("rounded", replace(found, cast=replace(found.cast, weights=0, rounded=0))) is None


def test_the_peak_of_the_notebook_s_way() -> None:
    found = ships(Asked().load_peaks)
    assert isinstance(found, LoadPeaks) and option("peak", found) == "2 ×"
    assert option("peak", make_peaks(Asked().load_peaks)) is None, "the copy died"


def timed(*runs: tuple[str, float, float]) -> Report:
    found = make_report(Spec("dummy", precisions=("bf16", "int8"), libraries=True))
    int8 = replace(
        found.results[1],
        latency=Estimate(9.0, 0.1, 9, "×"),
        libraries=tuple(LibraryRun(name, "1", "call", latency=Estimate(ratio, se, 9, "×")) for name, ratio, se in runs),
    )
    return replace(found, results=(found.results[0], int8))


@pytest.mark.parametrize(
    ("runs", "expected"),
    [
        ((("torchao", 0.5, 0.01),), "faster"),
        ((("torchao", 1.02, 0.001),), "about as fast"),
        ((("torchao", 1.3, 0.01), ("bitsandbytes", 1.5, 0.01)), "slower"),
        ((("torchao", 1.3, 0.2),), None),  # too noisy
        ((), "slower"),  # qfund's own, 9 times
    ],
)
def test_who_is_faster(runs: tuple[tuple[str, float, float], ...], expected: str | None) -> None:
    assert option("speed", timed(*runs)) == expected
    assert option("speed", make_report(Spec("dummy", precisions=("bf16",)))) is None


# Frames, figures, the link.


@pytest.mark.parametrize("model", CATALOG)
def test_figures_hold_the_measured_numbers(model: str) -> None:
    found, plan = the_lesson(model), the_plan(model)
    parts = lesson_tables.parts(plan, ("fp32", "int8"))
    for precision, rows in parts.groupby("precision"):
        entry = lesson_words.entry(plan, str(precision))
        assert entry is not None and rows["bytes"].sum() == entry.predicted_bytes
    assert lesson_figures.parts(parts) == lesson_figures.parts(parts), "deterministic"
    bars = lesson_figures.cast_bytes(lesson_tables.cast_bytes(found)).data
    assert {name for bar in bars for name in bar.y} == {"before", "after"}
    frame = lesson_tables.output_differences(found)
    full, low, _ = found.outputs
    assert list(frame[frame["precision"] == "bf16"]["difference"]) == [
        b - a for a, b in zip(full.values, low.values, strict=True)
    ]
    assert len(lesson_figures.output_differences(frame).data) == 2
    assert found.weight is not None
    assert len(lesson_figures.errors_by_size(lesson_tables.errors_by_size(found.weight)).data) == len(
        found.weight.formats
    )
    assert len(lesson_tables.formats(found.weight)) == len(found.weight.formats)


def test_an_integer_s_error_is_level_and_a_float_s_rises() -> None:
    weight = the_lesson("pydoc-llama").weight
    assert weight is not None
    errors = {one.precision: [part.error for part in one.bins if part.count > 1000] for one in weight.formats}
    assert max(errors["int8"]) < 2 * min(errors["int8"])
    assert errors["bf16"] == sorted(errors["bf16"]) and errors["bf16"][-1] > 50 * errors["bf16"][0]


def test_ways_to_load_are_drawn_by_their_need() -> None:
    frame = lesson_tables.ways(make_peaks(Asked().load_peaks))
    assert list(frame["way"]) == ["direct", "cast", "direct"]
    assert list(frame["need"]) == pytest.approx([1, 1, 2600 / 4840])
    assert "1.00" in str(lesson_figures.ways(frame))


def test_tokens_are_text_in_figures() -> None:
    found = replace(the_lesson("dummy"), shown=("<b>x</b>", "&lt;"))
    labels = lesson_figures.output_differences(lesson_tables.output_differences(found)).data[0].y
    assert list(labels) == ["&lt;b&gt;x&lt;/b&gt;", "&amp;lt;"]


@pytest.mark.parametrize(
    "asked", [Asked(), Asked("dummy", None, "savings", (("times", 1), ("speed", 3))), Asked("org/name", "v1")]
)
def test_link_and_choices_are_each_other_s_inverse(asked: Asked) -> None:
    assert link.from_query(link.to_query(asked)) == (asked, [])


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ({"q": ["tenth"]}, "Ignored q='tenth'"),
        ({"guess": ["times.9"]}, "Ignored unknown guess='times.9'"),
        ({"guess": ["times"]}, "Ignored unknown guess='times'"),
        ({"guess": ["who.1"]}, "Ignored unknown guess='who.1'"),
        ({"colour": ["red"]}, "Ignored unknown link parameter: colour"),
    ],
)
def test_what_a_link_cannot_mean_is_told(query: dict[str, list[str]], told: str) -> None:
    asked, problems = link.from_query(query)
    assert asked == Asked() and len(problems) == 1 and told in problems[0]
