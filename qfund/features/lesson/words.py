"""What was measured for the nine questions → sentences, and which guess was right. No torch, no Streamlit."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from qfund.core.estimate import Estimate
from qfund.core.units import bytes_text, number_text
from qfund.drawing.numbers import estimate_text
from qfund.features.compare.request.report import PrecisionResult, Report
from qfund.features.compare.words.libraries import SIGMAS
from qfund.features.lesson.request.notebook import Cast, Copies, DirectLoad, Notebook
from qfund.features.lesson.request.published import CourseFigure
from qfund.features.memory.request.load_peak import LoadPeaks
from qfund.features.memory.request.plan import Plan, PlanEntry
from qfund.precisions.table import PRECISIONS

#: A time within this share of the reference's is called about as fast.
ALIKE = 0.05


@dataclass(frozen=True, slots=True)
class Truth:
    """Which of a prediction's options was measured, from 0, and the number in words."""

    option: int
    sentence: str


def dtype_label(dtype: str) -> str:
    """``bfloat16`` → ``BF16``; a dtype that no cast has stays as it is."""
    return next((row.label for row in PRECISIONS.values() if row.dtype == dtype and row.quantizer is None), dtype)


def _bucket(value: float, bounds: tuple[float, ...]) -> int:
    """How many of the bounds it has reached."""
    return sum(value >= bound for bound in bounds)


def _rounded(found: Notebook) -> Truth | None:
    cast = found.cast
    if not cast.weights:
        return None
    said = f"{cast.rounded:,} of {cast.weights:,} weights come out changed. "
    if cast.rounded:
        said += (
            "An FP32 number has 24 significant bits and BF16 keeps eight, so of arbitrary numbers one in 65,536 fits."
        )
    else:
        said += "They were BF16 numbers already, stored in a wider format or in this one."
    return Truth(_bucket(cast.rounded / cast.weights, (0.1, 0.6, 0.95)), said)


def _ratio(found: Plan) -> Truth | None:
    whole, half = entry(found, "fp32"), entry(found, "bf16")
    if whole is None or half is None or not whole.predicted_bytes:
        return None
    extra = 2 * half.predicted_bytes - whole.predicted_bytes
    option = (0 if extra < 0 else 1 if not extra else 2) if half.ratio <= 0.6 else 3
    said = f"{half.ratio:.10g}: {half.predicted_bytes:,} ÷ {whole.predicted_bytes:,} bytes. "
    said += (
        f"Half of the FP32 bytes, and {extra // 2:,} more: {extra:,} bytes did not shrink."
        if extra > 0
        else "Every stored byte is halved: this model has no buffers, and nothing is kept in FP32."
    )
    return Truth(option, said)


def _peak(found: LoadPeaks) -> Truth | None:
    way = next((way for way in found.ways if way.way == "deepcopy" and way.sampled), None)
    if way is None or way.sampled is None:
        return None
    need = way.sampled.multiples["need"]
    said = f"{need:.2f} times the FP32 weights: the original, and its copy before it is cast. {need_of(found)}"
    return Truth(_bucket(need, (1.25, 1.75, 2.5)), said.strip())


def need_of(found: LoadPeaks) -> str:
    """How much each of the other ways needs, where both were measured."""
    needs = {way.way: way.sampled.multiples["need"] for way in found.ways if way.sampled}
    if not {"direct", "cast"} <= needs.keys():
        return ""
    return f"Casting in place needs {needs['cast']:.2f} times, loading straight in BF16 {needs['direct']:.2f} times."


def _times(found: Plan) -> Truth | None:
    whole, small = entry(found, "fp32"), entry(found, "int8")
    if whole is None or small is None or not small.predicted_bytes:
        return None
    times = whole.predicted_bytes / small.predicted_bytes
    codes, scales = small.parts["quantised"], small.parts["scales"]
    rest = small.predicted_bytes - codes - scales
    said = (
        f"{times:.2f} times: {whole.predicted_bytes:,} bytes become {small.predicted_bytes:,}. What was quantised "
        f"takes {4 * codes / (codes + scales):.2f} times less, scales included; {bytes_text(rest)} stay as they were, "
        f"{100 * rest / small.predicted_bytes:.3g} % of the smaller model."
    )
    return Truth(_bucket(times, (2, 3, 3.9)), said)


def int8_time(report: Report) -> tuple[str, Estimate] | None:
    """Who runs INT8 weights fastest, and its time of a forward as a ratio to FP32's: a library where there is one that
    does what it should, else qfund itself."""
    result = next((row for row in report.results if row.precision == "int8"), None)
    if result is None:
        return None
    runs = [(run.library, run.latency) for run in result.libraries if run.latency and not run.problem]
    if runs:
        return min(runs, key=lambda run: run[1].value)
    return ("qfund", result.latency) if result.latency else None


