"""A comparison as one line of a listing."""

from dataclasses import dataclass

from qfund.features.compare.request.costs import Costs
from qfund.features.compare.request.report import Report
from qfund.features.compare.request.spec import Spec

EXCERPT = 80  # characters of a text that a listing shows


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
    ISO 8601; ``qfund`` the version that measured; ``pictures`` how many were looked at, 0 where a text was read."""

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
        )


def _excerpt(spec: Spec) -> str | None:
    """What tells a visitor's own input from others; None where it was not a visitor's own."""
    if spec.texts:
        return f"{len(spec.texts):,} texts: {', '.join(named.name for named in spec.texts)}"[:EXCERPT]
    return None if spec.text is None else spec.text[:EXCERPT]
