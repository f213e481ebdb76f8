"""The first tokens of the input with what each precision makes of them: a ``TokenMap`` from a finished comparison."""

from typing import Any

import numpy as np

from qfund.inputs import Prepared
from qfund.measures.fidelity import Candidate, Comparison
from qfund.report import Alternatives, TokenDisagreement, TokenMap
from qfund.tasks import Task

#: Positions that a report keeps one by one; the statistics are over all of them.
SHOWN = 1024


def token_map(prepared: Prepared, comparison: Comparison, task: Task) -> TokenMap | None:
    """None where the outputs are not predictions of tokens."""
    if task.gives != "tokens" or not prepared.pieces:
        return None
    scored = _scored(prepared)
    places = np.flatnonzero(scored)[:SHOWN]  # where in the text each kept position stands
    total = len(prepared.pieces)
    shown = min(total, SHOWN if len(places) < SHOWN else int(places[-1]) + 1)
    places = places[places < shown]
    vocabulary: dict[int, int] = {}
    reference = _alternatives(comparison.reference, places, shown, vocabulary)
    candidates = {
        name: _disagreement(candidate, places, shown, vocabulary) for name, candidate in comparison.candidates.items()
    }
    return TokenMap(
        pieces=prepared.pieces[:shown],
        chunk_starts=tuple(start for start in prepared.chunk_starts if start < shown),
        predicts_next=prepared.predicts_next,
        total=total,
        vocabulary=tuple(_piece(prepared.tokenizer, token) for token in vocabulary),
        reference=reference,
        candidates=candidates,
    )


def _scored(prepared: Prepared) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Which tokens of the text have a compared position, in order."""
    parts: list[np.ndarray[Any, Any]] = []
    for batch in prepared.batches:
        assert batch.targets is not None
        parts.append(np.ones(batch.targets.numel(), bool) if batch.scored is None else batch.scored.flatten().numpy())
    return np.concatenate(parts)


def _piece(tokenizer: Any, token: int) -> str:
    text: str = tokenizer.decode([token])
    return text or str(tokenizer.convert_ids_to_tokens(token))


def _alternatives(
    candidate: Candidate, places: np.ndarray[Any, Any], shown: int, vocabulary: dict[int, int]
) -> Alternatives:
    tokens: list[tuple[int, ...]] = [()] * shown
    probabilities: list[tuple[float, ...]] = [()] * shown
    for place, kept in zip(places, candidate.kept, strict=False):
        tokens[place] = tuple(vocabulary.setdefault(token, len(vocabulary)) for token in kept.top)
        probabilities[place] = tuple(float(f"{share:.4g}") for share in kept.probabilities)
    return Alternatives(tuple(tokens), tuple(probabilities))


def _disagreement(
    candidate: Candidate, places: np.ndarray[Any, Any], shown: int, vocabulary: dict[int, int]
) -> TokenDisagreement:
    kl: list[float | None] = [None] * shown
    mean_abs: list[float | None] = [None] * shown
    same: list[bool | None] = [None] * shown
    found = [candidate.vector(name) for name in ("kl", "mean_abs", "same_top1")]
    measured = zip(*(vector for vector in found if vector is not None), strict=True)
    for place, good in zip(places, candidate.finite, strict=False):
        if good:
            divergence, difference, agreed = next(measured)
            kl[place] = float(f"{divergence:.4g}")
            mean_abs[place] = float(f"{difference:.4g}")
            same[place] = bool(agreed)
    return TokenDisagreement(
        tuple(kl), tuple(mean_abs), tuple(same), _alternatives(candidate, places, shown, vocabulary)
    )
