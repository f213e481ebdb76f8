"""Texts, classes and embeddings side by side → plain sentences."""

from collections.abc import Callable

from qfund.core.estimate import Estimate
from qfund.core.intervals import MIN_BLOCKS
from qfund.core.units import number_text, seconds_text
from qfund.drawing.phrases import label, plural, when
from qfund.features.outputs.request import embeddings, generation
from qfund.features.outputs.request.classes import SCORE, Classes
from qfund.features.outputs.request.embeddings import Embeddings
from qfund.features.outputs.request.generation import NOISE, NOT_FINITE, TIED, UNUSUAL, Divergence, Example, Generation

_NEWLINE = "↵"


def piece_text(piece: str) -> str:
    """A token so that its spaces and line ends can be seen: ``“ the”``, ``“:↵”``."""
    return f"“{visible(piece)}”"


def visible(piece: str) -> str:
    return piece.replace("\r", "").replace("\n", _NEWLINE).replace("\t", "⇥")


def percent(share: float) -> str:
    """``37.8 %``; small ones with two digits, none rounded to 0."""
    value = 100 * share
    if value == 0:
        return "0 %"
    return f"{value:.1f} %" if value >= 1 else f"{value:.2g} %" if value >= 1e-4 else "<0.0001 %"


def change(found: Classes, moved: float) -> str:
    """Of a probability in points, not per cent: ``0.13 %-points``; of a score as it is."""
    return number_text(moved) if found.reading == SCORE else f"{percent(moved)}-points"


def candidate(found: Generation, name: str) -> str:
    """One candidate in a sentence or two."""
    statistics = generation.statistics(found, name)
    reference = label(found.request.reference)
    if statistics is None:
        return f"Nothing to compare with: the logits of {reference} were not finite."
    count, diverged = statistics.same.n, sum(statistics.kinds.values())
    if count == 1:
        example = found.counted[0]
        row = example.candidates[name].divergence
        return (
            "The same text, token by token."
            if row is None
            else f"Another text from token {row.step + 1} on: {verdict(row)}."
        )
    if not diverged:
        return f"{'Both' if count == 2 else f'All {count}'} texts are the same, token by token."
    ties, damaged = statistics.kinds.get(TIED, 0), statistics.damaged
    said = f"{count - diverged} of {count} texts are the same to their end; {diverged} diverge"
    said += f": {ties} at a tie, {damaged} where {reference} was decided" if damaged else ", all at a tie"
    rare = statistics.kinds.get(UNUSUAL, 0)
    broken = statistics.kinds.get(NOT_FINITE, 0)
    more = [*([f"{rare} by an unusual error"] if rare else []), *([f"{broken} not finite"] if broken else [])]
    return said + (f" ({', '.join(more)})." if more else ".")


def verdict(row: Divergence) -> str:
    """A tie, or damage, in a few words."""
    return {
        TIED: "a tie",
        NOISE: "damage, by its usual error",
        UNUSUAL: "damage, by an unusual error",
        NOT_FINITE: "its logits are not finite",
    }[row.kind]


def divergence(row: Divergence, reference: str, name: str) -> str:
    """What happened at the first token that differs."""
    mine, other = label(reference), label(name)
    wanted = f"{piece_text(row.pieces[row.chosen[0]])} ({percent(row.reference[row.chosen[0]])})"
    if row.chosen[1] is None or row.gap is None or row.moved is None or row.noise is None:
        return f"At token {row.step + 1} {mine} wrote {wanted}; the logits of {other} are NaN or infinite there."
    instead = f"{piece_text(row.pieces[row.chosen[1]])} ({percent(row.reference[row.chosen[1]])})"
    said = (
        f"At token {row.step + 1} {mine} preferred {wanted} to {instead} by {number_text(row.gap)} logits. {other} "
        f"moved the difference of the two by {number_text(row.moved)}; it usually moves one by "
        f"{number_text(row.noise)} there. "
    )
    if row.kind == TIED:
        return said + f"A tie: {mine} itself was undecided."
    if row.kind == NOISE:
        return (
            said + f"Damage: {mine} was decided, and the error that {other} usually makes is enough to overturn that."
        )
    return said + f"Damage: {mine} was decided, and {other} made a larger error here than it usually does."


def example_title(example: Example, name: str, number: int) -> str:
    """One line for a list of examples: ``12 · token 7, a tie · def abspath(path):↵Return the``."""
    row = example.candidates[name].divergence
    where = "the same" if row is None else f"token {row.step + 1}, {verdict(row)}"
    prompt = visible(example.prompt)
    return f"{number} · {where} · {prompt if len(prompt) <= 70 else prompt[:69] + '…'}"


