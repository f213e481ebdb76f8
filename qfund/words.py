"""Report → plain sentences. They never claim more than the numbers say: every claim of a change is checked against its
standard error, and what is not finite is said first."""

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from statistics import NormalDist
from typing import TYPE_CHECKING

from qfund.metrics import METRICS, Estimate
from qfund.precisions import PRECISIONS
from qfund.report import LibraryRun, PrecisionResult, Report
from qfund.spec import ALSO, SECOND_HALF
from qfund.store import Headline
from qfund.units import bytes_text, number_text, seconds_text

if TYPE_CHECKING:
    import pandas as pd

#: A metric's direction in words.
BETTER = {"lower": "lower", "higher": "higher", "one": "closer to 1", "zero": "closer to 0"}
_SHORT = re.compile(r": | \(|, so |; ")
_GLUE = re.compile(r"(?<=[×±]) | (?=[±%×])|(?<=\d) (?=[KMGT]?i?B\b)")
#: A time that differs by at most this many standard errors is called no measurable difference.
SIGMAS = 2.0
#: How often a candidate of a report may be said to change perplexity though it does not: all of them together.
FALSE_ALARMS = 0.05
#: Predictions that a claim about perplexity needs: the error of a few says little about the error of the next few.
ENOUGH = 30
#: As many candidates are told one by one; more stand in a table.
FEW = 6
#: Activations that come within this factor of the largest number that their dtype holds are worth a word.
LITTLE_HEADROOM = 2.0
MUCH_HEADROOM = 1e4
#: safetensors' name of a float dtype → what people call it, and its bits.
_STORED = {
    "F64": ("FP64", 64),
    "F32": ("FP32", 32),
    "BF16": ("BF16", 16),
    "F16": ("FP16", 16),
    "F8_E4M3": ("FP8", 8),
    "F8_E5M2": ("FP8", 8),
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """One candidate in words: ``memory`` and ``outputs`` are phrases, ``alarms`` are sentences to be said loudly and
    ``cautions`` quietly."""

    precision: str
    label: str
    memory: str
    outputs: tuple[str, ...]
    alarms: tuple[str, ...]
    cautions: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        return f"{self.label}: {', '.join((self.memory, *self.outputs))}."

    @property
    def body(self) -> str:
        """The sentence without the name, for a place that already shows it; no line breaks within a number."""
        text = unbroken(", ".join((self.memory, *self.outputs)))
        return f"{text[:1].upper()}{text[1:]}."


def unbroken(text: str) -> str:
    """The same words, with no line breaks within a number."""
    return _GLUE.sub("\u00a0", text)


def _label(precision: str) -> str:
    return PRECISIONS[precision].label if precision in PRECISIONS else precision


def value_text(value: float, unit: str) -> str:
    """A number alone, with its unit where it has one: ``99.02 %``, ``1.13e-4 nat``, ``× 1.0004``."""
    if not math.isfinite(value):
        return "not finite"
    if unit == "share":
        return f"{_share_digits(value)} %"
    if unit == "×":
        return f"× {value:.4f}" if 0.1 < value < 1000 else f"× {number_text(value)}"
    return f"{number_text(value)} {unit}".strip()


def _share_digits(value: float) -> str:
    """Per cent, never rounded up to 100 when it is less."""
    percent = 100 * value
    text = f"{percent:.2f}"
    if value < 1 and float(text) == 100:
        return ">99.99"
    return text.rstrip("0").rstrip(".") if "." in text else text


def estimate_text(estimate: Estimate, digits: int = 1) -> str:
    """``value ± standard error``, both with the digits that the error allows; the value alone where there is none.

    The error keeps ``digits`` significant digits, one more where it begins with 1. Units are not written.
    """
    value, se = estimate.value, estimate.se
    if not math.isfinite(value):
        return "not finite"
    if _unanimous(estimate):
        return f"{100 * value:.0f} ({_how_many(estimate)})"
    if estimate.unit == "share":
        value, se = 100 * value, None if se is None else 100 * se
    if se is None or not math.isfinite(se):
        return _share_digits(estimate.value) if estimate.unit == "share" else number_text(value)
    if se == 0:
        return f"{value:.10g} ± 0"
    exponent = math.floor(math.log10(abs(value))) if value else 0
    if -4 < exponent < 6:
        decimals = _decimals(se, digits)
        return f"{value:,.{decimals}f} ± {se:,.{decimals}f}"
    scale = 10.0**exponent
    decimals = _decimals(se / scale, digits)
    return f"({value / scale:.{decimals}f} ± {se / scale:.{decimals}f})e{exponent}"


def _unanimous(estimate: Estimate) -> bool:
    """Whether all agree or none does: a share whose error is unknown, and no 0."""
    return estimate.unit == "share" and estimate.value in (0, 1)


def _how_many(estimate: Estimate) -> str:
    return f"{'all' if estimate.value else 'none'} of {estimate.n:,}"


def metric_text(name: str, estimate: Estimate, digits: int = 1) -> str:
    """``estimate_text`` for the metric of that name: a cosine keeps enough digits to be told from 1."""
    text = estimate_text(estimate, digits)
    if name.endswith("_cosine") and text.partition(" ")[0].rstrip("0") in ("1.", "1") and estimate.value < 1:
        error = f" ± {number_text(estimate.se)}" if estimate.se else ""
        return cosine_text(estimate.value) + error
    return text


def cosine_text(value: float) -> str:
    """Enough digits to tell a cosine from 1; one within rounding of 1 is 1."""
    gap = 1 - value
    return f"{value:.{max(3, 2 - math.floor(math.log10(gap) + 1e-6))}f}" if gap > 1e-15 else "1"


def _decimals(se: float, digits: int) -> int:
    exponent = math.floor(math.log10(se))
    begins_with_one = se / 10.0**exponent < 1.95
    return min(max(0, digits - 1 - exponent + begins_with_one), 12)


def memory_phrase(result: PrecisionResult, reference: PrecisionResult) -> str:
    """``half the memory (7.79 MiB instead of 15.6 MiB)``."""
    sizes = f"{bytes_text(result.footprint_bytes)} instead of {bytes_text(reference.footprint_bytes)}"
    if result.footprint_bytes == reference.footprint_bytes:
        return f"the same memory ({bytes_text(result.footprint_bytes)})"
    if not reference.footprint_bytes:
        return bytes_text(result.footprint_bytes)
    ratio = result.footprint_bytes / reference.footprint_bytes
    for share, words in ((0.5, "half the memory"), (0.25, "a quarter of the memory")):
        if abs(ratio / share - 1) < 0.005:
            return f"{words} ({sizes})"
    if abs(ratio - 1) < 0.005:
        return f"nearly the same memory ({sizes})"
    if ratio < 1:
        return f"{100 * ratio:.3g} % of the memory ({sizes})"
    return f"{ratio:.2f} × the memory ({sizes})"


def _plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'s' * (count != 1)}"


