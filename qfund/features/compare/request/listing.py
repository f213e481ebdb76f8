"""A comparison as one line of a listing."""

from dataclasses import dataclass, replace

from qfund.core.estimate import Estimate
from qfund.features.compare.request.costs import Costs
from qfund.features.compare.request.report import PrecisionResult, Report
from qfund.features.compare.request.spec import Spec

EXCERPT = 80  # characters of a text that a listing shows

#: What a margin may be set on, and what tells that nothing differs (``request.decision``).
_DECIDING = frozenset(
    {
        *("perplexity", "perplexity_ratio", "top1_agreement", "kl_mean", "hidden_cosine"),
        *("max_abs_logit_diff", "mean_abs_logit_diff", "max_abs_hidden_diff", "mean_abs_hidden_diff"),
    }
)


@dataclass(frozen=True, slots=True)
class Headline:
    """One candidate in a few numbers; None where the task or the input gives none. ``footprint_ratio`` is bytes of the
    candidate over bytes of the reference, ``kl_mean`` is in nats. Listings are JSON, and older ones lack the
    fields that have a default."""

    precision: str
    footprint_ratio: float | None
    kl_mean: float | None
    top1_agreement: float | None
    perplexity_ratio: float | None
    hidden_cosine: float | None = None
    nonfinite_positions: int = 0


@dataclass(frozen=True, slots=True)
class Saved:
    """One line of a listing. ``text`` is the start of the text that was given, None for the model's own; ``created`` is
    ISO 8601; ``qfund`` the version that measured; ``pictures`` how many were looked at, 0 where a text was read.
    ``numbers`` is the report without all that no decision rests on (``condensed``); older lines lack it."""

    key: str
    created: str
    model: str
    revision: str | None
    reference: str
    precisions: tuple[str, ...]
    tokens: int
    text: str | None
    qfund: str
    candidates: tuple[Headline, ...]
    pictures: int = 0
    also: tuple[str, ...] = ()
    libraries: bool = False
    costs: Costs | None = None
    numbers: Report | None = None

    @classmethod
    def of(cls, key: str, report: Report) -> "Saved":
        """The line of a report that is kept under ``key``."""
        candidates = []
        for result in report.results:
            base = report.reference.footprint_bytes
            value = {name: estimate.value for name, estimate in result.fidelity.items()}
            candidates.append(
                Headline(
                    precision=result.precision,
                    footprint_ratio=result.footprint_bytes / base if base else None,
                    kl_mean=value.get("kl_mean"),
                    top1_agreement=value.get("top1_agreement"),
                    perplexity_ratio=value.get("perplexity_ratio"),
                    hidden_cosine=value.get("hidden_cosine"),
                    nonfinite_positions=result.nonfinite_positions,
                )
            )
        spec = report.spec
        return cls(
            key=key,
            created=report.created,
            model=spec.model,
            revision=spec.revision,
            reference=spec.reference,
            precisions=spec.candidates,
            tokens=report.input.tokens,
            text=_excerpt(spec),
            qfund=report.qfund,
            candidates=tuple(candidates),
            pictures=report.input.chunks if report.input.source == "pictures" else 0,
            also=spec.also,
            libraries=spec.libraries,
            costs=report.costs,
            numbers=condensed(report),
        )


def condensed(report: Report) -> Report:
    """What says of each candidate the same as the report (its size, what was decided of it by any margin) in some
    kilobytes: without tokens, tensors, modules, chunks, buckets and layers, and of a text its start."""
    spec = replace(report.spec, text=_excerpt(report.spec), texts=())
    noise = tuple(replace(run, fidelity=_deciding(run.fidelity)) for run in report.noise)
    results = tuple(map(_condensed, report.results))
    facts = replace(report.input, notes=(), texts=())
    reference = _condensed(report.reference)
    return replace(
        report, spec=spec, reference=reference, results=results, noise=noise, input=facts, tokens=None, costs=None
    )


def _condensed(result: PrecisionResult) -> PrecisionResult:
    bare = replace(result, tensors=(), converted_modules=(), left_modules=(), differences=None, libraries=())
    bare = replace(bare, percentiles={}, buckets=(), chunks=None, drift=(), range=None, saturation=None, parts={})
    return replace(bare, fidelity=_deciding(result.fidelity), dtypes={}, latency=None)


def _deciding(fidelity: dict[str, Estimate]) -> dict[str, Estimate]:
    return {name: estimate for name, estimate in fidelity.items() if name in _DECIDING}


def _excerpt(spec: Spec) -> str | None:
    """What tells a visitor's own input from others; None where it was not a visitor's own."""
    if spec.texts:
        return f"{len(spec.texts):,} texts: {', '.join(named.name for named in spec.texts)}"[:EXCERPT]
    return None if spec.text is None else spec.text[:EXCERPT]
