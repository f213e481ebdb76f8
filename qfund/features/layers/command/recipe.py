"""``qfund recipe``: a precision for each module under a budget, measured on text that the search did not see."""

import json
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

from qfund.commandline import measuring
from qfund.commandline.options import ALSO, JSON, MODEL, REVISION, STORING, count, names, precision
from qfund.commandline.progress import Shown, say
from qfund.commandline.table import Command, Exclusive, Option
from qfund.commandline.tables import aligned
from qfund.core.errors import InvalidSpec
from qfund.core.feature import lazily
from qfund.core.units import bytes_text, number_text
from qfund.drawing.numbers import interval_text
from qfund.features.layers import words
from qfund.features.layers.command.layers import BASE, CONTEXT, TEXT, asked
from qfund.features.layers.request import recipe, scripts
from qfund.features.layers.request.asked import DEFAULT_PRECISIONS, DEFAULT_TOKENS
from qfund.features.layers.request.exports import METHOD, METHODS, held, must_hold
from qfund.features.layers.request.exports import TEXT as TEXT_ALONE
from qfund.features.layers.request.recipe import ALIKE, SCORES, Recipe, RecipeRequest, checked, document
from qfund.features.memory.request import budgets


def _run(options: Namespace) -> None:
    alike = RecipeRequest(options.model).alike if options.alike is None else names(options.alike)
    request = RecipeRequest(
        **asked(options),  # type: ignore[arg-type]
        budget=None if options.budget is None else budgets.parse_budget(options.budget),
        bits=options.bits,
        gpu=options.gpu,
        gpu_context=options.gpu_context,
        batch=options.batch,
        kl=options.kl,
        changed=options.changed,
        alike=() if alike == ("none",) else alike,
        by=options.by.lower(),
        test_tokens=options.test_tokens,
    )
    if options.export is not None and names(options.precision) == DEFAULT_PRECISIONS:
        request = replace(request, precisions=held(DEFAULT_PRECISIONS, request.reference, _method(options)))
    if options.export is not None:  # before anything is measured for nothing
        must_hold(checked(request).precisions, request.reference, _method(options))
        if options.export.exists() and (not options.export.is_dir() or any(options.export.iterdir())):
            raise InvalidSpec(f"{options.export} is not an empty folder.", "Name a folder that is not there yet.")
    found = measuring.stored(request, options)
    if options.save is not None:
        _write(options.save, json.dumps(document(found), indent=1) + "\n")
        say(f"qfund: the recipe is in {options.save}.")
    if options.export is not None:
        _export(found, options)
    measuring.put(found, options, text)


def _export(found: Recipe, options: Namespace) -> None:
    """A checkpoint, measured again, and beside it what other tools take; that alone for ``text``."""
    said = f"what other tools take is in {options.export}."
    if _method(options) == TEXT_ALONE:
        _make(options.export)
    else:
        shown = None if options.quiet else Shown()
        measure = lazily("qfund.features.layers.measure.exported:exported")
        written = measure(found, options.export, *filter(None, (shown,)), method=_method(options))
        if shown:
            shown.end()
        said = words.exported(written, found)
    modules, reference = found.recipe.modules, found.request.reference
    texts = {name: script for name, (_, script) in scripts.every(modules, reference).items()}
    texts |= {"recipe.json": json.dumps(document(found), indent=1), "MODEL_CARD.md": words.card(found)}
    for name, script in texts.items():
        _write(options.export / name, f"{script}\n")
    say(f"qfund: {said}")


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidSpec(f"{folder} cannot be written: {error.strerror or error}.", "Name another folder.") from error


def _method(options: Namespace) -> str:
    return str(options.export_format).lower()


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, "utf-8")
    except OSError as error:
        raise InvalidSpec(f"{path} cannot be written: {error.strerror or error}.", "Name another file.") from error


COMMAND = Command(
    run=_run,
    rows=(
        MODEL,
        precision(DEFAULT_PRECISIONS, "to choose from, names"),
        BASE,
        Exclusive(
            (
                Option("--budget", "the whole model in at most this: 3GiB, 24GB", "B"),
                Option("--gpu", "what fits this GPU beside cache and activations: 4090, `RTX 4090`", "G"),
                Option("--bits", "at most this many bits per weight, scales included: 4.5", "X", float),
            )
        ),
        Option(
            "--kl", "in place of a budget: the fewest bytes within this mean KL divergence, in nat: 0.01", "X", float
        ),
        Option(
            "--changed",
            "the fewest bytes within this share of tokens with another likeliest next one: 0.02; with --kl, both",
            "X",
            float,
        ),
        Option("--gpu-context", "with --gpu: tokens of a sequence there: 8192, 8k (default: 8192)", "N", count, 8192),
        Option("--batch", "with --gpu: sequences at once (default: 1)", "N", count, 1),
        Option(
            "--alike",
            "what has to be in one precision: "
            + ", ".join(f"{name} ({what})" for name, what in ALIKE.items())
            + ", or none (default: qkv gate-up)",
            "G",
            many=True,
        ),
        Option(
            "--by",
            "how damages are measured: "
            + ", ".join(f"{name} ({what})" for name, what in SCORES.items())
            + " (default: swaps)",
            "S",
            default="swaps",
        ),
        TEXT,
        Option("--max-tokens", f"search on this many tokens (default: {DEFAULT_TOKENS})", "N", count, DEFAULT_TOKENS),
        Option("--test-tokens", "compare on this many tokens after them (default: 4096)", "N", count, 4096),
        CONTEXT,
        ALSO,
        REVISION,
        Option("--save", "write the recipe, a precision for each module, to this JSON file", "F", Path),
        Option(
            "--export",
            "write the mix as a checkpoint to this new folder, read it again and compare, with what llama.cpp, "
            "llm-compressor, ModelOpt, torchao and bitsandbytes take, and a section of a model card",
            "DIR",
            Path,
        ),
        Option(
            "--export-format",
            "with --export: "
            + ", ".join(f"{name} ({what})" for name, what in METHODS.items())
            + f" (default: {METHOD})",
            "F",
            default=METHOD,
        ),
        JSON,
        *STORING,
    ),
    examples=("qfund recipe pydoc-llama --bits 5", "qfund recipe ./my-model --budget 3GiB --precision int8 int4 nf4"),
)


def text(found: Recipe) -> str:
    """What to run, the recipe beside uniform precisions, and the precision of each module."""
    rows = [["", "bytes", "", "bits/weight", "predicted KL", "measured KL (nat)"]]
    for row in (found.recipe, *found.uniform):
        assert row.kl is not None
        name = "recipe" if row is found.recipe else recipe.label(row)
        measured = interval_text("kl_mean", row.kl)
        rows.append(
            [name, f"{row.bytes:,}", bytes_text(row.bytes), f"{row.bits:.3f}", number_text(row.predicted), measured]
        )
    modules = [["module", "precision"], *([name, row] for name, row in found.recipe.modules.items())]
    return "\n".join(
        [
            words.recipe_headline(found),
            "",
            *aligned(rows),
            "",
            f"The recipe: {recipe.label(found.recipe)}. {words.foretold(found)}",
            f"Searched on {found.search_tokens:,} tokens, compared on the {found.test_tokens:,} after them.",
            f"In one precision: {words.together(found.request.alike)}.",
            *found.notes,
            "",
            *aligned(modules),
        ]
    )
