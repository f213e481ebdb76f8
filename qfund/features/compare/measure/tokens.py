"""The tokens of the input with what each precision makes of them: a ``TokenMap`` from a finished comparison.

Every position leaves a colour (two bytes a candidate). What each precision expected there is kept of the first
positions, to be read from the start, and of those where candidates disagree most, to be looked at one by one.
"""

from collections.abc import Mapping, Sequence
from heapq import heappush, heappushpop
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qfund.core import codes
from qfund.features.compare.request.report import Alternatives, TokenDisagreement, TokenMap
from qfund.models.comparison.positions import Candidate, Comparison, Kept
from qfund.models.inputs import Prepared
from qfund.models.tasks import Task

Vector = NDArray[np.float64]

#: Positions from the start of which everything is kept.
SHOWN = 1024
#: Positions that a report keeps as colours; the statistics are over all of them.
TILES = 65_536
#: Positions of large disagreement of which everything is kept, shared by the candidates; each has ``LEAST`` or more.
WORST, LEAST = 192, 8


class Worst:
    """Chooses, tile by tile, which positions are worth keeping in full: the first ``SHOWN``, and each that is among
    those of the largest divergence so far for any candidate. Positions are counted as they come.

    What was chosen early may be outdone later: the largest of all are always among the chosen, and of positions in
    random order a few times as many are chosen (the harmonic series).
    """

    def __init__(self, candidates: int) -> None:
        self.each = max(LEAST, WORST // max(1, candidates))
        self.largest: list[list[float]] = [[] for _ in range(candidates)]
        self.seen = 0

    def choose(self, divergences: Sequence[Vector]) -> NDArray[np.int64]:
        """Which of the next positions to keep, as indices into this tile.

        ``divergences`` holds the KL divergence at each of them for every candidate, [positions] each, NaN where
        nothing was compared.
        """
        count = len(divergences[0]) if divergences else 0
        chosen = np.arange(count) < SHOWN - self.seen
        for largest, values in zip(self.largest, divergences, strict=True):
            # Most tiles hold nothing larger: one comparison of a vector, and no loop.
            least = largest[0] if len(largest) == self.each else 0.0
            for place in np.flatnonzero(values > least):
                if len(largest) < self.each:
                    heappush(largest, float(values[place]))
                elif values[place] > largest[0]:
                    heappushpop(largest, float(values[place]))
                else:
                    continue
                chosen[place] = True
        self.seen += count
        return np.flatnonzero(chosen)


def token_map(prepared: Prepared, comparison: Comparison, task: Task) -> TokenMap | None:
    """None where the outputs are not predictions of tokens."""
    if task.gives != "tokens" or not prepared.pieces:
        return None
    compared = np.flatnonzero(_scored(prepared))  # where in the text each compared position stands
    total = len(prepared.pieces)
    shown = min(total, TILES)
    compared = compared[compared < shown]
    every = {name: _every(candidate, compared, shown) for name, candidate in comparison.candidates.items()}
    kept = comparison.reference.kept
    # The first tokens in full, with those that are not predicted, and then what was kept besides.
    first = min(shown, SHOWN if len(compared) < SHOWN else int(compared[SHOWN - 1]) + 1)
    worst = _worst([found["kl"] for found in every.values()], [int(compared[i]) for i in kept if i < len(compared)])
    detailed = np.union1d(np.arange(first), worst).astype(np.int64)
    # Position → which of the compared ones it is.
    numbers = {int(place): number for number, place in enumerate(compared)}
    order = [numbers.get(int(place)) for place in detailed]
    vocabulary: dict[int, int] = {}
    reference = _alternatives(kept, order, vocabulary)
    candidates = {
        name: _disagreement(candidate, every[name], detailed, order, vocabulary)
        for name, candidate in comparison.candidates.items()
    }
    return TokenMap(
        pieces=prepared.pieces[:shown],
        chunk_starts=tuple(start for start in prepared.chunk_starts if start < shown),
        predicts_next=prepared.predicts_next,
        total=total,
        vocabulary=tuple(_piece(prepared.tokenizer, token) for token in vocabulary),
        reference=reference,
        candidates=candidates,
        detailed=tuple(detailed.tolist()),
    )


def _worst(every: list[Vector], kept: list[int]) -> list[int]:
    """Of the positions that were kept, those with each candidate's largest divergences."""
    places = np.array(kept, np.int64)
    each = max(LEAST, WORST // max(1, len(every)))
    found: set[int] = set()
    for values in every:
        divergences = np.nan_to_num(values[places], nan=0.0)
        order = places[np.argsort(-divergences, kind="stable")[:each]]
        found.update(int(place) for place in order if values[place] > 0)
    return sorted(found)


def _scored(prepared: Prepared) -> NDArray[np.bool_]:
    """Which tokens of the text have a compared position, in order."""
    parts: list[NDArray[Any]] = []
    for batch in prepared.batches:
        assert batch.targets is not None
        parts.append(np.ones(batch.targets.numel(), bool) if batch.scored is None else batch.scored.flatten().numpy())
    return np.concatenate(parts)


def _piece(tokenizer: Any, token: int) -> str:
    text: str = tokenizer.decode([token])
    return text or str(tokenizer.convert_ids_to_tokens(token))


def _alternatives(kept: Mapping[int, Kept], order: list[int | None], vocabulary: dict[int, int]) -> Alternatives:
    found = [kept.get(number) if number is not None else None for number in order]
    return Alternatives(
        tuple(
            tuple(vocabulary.setdefault(token, len(vocabulary)) for token in each.top) if each else () for each in found
        ),
        tuple(tuple(float(f"{share:.4g}") for share in each.probabilities) if each else () for each in found),
    )


def _every(candidate: Candidate, compared: NDArray[np.int64], shown: int) -> dict[str, Vector]:
    """What is told of a position, at every shown one: [shown] each, −1 where nothing was compared and NaN where outputs
    were not finite."""
    compared = compared[: len(candidate.finite)]  # who left early was not compared at later ones
    finite = compared[np.array(candidate.finite[: len(compared)], bool)]
    found: dict[str, Vector] = {}
    for name in ("kl", "mean_abs", "same_top1"):
        measured = candidate.vector(name)
        found[name] = np.full(shown, -1.0)
        found[name][compared] = np.nan
        if measured is not None:
            found[name][finite] = measured[: len(finite)]
    return found


def _disagreement(
    candidate: Candidate,
    found: dict[str, Vector],
    detailed: NDArray[np.int64],
    order: list[int | None],
    vocabulary: dict[int, int],
) -> TokenDisagreement:
    return TokenDisagreement(
        kl=_rounded(found["kl"][detailed]),
        mean_abs=_rounded(found["mean_abs"][detailed]),
        same_top1=tuple(bool(same) if same >= 0 else None for same in found["same_top1"][detailed]),
        alternatives=_alternatives(candidate.kept, order, vocabulary),
        every_kl=codes.magnitudes(found["kl"]),
        every_changed=codes.flags(found["same_top1"] == 0),
    )


def _rounded(values: Vector) -> tuple[float | None, ...]:
    return tuple(float(f"{value:.4g}") if value >= 0 else None for value in values)
