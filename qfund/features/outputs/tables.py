"""Texts, classes and embeddings side by side → tidy pandas frames. Pure functions."""

import pandas as pd

from qfund.drawing.csv import csv
from qfund.drawing.numbers import interval_text
from qfund.drawing.phrases import label
from qfund.features.outputs.request import classes, embeddings, generation
from qfund.features.outputs.request.classes import Classes
from qfund.features.outputs.request.embeddings import Embeddings
from qfund.features.outputs.request.generation import KINDS, Generation
from qfund.features.outputs.words import change, verdict, visible

NEVER = "never diverges"


def survival(found: Generation) -> pd.DataFrame:
    """One row a candidate and number of tokens: the share of prompts that are still the same after so many."""
    rows = [
        {"precision": name, "label": label(name), "tokens": tokens, "share": share}
        for name in found.request.candidates
        for tokens, share in enumerate(generation.survival(found, name))
    ]
    return pd.DataFrame(rows, columns=["precision", "label", "tokens", "share"])


def outcomes(found: Generation) -> pd.DataFrame:
    """One row a candidate and outcome: how many prompts never diverge, or at what."""
    rows = []
    for name in found.request.candidates:
        statistics = generation.statistics(found, name)
        if statistics is None:
            continue
        counts = {NEVER: statistics.same.n - sum(statistics.kinds.values())}
        counts |= {kind: statistics.kinds.get(kind, 0) for kind in KINDS}
        rows += [
            {"precision": name, "label": label(name), "outcome": outcome, "prompts": count, "of": statistics.same.n}
            for outcome, count in counts.items()
        ]
    return pd.DataFrame(rows, columns=["precision", "label", "outcome", "prompts", "of"])


def candidates(found: Generation) -> pd.DataFrame:
    """One row a candidate with all its statistics, as text with standard errors."""
    rows = []
    for name in found.request.candidates:
        statistics = generation.statistics(found, name)
        if statistics is None:
            continue
        rows.append(
            {
                "Precision": label(name),
                "Same tokens": interval_text("same", statistics.same),
                "First divergence (token)": interval_text("first", statistics.first) if statistics.first else "–",
                "Never diverge (%)": interval_text("never", statistics.never),
                "Divergent tokens (%)": interval_text("divergent", statistics.divergent),
                **{f"At: {kind}": statistics.kinds.get(kind, 0) for kind in KINDS},
                "Logit noise": statistics.noise,
            }
        )
    frame = pd.DataFrame(rows)
    empty = [name for name in frame.columns if name.startswith("At: not") and not frame[name].any()]
    return frame.drop(columns=empty)


def examples(found: Generation, name: str) -> pd.DataFrame:
    """One row a prompt, the worst first."""
    rows = []
    for number in generation.worst_first(found, name):
        example = found.examples[number]
        candidate = example.candidates[name]
        row = candidate.divergence
        differing = generation.differing(example.reference, candidate.written)
        rows.append(
            {
                "Prompt": number + 1,
                "First other token": None if row is None else row.step + 1,
                "What": "the same" if row is None else verdict(row),
                "Preference": None if row is None else row.gap,
                "Moved by": None if row is None else row.moved,
                "Usual": None if row is None else row.noise,
                "Divergent": 100 * differing,
                "Begins": visible(example.prompt),
                "Reference wrote": visible(example.reference.text),
                "Candidate wrote": visible(candidate.written.text),
            }
        )
    return pd.DataFrame(rows)


def alternatives(found: Generation, number: int, name: str) -> pd.DataFrame:
    """The likeliest tokens where a candidate diverges, one row a token and precision; empty where it does not."""
    row = found.examples[number].candidates[name].divergence
    columns = ["place", "piece", "precision", "label", "probability", "chosen"]
    if row is None:
        return pd.DataFrame(columns=columns)
    rows = [
        {
            "place": place,
            "piece": visible(piece),
            "precision": precision,
            "label": label(precision),
            "probability": shares[place],
            "chosen": place == chosen,
        }
        for precision, shares, chosen in (
            (found.request.reference, row.reference, row.chosen[0]),
            (name, row.candidate, row.chosen[1]),
        )
        if shares
        for place, piece in enumerate(row.pieces)
    ]
    return pd.DataFrame(rows, columns=columns)


