"""Where candidates disagree with the reference, token by token."""

import pandas as pd

from qfund.drawing.phrases import visible
from qfund.features.compare.request.report import Report


def disagreements(report: Report, precision: str) -> pd.DataFrame:
    """The tokens that are kept in full with the largest KL divergence first, as a table that can be sorted. Tokens are
    counted from 1, as in the heat map."""
    difference = "mean |difference| (logit)"
    columns = ["token number", "token", "KL (nat)", difference, "top-1", "reference expects", "candidate expects"]
    tokens = report.tokens
    if tokens is None or precision not in tokens.candidates:
        return pd.DataFrame(columns=columns)
    candidate = tokens.candidates[precision]
    rows = []
    for place, (position, kl) in enumerate(zip(tokens.detailed, candidate.kl, strict=True)):
        shown = position + tokens.predicts_next
        if kl is None or shown >= len(tokens.pieces):
            continue
        rows.append(
            {
                "token number": shown + 1,
                "token": visible(tokens.pieces[shown]),
                "KL (nat)": kl,
                difference: candidate.mean_abs[place],
                "top-1": {True: "same", False: "changed", None: ""}[candidate.same_top1[place]],
                "reference expects": _expected(tokens.vocabulary, tokens.reference.tokens[place]),
                "candidate expects": _expected(tokens.vocabulary, candidate.alternatives.tokens[place]),
            }
        )
    frame = pd.DataFrame(rows, columns=columns)
    return frame.sort_values("KL (nat)", ascending=False, ignore_index=True, kind="stable")


def _expected(vocabulary: tuple[str, ...], tokens: tuple[int, ...]) -> str:
    return visible(vocabulary[tokens[0]]) if tokens else ""