def _agreement_phrase(estimate: Estimate, noun: str, place: str) -> str:
    if estimate.n == 1:
        return f"{'the same' if estimate.value else 'another'} {noun} on the one {place}"
    if estimate.value in (0, 1):  # said in words: the error of "all" and of "none" is no 0
        share = "every one" if estimate.value else "none"
        return f"the same {noun} on {share} of {_plural(estimate.n, place)}"
    return f"the same {noun} on {estimate_text(estimate)} % of {_plural(estimate.n, place)}"


def threshold(candidates: int) -> float:
    """Standard errors beyond which a change is told from none, two-sided and adjusted for how many candidates are
    looked at (Bonferroni): 1.96 for one, 3.25 for 43."""
    return NormalDist().inv_cdf(1 - FALSE_ALARMS / 2 / max(1, candidates))


def _changed(ratio: Estimate, candidates: int) -> bool:
    """Whether 1 lies outside the interval that respects chunks; where there is none, beyond the threshold."""
    inside = ratio.interval(candidates)
    if inside is None:
        return ratio.se is None or abs(ratio.value - 1) > threshold(candidates) * ratio.se
    return not inside[0] <= 1 <= inside[1]


def perplexity_phrase(ratio: Estimate, candidates: int = 1) -> str:
    """Whether perplexity changed, said only as far as the error and the number of candidates allow."""
    if not math.isfinite(ratio.value):
        return "a perplexity that is not finite"
    if ratio.value == 1 and ratio.se == 0:
        return "exactly the same perplexity"
    if ratio.se is None or ratio.n < ENOUGH:
        return f"perplexity × {estimate_text(ratio)} (too few positions to judge: {ratio.n:,})"
    if not _changed(ratio, candidates):
        return f"no measurable change in perplexity (× {estimate_text(ratio)})"
    return f"perplexity × {estimate_text(ratio)}"


