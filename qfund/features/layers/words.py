"""What modules cost, in sentences."""

import json
import math
import re
import shlex
import statistics
from collections.abc import Mapping, Sequence

from qfund.core.estimate import Estimate
from qfund.core.units import bytes_text, number_text
from qfund.drawing.numbers import interval_text
from qfund.drawing.phrases import label, plural
from qfund.features.layers.request import recipe, swaps
from qfund.features.layers.request.exports import Exported
from qfund.features.layers.request.modules import Layers, Module, worst
from qfund.features.layers.request.recipe import Recipe
from qfund.features.layers.request.swaps import Swaps

#: Sums of single swaps that are off by more than this mislead.
ADDITIVE = 1.25


#: Names that a sentence holds.
FEW = 3


def shortened(names: Sequence[str]) -> list[str]:
    """The same names without the dotted beginning that all of them have: ``layers.0.self_attn.q_proj``. A number
    keeps the word before it."""
    split = [name.split(".") for name in names]
    same = 0
    for parts in zip(*split, strict=False):
        if len(set(parts)) > 1 or parts[0].isdigit():
            break
        same += 1
    same = min([same, *(len(parts) - 1 for parts in split)])
    while same and any(parts[same].isdigit() for parts in split):
        same -= 1
    return [".".join(parts[same:]) for parts in split]


def axis_names(names: Sequence[str]) -> list[str]:
    """As short as an axis on a phone wants them, and still apart: ``0 · q_proj``."""
    found = []
    for name in names:
        parts = name.split(".")
        number = next((part for part in parts if part.isdigit()), None)
        found.append(parts[-1] if number is None or parts[-1] == number else f"{number} · {parts[-1]}")
    return found if len(set(found)) == len(names) else shortened(names)


#: A model that is a path.
_FOLDER = re.compile(r"[./~\\]|[a-zA-Z]:[\\/]")


def command(request: recipe.RecipeRequest) -> str:
    """``qfund recipe pydoc-llama --precision int8 int4 --bits 5.0``; a text of its own is left out."""
    bounds = {
        "budget": request.budget,
        "bits": request.bits,
        "kl": request.kl,
        "changed": request.changed,
        "gpu": request.gpu,
        "gpu-context": request.gpu_context if request.gpu else None,
        "batch": request.batch if request.gpu and request.batch > 1 else None,
        "context": request.context,
        "revision": request.revision,
    }
    line = ["qfund", "recipe", request.model, "--precision", *request.precisions, "--reference", request.reference]
    line += ["--max-tokens", str(request.max_tokens), "--test-tokens", str(request.test_tokens), "--by", request.by]
    line += ["--alike", *(request.alike or ["none"])]
    for name, value in bounds.items():
        line += [] if value is None else [f"--{name}", str(value)]
    return shlex.join([*line, *(["--also", *request.also] if request.also else [])])


def card(found: Recipe, link: str = "") -> str:
    """A section of a model card: what a Hub reads (YAML), and what a person reads (Markdown)."""
    best, request = found.recipe, found.request
    assert best.kl is not None
    versions = ", ".join(f"{name} {version}" for name, version in found.environment.versions.items())
    # A folder of this machine is nobody else's base.
    named = f"base_model: {json.dumps(request.model)}", "base_model_relation: quantized"
    base = () if _FOLDER.match(request.model) else named
    rows = [
        "| | bytes | bits per weight | KL divergence (nat) |",
        "| --- | ---: | ---: | --- |",
        *(
            f"| {'this recipe' if row is best else recipe.label(row)} | {row.bytes:,} | {row.bits:.3f} | "
            f"{interval_text('kl_mean', row.kl) if row.kl else '–'} |"
            for row in (best, *found.uniform)
        ),
    ]
    return "\n".join(
        [
            "---",
            *base,
            "tags: [mixed-precision]",
            "---",
            "",
            "## Precision",
            "",
            f"{recipe.label(best)}; everything else in {label(request.reference)}.",
            "",
            *rows,
            "",
            f"Mean KL(reference ‖ this) over {found.test_tokens:,} tokens that the search ({found.search_tokens:,} "
            "tokens) did not see, with 95 % intervals. " + recipe_headline(found),
            "",
            f"Measured by qfund {found.qfund} on {found.created[:10]}, with {versions}, by `{command(request)}`."
            + (f" {link}" if link else ""),
        ]
    )


def exported(found: Exported, measured: Recipe) -> str:
    """What came of reading again what was written."""
    assert measured.recipe.kl is not None
    same = (
        "every output is the recipe's, bit for bit"
        if found.equal
        else f"outputs differ from the recipe's by at most {number_text(found.difference)}"
    )
    return (
        f"{found.folder}: {bytes_text(found.bytes)} of weights. Read again by transformers, {same}; KL "
        f"{interval_text('kl_mean', found.kl)} nat, the recipe's own {interval_text('kl_mean', measured.recipe.kl)}."
    )


def ranks(injected: Mapping[str, float], score: Mapping[str, float]) -> list[str]:
    """How well cheaper ways rank parts, beside single swaps."""
    found = []
    for values, what in ((injected, "modules' own errors"), (score, "gradients")):
        if values:
            each = ", ".join(f"{label(name)} {value:.2f}" for name, value in values.items())
            found.append(f"Rank correlation (Spearman's ρ) of {what} with what swaps cost: {each}.")
    return found


