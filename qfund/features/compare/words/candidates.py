"""Candidates in sentences. They never claim more than the numbers say: every claim of a change is checked against its
interval, and what is not finite is said first.
"""

import math
from dataclasses import dataclass, replace

from qfund.core.estimate import Estimate
from qfund.core.units import bytes_text, number_text
from qfund.drawing.numbers import cosine_text, interval_text, value_text
from qfund.drawing.phrases import label, listed, plural, unbroken
from qfund.features.compare.request.report import PrecisionResult, Report, by_chance, predicts_tokens
from qfund.features.compare.request.simultaneous import simultaneous
from qfund.features.compare.words.footprints import conversion_phrase
from qfund.features.compare.words.stored import upcast_from
from qfund.precisions.caches import weights_of
from qfund.precisions.table import PRECISIONS
from qfund.precisions.unconverted import unconverted

#: Predictions that a claim about perplexity needs: the error of a few says little about the error of the next few.
ENOUGH = 30

#: Activations that come within this factor of the largest number that their dtype holds are worth a word.
LITTLE_HEADROOM = 2.0
MUCH_HEADROOM = 1e4


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


def memory_phrase(result: PrecisionResult, reference: PrecisionResult, disk: int | None = None) -> str:
    """``half the memory (7.79 MiB instead of 15.6 MiB)``, and what large matrices were not converted. Of a reference
    that is an upcast ``disk`` are the bytes of the checkpoint, which says more: ``half of what is on disk (…)``."""
    stays = unconverted(result.tensors, result.left_modules)
    if (cache := result.cache) is not None and cache.bytes != cache.computed:
        sizes = f"{bytes_text(cache.bytes)} instead of {bytes_text(cache.computed)} for {cache.tokens:,} tokens"
        return f"{memory_phrase(replace(result, cache=None), reference, disk)}, a KV cache of {sizes}"
    return _size_phrase(result.footprint_bytes, reference.footprint_bytes, disk) + (
        f", as {stays.phrase}" if stays else ""
    )


def _size_phrase(own: int, reference: int, disk: int | None) -> str:
    whole = disk or reference
    what = "what is on disk" if disk else "the memory"
    sizes = f"{bytes_text(own)} instead of {bytes_text(whole)}"
    if own == whole:
        return f"as much as on disk ({bytes_text(own)})" if disk else f"the same memory ({bytes_text(own)})"
    if not whole:
        return bytes_text(own)
    ratio, of = own / whole, "of " * bool(disk)
    for share, words in ((0.5, f"half {of}{what}"), (0.25, f"a quarter of {what}")):
        if abs(ratio / share - 1) < 0.005:
            return f"{words} ({sizes})"
    if abs(ratio - 1) < 0.005:
        return f"nearly {'as much as on disk' if disk else 'the same memory'} ({sizes})"
    if ratio < 1:
        return f"{100 * ratio:.3g} % of {what} ({sizes})"
    return f"{ratio:.2f} × {what} ({sizes})"


def _agreement_phrase(estimate: Estimate, noun: str, place: str) -> str:
    if estimate.n == 1:
        return f"{'the same' if estimate.value else 'another'} {noun} on the one {place}"
    if estimate.value in (0, 1):  # said in words: the error of "all" and of "none" is no 0
        share = "every one" if estimate.value else "none"
        return f"the same {noun} on {share} of {plural(estimate.n, place)}"
    return f"the same {noun} on {interval_text('top1_agreement', estimate, ' %')} of {plural(estimate.n, place)}"


def perplexity_phrase(ratio: Estimate) -> str:
    """Whether perplexity changed, said only as far as the interval allows."""
    if not math.isfinite(ratio.value):
        return "a perplexity that is not finite"
    if ratio.value == 1 and ratio.se == 0:
        return "exactly the same perplexity"
    if ratio.n < ENOUGH:
        return f"perplexity {value_text(ratio.value, '×')} (too few positions to judge: {ratio.n:,})"
    if ratio.low is None or ratio.high is None:
        return f"perplexity {value_text(ratio.value, '×')} (too few chunks to judge)"
    perhaps = ", perhaps unchanged" if ratio.low <= 1 <= ratio.high else ""
    return f"perplexity × {interval_text('perplexity_ratio', ratio)}{perhaps}"