def _output_phrases(report: Report, result: PrecisionResult) -> tuple[str, ...]:
    found = result.fidelity
    if not found:
        return ("nothing that could be compared",)
    largest = found.get("max_abs_logit_diff") or found.get("max_abs_hidden_diff")
    if largest is not None and largest.value == 0:
        outputs = "logits" if "max_abs_logit_diff" in found else "hidden states"
        return (f"exactly the same {outputs}",)
    language = "perplexity_ratio" in found or report.tokens is not None
    place = "picture" if report.input.source == "pictures" and not language else "position"
    phrases = []
    if "top1_agreement" in found:
        phrases.append(_agreement_phrase(found["top1_agreement"], "top token" if language else "top class", place))
    if "perplexity_ratio" in found:
        phrases.append(perplexity_phrase(found["perplexity_ratio"], len(report.results)))
    if not phrases and "hidden_cosine" in found:
        phrases.append(
            f"hidden states at a mean cosine of {cosine_text(found['hidden_cosine'].value)} to the reference's"
        )
    if not language and "pooled_cosine" in found:
        phrases.append(f"pooled output at {cosine_text(found['pooled_cosine'].value)}")
    if not phrases and largest is not None:
        phrases.append(f"a largest difference of {value_text(largest.value, largest.unit)}")
    return tuple(phrases)


def _alarms(result: PrecisionResult, reference: PrecisionResult | None = None) -> tuple[str, ...]:
    """What is not finite: at how many positions, and in which module it began. The remedy is for an overflow, which it
    is not where the weights themselves are not finite, nor where the reference's values end in the same module."""
    name, alarms, seen = _label(result.precision), [], result.range
    begins = seen.first_nonfinite if seen else None
    if result.nonfinite_positions:
        where = _plural(result.nonfinite_positions, "position")
        rest = (
            "They are counted here and left out of every other number."
            if result.fidelity
            else "None is left to compare."
        )
        alarms.append(f"{name}: {where} gave outputs that are not finite (NaN or infinity). {rest}")
    if seen is not None and begins:
        kind = f" ({seen.first_nonfinite_kind})" if seen.first_nonfinite_kind else ""
        count = seen.nonfinite_modules
        affected = f"; {_plural(count, 'module')} {'is' if count == 1 else 'are'} affected" if count else ""
        alarms.append(f"{name}: the first values that are not finite come out of {begins}{kind}{affected}.")
    return (*alarms[:-1], alarms[-1] + _remedy(result, reference)) if alarms else ()


def _remedy(result: PrecisionResult, reference: PrecisionResult | None) -> str:
    bad = result.range.bad_weights if result.range else 0
    if bad:
        return f" {_plural(bad, 'value')} of its weights {'is' if bad == 1 else 'are'} NaN or infinite."
    row = PRECISIONS.get(result.precision)
    if row is None or row.dtype != "float16" or (reference is not None and _ends_alike(result, reference)):
        return ""
    return " FP16 ends at 65,504: use BF16."


def _ends_alike(result: PrecisionResult, reference: PrecisionResult) -> bool:
    """Whether the reference is not finite either, from the same module on as far as is known."""
    own, other = result.range, reference.range
    if other is None or other.first_nonfinite is None:
        return reference.nonfinite_positions > 0
    return own is None or own.first_nonfinite in (None, other.first_nonfinite)