def how_written(found: Generation) -> str:
    """What was asked for, in a sentence."""
    request = found.request
    many = f"{len(found.examples)} prompts, each alone" if len(found.examples) > 1 else "One prompt"
    how = (
        "the likeliest token at every step"
        if not request.temperature
        else f"tokens drawn at temperature {request.temperature:g} with the same random numbers (seed {request.seed})"
    )
    left = len(found.examples) - len(found.counted)
    broken = f" {left} prompts whose reference is not finite are left out of all averages." if left else ""
    return f"{many}; at most {request.max_new_tokens} new tokens; {how}.{broken}"


def definitions(found: Generation) -> str:
    """How the averages are taken, exactly."""
    reference = label(found.request.reference)
    return (
        f"**Same tokens**: before the first that differs from {reference}'s, on average; a text that never diverges "
        "counts with all its tokens, so this is a lower bound. **Never diverge**: share of prompts. **Other "
        "tokens**: share of positions with another token, position by position to the end of the longer text, on "
        f"average. A **tie**: {reference} preferred its token by at most {generation.TIE} logits (1.28 times as "
        "likely). Anything else is **damage**: by an **unusual** error where the preference was more than twice as "
        "large as what the precision usually moves a difference of two logits by there (√2 standard deviations of its "
        "logits minus the reference's over the vocabulary), by its **usual** error otherwise. In parentheses the 95 % "
        f"interval over prompts, from {MIN_BLOCKS} prompts on."
    )


def provenance(found: Generation | Classes | Embeddings) -> str:
    """One line that says when, where and with what."""
    environment = found.environment
    versions = " · ".join(f"{name} {environment.versions[name]}" for name in ("torch", "transformers"))
    device = environment.cpu if environment.device == "cpu" else environment.device
    return (
        f"Measured on {when(found.created)} in {seconds_text(found.seconds)} · {found.architecture}, {found.task} · "
        f"{versions} · {device} · model {environment.model_id[:19]}"
    )


def classes_sentence(found: Classes, name: str) -> str:
    """One candidate's flips in a sentence."""
    items = found.counted
    what = "texts" if found.reads == "text" else "pictures"
    if found.reading == SCORE:
        return "A score has no classes to flip."
    flips = sum(item.flipped(name, found.request.reference) for item in items)
    ties = sum(
        item.flipped(name, found.request.reference) and item.gap is not None and item.gap <= generation.TIE
        for item in items
    )
    if not items:
        return f"The logits of {label(found.request.reference)} are not finite."
    if not flips:
        return f"The same class for all {len(items)} {what}."
    of = "" if ties == flips else f"{ties} of them "
    tied = f", {of}where {label(found.request.reference)} itself was undecided" if ties else ""
    return f"Another class for {flips} of {len(items)} {what}{tied}."


def embeddings_sentence(found: Embeddings, name: str) -> str:
    """One candidate's ranking in a sentence."""
    statistics, count = embeddings.statistics(found, name), len(found.request.texts)
    if statistics.tau is None:
        return "No order to compare." if count < 2 else "Some embeddings are not finite."
    if not statistics.moved:
        return "The sentences stand in the same order."
    places = f"{statistics.moved} of {count} sentences stand on another place"
    first = found.reference.ranking[0] != found.candidates[name].ranking[0]
    return f"{places}, the nearest among them." if first else f"{places}; the nearest is the same."


def correlations(found: Embeddings) -> list[str]:
    """``BF16: ρ 0.8123 (0.79 to 0.83), +0.0001 (−0.0003 to +0.0005) of FP32's``, of each precision; nothing without
    pairs."""
    if not found.request.pairs:
        return []
    base, rows = label(found.request.reference), []
    for name, row in {found.request.reference: found.reference, **found.candidates}.items():
        said = "not finite" if row.correlation is None else _ends(row.correlation, _plain)
        if row.correlation_change is not None:
            said += f", {_ends(row.correlation_change, _signed)} beside {base}"
        rows.append(f"  {label(name)}: {said}")
    return [
        f"Spearman's ρ of cosine and score, {plural(len(found.request.pairs), 'pair')}, with 95 % intervals:",
        *rows,
        "",
    ]


def _ends(estimate: Estimate, written: Callable[[float], str]) -> str:
    value = written(estimate.value)
    if estimate.low is None or estimate.high is None:
        return value
    return f"{value} ({written(estimate.low)} to {written(estimate.high)})"


def _signed(value: float) -> str:
    return f"{value:+.4f}".replace("-", "−")


def _plain(value: float) -> str:
    return f"{value:.4f}".replace("-", "−")