def _output_phrases(report: Report, result: PrecisionResult) -> tuple[str, ...]:
    found = simultaneous(report, result)
    if not found:
        return ("nothing that could be compared",)
    largest = found.get("max_abs_logit_diff") or found.get("max_abs_hidden_diff")
    if largest is not None and largest.value == 0:
        outputs = "logits" if "max_abs_logit_diff" in found else "hidden states"
        return (f"exactly the same {outputs}",)
    language = "perplexity_ratio" in found or predicts_tokens(report)
    place = "picture" if report.input.source == "pictures" and not language else "position"
    phrases = []
    if "top1_agreement" in found:
        phrases.append(_agreement_phrase(found["top1_agreement"], "top token" if language else "top class", place))
    if "perplexity_ratio" in found:
        phrases.append(perplexity_phrase(found["perplexity_ratio"]))
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
    name, alarms, seen = label(result.precision), [], result.range
    begins = seen.first_nonfinite if seen else None
    if result.nonfinite_positions:
        where = plural(result.nonfinite_positions, "position")
        rest = (
            "They are counted here and left out of every other number."
            if result.fidelity
            else "None is left to compare."
        )
        alarms.append(f"{name}: {where} gave outputs that are not finite (NaN or infinity). {rest}")
    if seen is not None and begins:
        kind = f" ({seen.first_nonfinite_kind})" if seen.first_nonfinite_kind else ""
        count = seen.nonfinite_modules
        affected = f"; {plural(count, 'module')} {'is' if count == 1 else 'are'} affected" if count else ""
        alarms.append(f"{name}: the first values that are not finite come out of {begins}{kind}{affected}.")
    return (*alarms[:-1], alarms[-1] + _remedy(result, reference)) if alarms else ()


def _remedy(result: PrecisionResult, reference: PrecisionResult | None) -> str:
    bad = result.range.bad_weights if result.range else 0
    if bad:
        return f" {plural(bad, 'value')} of its weights {'is' if bad == 1 else 'are'} NaN or infinite."
    row = PRECISIONS.get(weights_of(result.precision))
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
    name, cautions, seen, clipped = label(result.precision), [], result.range, result.saturation
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


def asides(result: PrecisionResult) -> tuple[str, ...]:
    """What is worth knowing of a candidate beyond its verdict, in sentences: what was quantised, what is emulated, how
    it was done, and how far values stayed from the end of FP16."""
    row, seen = PRECISIONS.get(weights_of(result.precision)), result.range
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


def verdict(report: Report, result: PrecisionResult) -> Verdict:
    return Verdict(
        precision=result.precision,
        label=label(result.precision),
        memory=memory_phrase(result, report.reference, upcast_from(report)),
        outputs=_output_phrases(report, result),
        alarms=_alarms(result, report.reference),
        cautions=_cautions(result),
    )


def body(report: Report, result: PrecisionResult) -> str:
    """What a candidate takes and computes in: what is known of it beside its outputs."""
    memory = unbroken(memory_phrase(result, report.reference, upcast_from(report)))
    said = (f"{memory[:1].upper()}{memory[1:]}.", arithmetic(result), result.note)
    return " ".join(filter(None, said))


def verdicts(report: Report) -> list[Verdict]:
    return [verdict(report, result) for result in report.results]


def reference_alarms(report: Report) -> tuple[str, ...]:
    alarms = _alarms(report.reference)
    if not by_chance(report):
        return alarms
    name, perplexity = label(report.reference.precision), report.reference.fidelity["perplexity"].value
    return (
        *alarms,
        f"{name} predicts this text no better than chance: its perplexity is {number_text(perplexity)}, and that of "
        f"guessing among all tokens {report.model.vocabulary:,}. Check that weights, tokenizer and text "
        "belong together: what follows says how alike two models are that predict nothing.",
    )


def arithmetic(result: PrecisionResult) -> str:
    """What a candidate computes in, as far as it is true of the whole model: transformers keeps some modules wider."""
    row = PRECISIONS.get(weights_of(result.precision))
    if row is None:
        return ""
    kept = {name: share.bytes for name, share in result.dtypes.items() if name != row.dtype and share.parameters}
    if row.quantizer or not kept or not result.footprint_bytes:
        emulated = f" Emulated here: {row.emulated}" if row.emulated else ""
        return f"{row.arithmetic[:1].upper()}{row.arithmetic[1:]}.{emulated}"
    share = 100 * sum(kept.values()) / result.footprint_bytes
    return f"{row.label} but for {share:.2g} % of the bytes in {listed(list(kept))} (modules that transformers keeps)."
