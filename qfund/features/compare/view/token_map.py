"""The text as a heat map of tokens: a component that draws once and answers every click in the browser."""

import struct
from pathlib import Path

import msgspec

from qfund.drawing.palette import precision_color
from qfund.drawing.phrases import label
from qfund.features.compare.request.report import Alternatives, Report
from qfund.ui.components import component

_ASSETS = Path(__file__).parent / "assets"


def payload(report: Report, key: str) -> bytes:
    """What the browser needs to draw ``report.tokens``: the length of a JSON document (four bytes, little-endian), that
    document, filled up with spaces so that what follows begins at a multiple of four, and then for each candidate the
    KL divergences of all positions (bfloat16) and, after those of all candidates, the bits of what changed."""
    tokens = report.tokens
    assert tokens is not None
    reference = report.reference.precision
    header = msgspec.json.encode(
        {
            "id": key,
            "pieces": tokens.pieces,
            "starts": tokens.chunk_starts,
            "next": tokens.predicts_next,
            "total": tokens.total,
            "vocabulary": tokens.vocabulary,
            "broken": report.reference.nonfinite_positions > 0,
            "detailed": _ranges(tokens.detailed),
            "reference": {**_named(reference), **_alternatives(tokens.reference)},
            "candidates": [
                {
                    **_named(name),
                    **_alternatives(candidate.alternatives),
                    "kl": candidate.kl,
                    "diff": candidate.mean_abs,
                }
                for name, candidate in tokens.candidates.items()
            ],
        }
    )
    header += b" " * (-len(header) % 4)
    parts = [candidate.every_kl for candidate in tokens.candidates.values()]
    parts += [candidate.every_changed for candidate in tokens.candidates.values()]
    return b"".join([struct.pack("<I", len(header)), header, *parts])


def _ranges(positions: tuple[int, ...]) -> list[tuple[int, int]]:
    """Ascending positions as pairs of the first and the one after the last of each run."""
    found: list[tuple[int, int]] = []
    for position in positions:
        if found and found[-1][1] == position:
            found[-1] = (found[-1][0], position + 1)
        else:
            found.append((position, position + 1))
    return found


def _named(precision: str) -> dict[str, object]:
    return {"label": label(precision), "colour": precision_color(precision)}


def _alternatives(found: Alternatives) -> dict[str, object]:
    return {"t": found.tokens, "p": found.probabilities}


def token_map(data: bytes, key: str) -> None:
    """Draw what ``payload`` made."""
    component(_ASSETS, "token_map")(data=data, key=key)