def _cautions(result: PrecisionResult) -> tuple[str, ...]:
    """What went well but only just, and weights that were clipped."""
    name, cautions, seen, clipped = _label(result.precision), [], result.range, result.saturation
    if seen is not None and seen.first_nonfinite is None and seen.headroom < LITTLE_HEADROOM:
        cautions.append(
            f"{name} came within × {number_text(seen.headroom)} of its limit ({number_text(seen.largest)} of "
            f"{number_text(seen.limit)} in {seen.largest_module})."
        )
    if clipped is not None and clipped.weights:
        share = _percent(clipped.weights / clipped.of)
        cautions.append(
            f"{name}: {share} % of the weights lie beyond the largest code and were clipped"
            f"{_clip_remedy(result.precision) or f', first in {clipped.first}'}."
        )
    return tuple(cautions)


def _percent(share: float) -> str:
    """Roughly: ``0.6``, ``12``."""
    percent = 100 * share
    if percent < 0.001:
        return "less than 0.001"
    return f"{percent:.1g}" if percent < 0.95 else f"{percent:.2g}" if percent < 99.5 else "100"


def _clip_remedy(precision: str) -> str:
    for name, finer in (("mxfp8", "FP8 with per-row scales"), ("mxfp4", "NVFP4 or NF4")):
        if precision.startswith(name):
            return f"; inherent in power-of-two scales (others: {finer})"
    return ""


def headroom_phrase(result: PrecisionResult) -> str | None:
    """How far activations stayed from the end of what their dtype holds; None where that was not watched."""
    seen = result.range
    if seen is None or seen.first_nonfinite is not None or not math.isfinite(seen.headroom):
        return None
    far = seen.headroom >= MUCH_HEADROOM
    rest = "nowhere near its limit" if far else f"{number_text(seen.headroom)} times that would still be finite"
    return f"The largest activation was {number_text(seen.largest)} in {seen.largest_module}: {rest}."


def conversion_phrase(result: PrecisionResult) -> str | None:
    """``44 modules were quantised; 2 stay: an embedding (1), the output head (1)``; None where nothing was to be
    quantised."""
    if not result.converted:
        return None
    row = PRECISIONS.get(result.precision)
    done = "rounded" if row is not None and row.every_matrix else "quantised"
    said = f"{_plural(result.converted, 'module')} {'was' if result.converted == 1 else 'were'} {done}"
    if not result.left:
        return said
    # A reason is said in short, up to where it explains itself.
    reasons = Counter(_SHORT.split(left.why, maxsplit=1)[0] for left in result.left_modules)
    told = [f"{why} ({count:,})" for why, count in reasons.most_common(FEW)]
    if others := sum(reasons.values()) - sum(count for _, count in reasons.most_common(FEW)):
        told.append(f"other reasons ({others:,})")
    return f"{said}; {result.left:,} {'stays' if result.left == 1 else 'stay'}" + (f": {', '.join(told)}" * bool(told))


def asides(result: PrecisionResult) -> tuple[str, ...]:
    """What is worth knowing of a candidate beyond its verdict, in sentences: what was quantised, what is emulated, how
    it was done, and how far values stayed from the end of FP16."""
    row, seen = PRECISIONS.get(result.precision), result.range
    found = []
    if converted := conversion_phrase(result):
        found.append(f"{converted}.")
    if row is not None and row.emulated:
        found.append(f"Emulated here: {row.emulated}")
    if result.note:
        found.append(result.note)
    if seen is not None and seen.first_nonfinite is None and LITTLE_HEADROOM <= seen.headroom < MUCH_HEADROOM:
        found.append(
            f"Largest value {number_text(seen.largest)} of {number_text(seen.limit)} in {seen.largest_module}."
        )
    return tuple(found)


def nothing_compared(report: Report) -> str:
    """Why no metric could be computed."""
    broken = any(result.nonfinite_positions for result in (report.reference, *report.results))
    why = "No output is finite in both the reference and a candidate" if broken else "No position could be compared"
    return f"{why}, so there is nothing to say about fidelity."