def generation_csv(found: Generation) -> bytes:
    """One row a prompt and candidate."""
    frames = [examples(found, name).assign(Precision=label(name)) for name in found.request.candidates]
    return csv(pd.concat(frames))


def classes_table(found: Classes) -> pd.DataFrame:
    """One row an item and precision: the chosen class and its probability."""
    rows = []
    for item in found.items:
        for name in (found.request.reference, *found.request.precisions):
            shares = dict(zip(item.labels, item.values[name], strict=False)) if item.values[name] else {}
            chosen = item.chosen[name]
            rows.append(
                {
                    "Item": item.name,
                    "Precision": label(name),
                    "Class": ", ".join(chosen) if shares else "not finite",
                    "Value": shares.get(chosen[0]) if chosen else None,
                    "Largest change": item.moved.get(name),
                    "Flips": name != found.request.reference and item.flipped(name, found.request.reference),
                }
            )
    return pd.DataFrame(rows)


def class_shares(found: Classes, number: int) -> pd.DataFrame:
    """One item: one row a label and precision."""
    item = found.items[number]
    rows = [
        {"class": class_name, "precision": name, "label": label(name), "value": value}
        for name in dict.fromkeys((found.request.reference, *found.request.precisions))
        for class_name, value in zip(item.labels, item.values[name], strict=False)
    ]
    return pd.DataFrame(rows, columns=["class", "precision", "label", "value"])


def classes_summary(found: Classes) -> pd.DataFrame:
    rows = []
    for name in found.request.precisions:
        statistics = classes.statistics(found, name)
        if statistics is not None:
            rows.append(
                {
                    "Precision": label(name),
                    "Flips (%)": interval_text("flips", statistics.flips),
                    "Largest change, mean": "–" if statistics.moved is None else change(found, statistics.moved.value),
                }
            )
    return pd.DataFrame(rows)


def similarity(found: Embeddings, name: str) -> pd.DataFrame:
    """Cosine of every pair in one precision, the query first; NaN where an embedding is not finite."""
    row = found.reference if name == found.request.reference else found.candidates[name]
    names = ["Query", *(str(number) for number in range(1, len(found.request.texts) + 1))]
    return pd.DataFrame(row.similarity, index=names, columns=names, dtype=float)


def rankings(found: Embeddings) -> pd.DataFrame:
    """One row a sentence and precision: its place (1 is nearest to the query) and cosine with the query."""
    rows = []
    for name in dict.fromkeys((found.request.reference, *found.request.precisions)):
        row = found.reference if name == found.request.reference else found.candidates[name]
        for place, index in enumerate(row.ranking, 1):
            rows.append(
                {
                    "precision": name,
                    "label": label(name),
                    "sentence": index + 1,
                    "text": found.request.texts[index],
                    "place": place,
                    "cosine": row.scores[index],
                }
            )
    return pd.DataFrame(rows)


def embeddings_summary(found: Embeddings) -> pd.DataFrame:
    rows = []
    for name in found.request.precisions:
        statistics = embeddings.statistics(found, name)
        rows.append(
            {
                "Precision": label(name),
                "Cosine to the reference, mean": statistics.cosine.value if statistics.cosine else None,
                "Smallest": statistics.worst,
                "Kendall's τ": statistics.tau,
                "Other places": statistics.moved,
            }
        )
    return pd.DataFrame(rows)


def sentences(found: Embeddings) -> pd.DataFrame:
    """One row a sentence: its cosine with the query in every precision, by the reference's order."""
    rows = []
    for place, index in enumerate(found.reference.ranking, 1):
        row = {"Place": place, "Sentence": found.request.texts[index]}
        for name in dict.fromkeys((found.request.reference, *found.request.precisions)):
            one = found.reference if name == found.request.reference else found.candidates[name]
            row[label(name)] = f"{one.ranking.index(index) + 1} · {_cosine(one.scores[index])}"
        rows.append(row)
    return pd.DataFrame(rows)


def _cosine(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.4f}"
