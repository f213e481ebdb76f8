"""Results → tidy pandas frames. Pure functions; no Streamlit."""

import pandas as pd

from qfund.drawing.phrases import label
from qfund.features.layers.request import recipe, swaps
from qfund.features.layers.request.modules import Layers
from qfund.features.layers.request.recipe import Mixture, Recipe
from qfund.features.layers.request.swaps import Swaps


def injected(found: Layers) -> pd.DataFrame:
    """A row for each module × precision: ``module kind block parameters precision label relative_l2 sqnr cosine bytes
    score``."""
    rows = [
        {
            "module": row.name,
            "kind": row.kind,
            "block": row.block,
            "parameters": row.parameters,
            "precision": name,
            "label": label(name),
            "relative_l2": error.relative_l2,
            "sqnr": error.sqnr,
            "cosine": error.cosine,
            "bytes": error.bytes,
            "score": error.score,
        }
        for row in found.modules
        for name, error in row.injected.items()
    ]
    names = ["module", "kind", "block", "parameters", "precision", "label", "relative_l2", "sqnr", "cosine", "bytes"]
    return pd.DataFrame(rows, columns=[*names, "score"])


def swapped(found: Swaps) -> pd.DataFrame:
    """A row for each part × precision: ``part precision label modules kl low high changed share``; ``share`` is of the
    sum of single swaps of this precision."""
    rows = []
    for name in found.request.precisions:
        every = swaps.of(found, name)
        total = sum(row.kl.value for row in every)
        rows += [
            {
                "part": row.part,
                "precision": name,
                "label": label(name),
                "modules": len(row.modules),
                "kl": row.kl.value,
                "low": row.kl.low,
                "high": row.kl.high,
                "changed": row.changed.value,
                "share": row.kl.value / total if total else 0.0,
            }
            for row in every
        ]
    return pd.DataFrame(
        rows, columns=["part", "precision", "label", "modules", "kl", "low", "high", "changed", "share"]
    )


def against(found: Layers, dropped: Swaps) -> pd.DataFrame:
    """A row for each part × precision that both know: ``injected``, the mean of its modules' relative errors, and
    ``score``, the sum of what gradients foretell of them, beside ``kl``, what swapping it costs the model's outputs:
    ``part precision label injected score kl``."""
    errors = {(row.name, name): error for row in found.modules for name, error in row.injected.items()}
    rows = []
    for swap in dropped.swaps:
        held = [errors[module, swap.precision] for module in swap.modules if (module, swap.precision) in errors]
        scores = [error.score for error in held]
        if held:
            rows.append(
                {
                    "part": swap.part,
                    "precision": swap.precision,
                    "label": label(swap.precision),
                    "injected": sum(error.relative_l2 for error in held) / len(held),
                    "score": None if None in scores else sum(score for score in scores if score is not None),
                    "kl": swap.kl.value,
                }
            )
    return pd.DataFrame(rows, columns=["part", "precision", "label", "injected", "score", "kl"])


def rank_correlation(frame: pd.DataFrame, column: str = "injected") -> dict[str, float]:
    """Spearman's ρ of ``injected`` (or ``score``) and what swaps cost over the parts, by precision, of those with at
    least three."""
    found = {}
    for name, rows in frame.dropna(subset=[column]).groupby("precision", sort=False):
        if len(rows) >= 3:
            found[str(name)] = float(rows[column].rank().corr(rows["kl"].rank()))
    return {name: value for name, value in found.items() if value == value}


def mixtures(found: Recipe) -> pd.DataFrame:
    """The recipe, uniform precisions and the frontier: ``label what bytes bits predicted kl low high``."""
    rows = [_mixture("recipe", found.recipe), *(_mixture("uniform", row) for row in found.uniform)]
    rows += [_mixture("frontier", row) for row in found.frontier]
    return pd.DataFrame(rows, columns=["label", "what", "precision", "bytes", "bits", "predicted", "kl", "low", "high"])


def _mixture(what: str, row: Mixture) -> dict[str, object]:
    kl = row.kl
    return {
        "label": recipe.label(row),
        "what": what,
        "precision": row.precision,
        "bytes": row.bytes,
        "bits": row.bits,
        "predicted": row.predicted,
        "kl": kl.value if kl else None,
        "low": kl.low if kl else None,
        "high": kl.high if kl else None,
    }


def assigned(found: Mixture) -> pd.DataFrame:
    """A row for each module of a mix: ``module precision label``."""
    rows = [{"module": name, "precision": row, "label": label(row)} for name, row in found.modules.items()]
    return pd.DataFrame(rows, columns=["module", "precision", "label"])