def verdict(report: Report, result: PrecisionResult) -> Verdict:
    return Verdict(
        precision=result.precision,
        label=_label(result.precision),
        memory=memory_phrase(result, report.reference),
        outputs=_output_phrases(report, result),
        alarms=_alarms(result, report.reference),
        cautions=_cautions(result),
    )


def verdicts(report: Report) -> list[Verdict]:
    return [verdict(report, result) for result in report.results]


def reference_alarms(report: Report) -> tuple[str, ...]:
    return _alarms(report.reference)


def title(report: Report) -> str:
    """``pydoc-llama: FP32 against BF16, FP16 and INT8 weight-only``."""
    return f"{report.spec.model}: {against(report.reference.precision, [row.precision for row in report.results])}"


def against(reference: str, candidates: Sequence[str]) -> str:
    """``FP32 against BF16 and FP16``; only how many where they would fill a paragraph."""
    return f"{_label(reference)} against {together(candidates)}"


def together(precisions: Iterable[str]) -> str:
    """``FP32, BF16 and FP16``, each once; only how many where they would fill a paragraph."""
    names = [_label(name) for name in dict.fromkeys(precisions)]
    return listed(names) if len(names) <= FEW + 1 else f"{len(names)} precisions"


def listed(names: list[str]) -> str:
    """``a, b and c``."""
    return " and ".join(part for part in (", ".join(names[:-1]), *names[-1:]) if part)


def count_text(count: int) -> str:
    """``4071680`` → ``4.07 M``."""
    for size, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.3g} {letter}"
    return str(count)


def when(created: str) -> str:
    """An ISO time as a person writes it, in UTC; unreadable ones as they are."""
    try:
        moment = datetime.fromisoformat(created)
    except ValueError:
        return created
    if moment.tzinfo is not None:
        moment = moment.astimezone(UTC)
    return f"{moment.day} {moment:%B %Y, %H:%M} UTC"


def provenance(report: Report) -> str:
    """One line that says what, when, where and with what, so that every number above it can be traced."""
    environment = report.environment
    parts = [
        f"Measured on {when(report.created)} in {seconds_text(report.seconds)}",
        f"{report.model.architecture}, {count_text(report.model.parameters)} parameters, {report.model.task}",
        *stored_phrase(report),
        input_phrase(report),
        *(f"{name} {version}" for name, version in ({"qfund": report.qfund} | environment.versions).items()),
        f"Python {environment.python}",
        f"{environment.cpu if environment.device == 'cpu' else environment.device}, "
        f"{_plural(environment.threads, 'thread')}",
        f"model {environment.model_id[:19]}" + (f" at {environment.revision[:12]}" if environment.revision else ""),
    ]
    return " · ".join(parts)


def _stored(report: Report) -> list[str]:
    """The dtypes that hold more than 1 % of the checkpoint, by safetensors' names, the largest first."""
    held = report.model.checkpoint_dtypes
    return [name for name in sorted(held, key=lambda name: -held[name]) if held[name] > 0.01 * sum(held.values())]


def _stored_name(dtype: str) -> str:
    return _STORED[dtype][0] if dtype in _STORED else dtype


def stored_phrase(report: Report) -> list[str]:
    """``stored as BF16``, ``stored as mixed BF16 and FP32``; nothing where that is not known."""
    names = [_stored_name(dtype) for dtype in _stored(report)]
    return [f"stored as {'mixed ' * (len(names) > 1)}{listed(names)}"] if names else []


def notes(report: Report) -> tuple[str, ...]:
    """What a reader must know about the input, about what was quantised besides, and about a reference that is wider
    than what is stored."""
    also = also_phrase(report.spec.also, [report.reference.precision, *(row.precision for row in report.results)])
    found = (*report.input.notes, *([f"{also}."] if also else []))
    stored = _stored(report)
    row = PRECISIONS.get(report.reference.precision)
    if not stored or row is None or row.quantizer or any(_STORED.get(name, ("", 99))[1] >= row.bits for name in stored):
        return found
    upcast = (
        f"The checkpoint is stored in {listed([_stored_name(dtype) for dtype in stored])}; {row.label} is its upcast, "
        "so “half the memory” is against an upcast."
    )
    return (*found, upcast)