def _speed(report: Report) -> Truth | None:
    found = int8_time(report)
    if found is None:
        return None
    library, ratio = found
    error = SIGMAS * (ratio.se or 0.0)
    alike = abs(ratio.value - 1) <= ALIKE
    if not alike and abs(ratio.value - 1) <= error:
        return None  # too noisy to call it anything
    said = (
        f"{library}'s INT8 weights take {estimate_text(ratio)} times as long as FP32 ({report.input.tokens:,} tokens)."
    )
    return Truth(1 if alike else 0 if ratio.value < 1 else 2, said)


#: Name of a prediction → what was measured, or None where it does not say. In: a Lesson, Plan, LoadPeaks or Report.
TRUTHS: dict[str, Callable[[Any], Truth | None]] = {
    "rounded": _rounded,
    "ratio": _ratio,
    "peak": _peak,
    "times": _times,
    "speed": _speed,
}


def entry(plan: Plan, precision: str) -> PlanEntry | None:
    return next((one for one in plan.entries if one.precision == precision), None)


def printed(found: Notebook) -> str:
    """What the printed dtypes say, in one sentence."""
    weights = [row for row in found.before if row.kind == "weight"]
    buffers = [row for row in found.before if row.kind == "buffer"]
    counts = " and ".join(f"{row.tensors:,} in {dtype_label(row.dtype)}" for row in weights)
    said = f"parameters, {counts}: {sum(row.elements for row in weights):,} numbers. "
    if not buffers:
        return said + "This model has no buffers."
    held = " and ".join(f"{row.tensors:,} in {dtype_label(row.dtype)}" for row in buffers)
    return said + f"Besides, and not among them: buffers, {held}."


def casted(cast: Cast) -> tuple[str, ...]:
    """What the cast did, sentence by sentence."""
    said = [
        f"All {cast.parameters:,} parameters are the same Python objects as before, with new memory behind "
        f"{'all' if not cast.same_storage else cast.parameters - cast.same_storage} of them: it was cast in place."
        if cast.same_parameters == cast.parameters
        else f"{cast.same_parameters:,} of {cast.parameters:,} parameters are the same Python objects as before."
    ]
    if cast.overflowed:
        said.append(f"{cast.overflowed:,} weights became infinite.")
    return tuple(said)


def copied(found: Copies) -> tuple[tuple[str, str], ...]:
    """What was done and what was seen."""
    yes = {True: "yes", False: "no"}
    rows = [
        ("`second = model`: parameters that share memory", f"{found.name_shares:,} of {found.parameters:,}"),
        ("… and after `model.to(torch.bfloat16)`, `second` is", dtype_label(found.name_after)),
        ("`copy.deepcopy(model)`: parameters that share memory", f"{found.copy_shares:,} of {found.parameters:,}"),
        ("… and after `second.to(torch.bfloat16)`, `model` is", dtype_label(found.original_after)),
        ("… with every weight bit for bit as it was", yes[found.values_kept]),
    ]
    if found.ties:
        rows.append(("Tied weights in the model, and in its copy", f"{found.ties:,} and {found.ties_kept:,}"))
    both = found.model_bytes + found.copy_bytes
    rows.append(("Both together", f"{bytes_text(both)}, {both / found.model_bytes:.4g} × the model" if both else "0 B"))
    return tuple((what.replace("`", ""), seen) for what, seen in rows)


def straight(found: DirectLoad) -> str:
    """The model loaded directly beside the one that was cast."""
    if found.equal == found.tensors:
        return "Loaded straight in BF16 and cast afterwards, all tensors are the same, bit for bit."
    names = ", ".join(found.different)
    more = found.tensors - found.equal - len(found.different)
    said = (
        f"Loaded straight in BF16, {found.equal:,} of {found.tensors:,} tensors are those of the cast model, bit for "
        f"bit. Others are {names}{f' and {more:,} more' if more else ''}: the load keeps them in their format or makes "
        "them anew, the cast rounds them."
    )
    return said + (f" Outputs of the two differ by up to {number_text(found.largest)}." if found.largest else "")


def claims(result: PrecisionResult) -> list[tuple[str, str, str, str]]:
    """Name, what its dtype says, what is stored, and in what: of weights that are held as codes."""
    return [
        (row.name, row.logical, row.dtype, row.storage)
        for row in result.tensors
        if row.kind == "weight" and row.dtype != row.logical and row.shared_with is None
    ]


def published(figure: CourseFigure) -> str:
    """A published figure beside what comes out today."""
    now = f"{figure.now:.10g}" if isinstance(figure.now, float) else figure.now
    then = f"{figure.then:.10g}" if isinstance(figure.then, float) else figure.then
    return f"In the course, {figure.what}: {then}; today {now}. {figure.why}".strip()