def injected_headline(found: Layers, precision: str) -> str:
    """Where this precision changes a module's own output most."""
    errors = [row.injected[precision].relative_l2 for row in found.modules if precision in row.injected]
    if not errors:
        return f"{label(precision)} changes no module that ran."
    if not max(errors):
        return f"{label(precision)} changes no module's output on this text: every difference is exactly 0."
    first = worst(found, precision, 1)[0]
    usual, most = statistics.median(errors), first.injected[precision].relative_l2
    return (
        f"{label(precision)} changes a module's own output by {_share(usual)} of its size in the middle of "
        f"{plural(len(errors), 'module')}, and most in {first.name}: by {_share(most)}."
    )


def swaps_headline(found: Swaps, precision: str) -> str:
    """Which parts carry half of the damage."""
    rows, whole = swaps.of(found, precision), found.together[precision]
    if not rows or not math.fsum(row.kl.value for row in rows):
        return f"{label(precision)} changes no output on this text, whichever part is swapped."
    count = swaps.half(found, precision)
    first = shortened([row.part for row in rows])[:count][:FEW]
    names = ", ".join(first) + f" and {count - FEW} more" * (count > FEW)
    what = {"block": "block", "module": "module", "kind": "kind"}[found.request.part]
    return (
        f"Half of the damage of {label(precision)} comes from {count} of {plural(len(rows), what)}: {names}. "
        f"Everything together costs {interval_text('kl_mean', whole.kl)} nat."
    )


def additivity(found: Swaps, precision: str) -> str:
    """Whether damages add up."""
    ratio = swaps.additivity(found, precision)
    if ratio is None:
        return ""
    sentence = f"All at once costs {ratio:.2f} × the sum of single swaps"
    if 1 / ADDITIVE <= ratio <= ADDITIVE:
        return f"{sentence}: damages add up."
    which = "more" if ratio > 1 else "less"
    return f"{sentence}: together they cost {which} than apart, so sums over modules mislead here."


def module_sentence(row: Module) -> str:
    """What is particular about a module's inputs and weights."""
    group = (
        f"Its largest weight, {number_text(row.group.largest)}, stands in row {row.group.row:,} from input "
        f"{row.group.start:,} on: {row.group.times:.1f} × as large as the median group's largest"
    )
    if not row.channels:
        return f"{group}."
    loud = row.channels[0]
    return f"{group}. Its loudest input is number {loud.index:,}: {loud.times:.1f} × the median input's largest value."


def recipe_headline(found: Recipe) -> str:
    """What to run, and why."""
    request = found.request
    within = f"a foretold {_margin(request)}" if request.margin else bytes_text(found.budget)
    best, kl = found.recommended, found.recommended.kl
    assert kl is not None and found.recipe.kl is not None
    size = bytes_text(best.bytes) if request.margin else f"{bytes_text(best.bytes)} of {within}"
    damage = f"KL {interval_text('kl_mean', kl)} nat on text that the search did not see"
    if found.rival is None:
        return f"The recipe takes {size}: {damage}. No uniform precision of those given is as small."
    rival = next(row for row in found.uniform if row.precision == found.rival)
    assert rival.kl is not None
    if not found.better:
        seen = f" (difference {interval_text('kl_mean', found.difference)} nat)" if found.difference else ""
        return (
            f"Run {recipe.label(rival)} for everything, {bytes_text(rival.bytes)}: {damage}. The recipe found for "
            f"{within} is not better beyond doubt{seen}."
        )
    less = 100 * (1 - found.recipe.kl.value / rival.kl.value)
    return (
        f"Run the recipe, {size}: {damage}, {less:.0f} % less than "
        f"{recipe.label(rival)} for everything ({bytes_text(rival.bytes)}, {interval_text('kl_mean', rival.kl)})."
    )


def _margin(request: recipe.RecipeRequest) -> str:
    """``KL of 0.01 nat and 2 % of tokens changed``."""
    parts = [f"KL of {number_text(request.kl)} nat"] if request.kl is not None else []
    return " and ".join([*parts, *([f"{_share(request.changed)} of tokens changed"] if request.changed else [])])


def foretold(found: Recipe) -> str:
    """Prediction beside measurement."""
    kl, request = found.recipe.kl, found.request
    assert kl is not None
    kept = "" if request.kl is None else f", which {_holds(kl, request.kl)} the {number_text(request.kl)} nat asked for"
    said = (
        f"Predicted from {recipe.FROM[request.by]} {number_text(found.recipe.predicted)} nat, measured "
        f"{interval_text('kl_mean', kl)}{kept}."
    )
    if request.changed is None or found.recipe.changed is None:
        return said
    moved = found.recipe.changed
    return (
        f"{said} The likeliest next token is another one at {_share(moved.value)} of positions, which "
        f"{_holds(moved, request.changed)} the {_share(request.changed)} asked for."
    )


def _holds(found: Estimate, bound: float) -> str:
    low, high = (found.value if end is None else end for end in (found.low, found.high))
    return "lies within" if high <= bound else "is beyond" if low > bound else "is not sure to lie within"


def together(found: Sequence[str]) -> str:
    """What has to be in one precision."""
    return "; ".join(recipe.ALIKE[name] for name in found) or "nothing: each module by itself"


def _share(value: float) -> str:
    return f"{100 * value:.3g} %"