def also_phrase(also: Sequence[str], precisions: Iterable[str]) -> str:
    """``Quantised too: the output head and token and position embeddings``; nothing where no precision quantises."""
    quantising = any(name in PRECISIONS and PRECISIONS[name].quantizer for name in precisions)
    return f"Quantised too: {listed([ALSO[name] for name in also if name in ALSO])}" if also and quantising else ""


def arithmetic(result: PrecisionResult) -> str:
    """What a candidate computes in, as far as it is true of the whole model: transformers keeps some modules wider."""
    row = PRECISIONS.get(result.precision)
    if row is None:
        return ""
    kept = {name: share.bytes for name, share in result.dtypes.items() if name != row.dtype and share.parameters}
    if row.quantizer or not kept or not result.footprint_bytes:
        emulated = f" Emulated here: {row.emulated}" if row.emulated else ""
        return f"{row.arithmetic[:1].upper()}{row.arithmetic[1:]}.{emulated}"
    share = 100 * sum(kept.values()) / result.footprint_bytes
    return f"{row.label} but for {share:.2g} % of the bytes in {listed(list(kept))} (modules that transformers keeps)."


def input_phrase(report: Report) -> str:
    facts = report.input
    if facts.source == "pictures":
        return _plural(facts.chunks, "picture")
    own = {"text": "own text", "texts": f"{len(facts.texts):,} own texts"}.get(facts.source, facts.source)
    half, stride = report.spec.scoring == SECOND_HALF, report.spec.stride
    size = f"of {'' if half else 'up to '}{facts.context}"
    how = ", the second half of each scored" if half else f", one every {_plural(stride, 'token')}" if stride else ""
    return f"{own} of {_plural(facts.tokens, 'token')} in {_plural(facts.chunks, 'chunk')} {size}{how}"


def gap_phrase(result: PrecisionResult) -> str | None:
    """Why a prediction and the stored bytes differ, said only where they do."""
    if result.predicted_bytes is None:
        return f"{_label(result.precision)} was not predicted: nothing foretells how a checkpoint was quantised."
    gap = result.footprint_bytes - result.predicted_bytes
    if not gap:
        return None
    more = "more" if gap > 0 else "less"
    return f"{_label(result.precision)} takes {bytes_text(abs(gap))} {more} than shapes alone predict."


def transformers_phrase(results: Iterable[PrecisionResult]) -> str:
    """Where ``get_memory_footprint()`` says something else than is stored, and why it can."""
    names = [_label(result.precision) for result in results if result.transformers_bytes != result.footprint_bytes]
    if not names:
        return ""
    return (
        f"For {listed(names)} the third figure is another one: it adds up what parameters and buffers claim to be, "
        "which for weights that are packed, tied or wrapped is not what is stored."
    )


def library_problems(report: Report) -> list[str]:
    """Why libraries could not run candidates, each reason once."""
    return _of_libraries(report, lambda run: run.problem)


def library_notes(report: Report) -> list[str]:
    """What is particular about how libraries store and run candidates, each note once."""
    return _of_libraries(report, lambda run: run.note)


def _of_libraries(report: Report, sentence: Callable[[LibraryRun], str | None]) -> list[str]:
    told: dict[tuple[str, str], list[str]] = {}
    for result in report.results:
        for run in result.libraries:
            if said := sentence(run):
                told.setdefault((run.library, said), []).append(_label(result.precision))
    return [f"{listed(names)} with {library}: {said}" for (library, said), names in told.items()]


def latency_phrase(ratio: Estimate | None) -> str:
    """The time of a forward beside the reference's, said only as far as the error allows."""
    if ratio is None:
        return "not measured here"
    if not math.isfinite(ratio.value):
        return "not finite"
    if ratio.se is not None and abs(ratio.value - 1) <= SIGMAS * ratio.se:
        return f"no measurable difference (× {estimate_text(ratio)})"
    return f"× {estimate_text(ratio)}"


