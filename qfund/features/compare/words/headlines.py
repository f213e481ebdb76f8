"""The most telling numbers of a candidate, in a line."""

from qfund.drawing.numbers import cosine_text, value_text
from qfund.features.compare.request.listing import Headline


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