#: The numbers that stand above a verdict, the first two that a task gives, under names for which a card has room.
HEADLINES = {
    "top1_agreement": "Same top-1",
    "perplexity_ratio": "Perplexity",
    "kl_mean": "KL, mean",
    "hidden_cosine": "Cosine",
    "mean_abs_hidden_diff": "Difference",
}


def headlines(result: PrecisionResult) -> list[tuple[str, str, str]]:
    """Label, value and explanation of the most telling metrics of a candidate."""
    found = [name for name in HEADLINES if name in result.fidelity][:2]
    return [
        (
            HEADLINES[name],
            _headline_value(name, result.fidelity[name].value),
            f"{METRICS[name].label}: {METRICS[name].definition} Here: {_in_full(name, result.fidelity[name])}.",
        )
        for name in found
    ]


def _headline_value(name: str, value: float) -> str:
    return cosine_text(value) if name.endswith("_cosine") else value_text(value, METRICS[name].unit)


def _in_full(name: str, estimate: Estimate) -> str:
    if _unanimous(estimate):
        return f"{100 * estimate.value:.0f} %, {_how_many(estimate)}"
    unit = METRICS[name].unit.replace("share", "%")
    number = f"{metric_text(name, estimate, digits=2)} {unit}".strip()
    return f"{number} over {_plural(estimate.n, 'position')}"


def headline_numbers(candidate: Headline) -> str:
    """``50 % of the memory, same top token 99.02 %, perplexity × 1.0004, KL 1.13e-4 nat``."""
    parts = []
    if candidate.footprint_ratio is not None:
        parts.append(f"{100 * candidate.footprint_ratio:.3g} % of the memory")
    if candidate.top1_agreement is not None:
        parts.append(f"top-1 agreement {value_text(candidate.top1_agreement, 'share')}")
    if candidate.perplexity_ratio is not None:
        parts.append(f"perplexity {value_text(candidate.perplexity_ratio, '×')}")
    if candidate.kl_mean is not None:
        parts.append(f"KL {value_text(candidate.kl_mean, 'nat')}")
    if candidate.hidden_cosine is not None:
        parts.append(f"hidden-state cosine {cosine_text(candidate.hidden_cosine)}")
    return ", ".join(parts)


def missing_phrase(report: Report, frame: "pd.DataFrame") -> str:
    """Which candidates ``figures.memory_against_damage`` cannot draw on its axis, and why."""
    zero = [_label(name) for name in frame["precision"][frame["value"] <= 0]]
    missing = [result for result in report.results if result.precision not in set(frame["precision"])]
    wide = [row for row in missing if row.fidelity and row.footprint_bytes > report.reference.footprint_bytes]
    larger = [_label(result.precision) for result in wide]
    broken = [_label(result.precision) for result in missing if result not in wide]
    parts = []
    if zero and len(zero) < len(frame):
        has = "has" if len(zero) == 1 else "have"
        parts.append(f"{listed(zero)} {has} a loss of exactly 0, which no logarithmic axis shows.")
    if broken:
        parts.append(f"{listed(broken)} {'is' if len(broken) == 1 else 'are'} not finite and so not in the picture.")
    if larger:
        takes = "takes" if len(larger) == 1 else "take"
        parts.append(f"{listed(larger)} {takes} more memory than the reference and would be far to the right.")
    return " ".join(parts)


def equal_phrase(report: Report) -> str:
    """How much of the outputs does not differ at all."""
    parts: dict[str, float] = {}
    for result in report.results:
        if result.differences is not None:
            outputs = sum(result.differences.counts) + result.differences.zeros
            if outputs:
                parts[_label(result.precision)] = 100 * result.differences.zeros / outputs
    if not parts:
        return ""
    told = [f"{name} {share:.2g} %" for name, share in parts.items()]
    if len(told) > FEW:
        least, most = min(parts, key=lambda name: parts[name]), max(parts, key=lambda name: parts[name])
        told = [f"from {parts[least]:.2g} % ({least}) to {parts[most]:.2g} % ({most})"]
    return f"Exactly equal, and so not in the picture: {', '.join(told)} of all outputs."
