"""``qfund compare``."""

from argparse import Namespace
from dataclasses import replace
from pathlib import Path

from qfund.commandline import measuring, texts
from qfund.commandline.options import ALSO, JSON, MODEL, REVISION, STORING, names, precision, reference
from qfund.commandline.table import Command, Exclusive, Option
from qfund.features.compare.command.printing import EVERYTHING, MARGINS, margin, text
from qfund.features.compare.request import report, spec, usual
from qfund.inputs.texts import ALL, ANSWERS, SCORINGS


def _run(options: Namespace) -> None:
    given = options.text if options.text_file is None else texts.read(options.text_file)
    against = _reference(options)
    request = spec.Spec(
        model=options.model,
        reference=against,
        precisions=names(options.precision) or usual.candidates(against),
        text=given,
        max_tokens=spec.DEFAULT_TOKENS if options.max_tokens is None else options.max_tokens,
        context=options.context,
        revision=options.revision,
        also=names(options.also),
        libraries=options.libraries,
        stride=options.stride,
        scoring=options.scoring.lower(),
        texts=() if options.text_folder is None else texts.read_folder(options.text_folder),
    )
    if options.chat:
        request = replace(request, scoring=ANSWERS)
    if options.like_llama_cpp:
        request = replace(spec.like_llama_cpp(request), stride=options.stride)
        request = request if options.max_tokens is None else replace(request, max_tokens=options.max_tokens)
    found = measuring.stored(request, options)
    measuring.put(found, options, lambda found: text(found, margin(options), options.all), report.to_json)


def _reference(options: Namespace) -> str:
    """What is asked for, or what the checkpoint is stored in."""
    if options.reference or set(names(options.precision)) == {"stored"}:
        return reference(options)
    return usual.reference(options.model, options.revision)


COMMAND = Command(
    run=_run,
    rows=(
        MODEL,
        precision(
            (),
            otherwise=f"{' '.join(spec.DEFAULT_CANDIDATES)}; beside 16 bits {' '.join(usual.ON_16_BITS)}",
        ),
        Option("--reference", "compare with this one (default: what the checkpoint is stored in)", "P"),
        Exclusive(
            (
                Option("--text", "the input (default: the model's own evaluation text)", "T"),
                Option("--text-file", "read the input from this UTF-8 file, - for standard input", "F", Path),
                Option("--text-folder", "read several inputs, the UTF-8 files in this folder, each its own", "D", Path),
            )
        ),
        Option(
            "--max-tokens", f"use at most N tokens, in a folder of each text (default: {spec.DEFAULT_TOKENS})", "N", int
        ),
        Option("--context", "tokens per chunk (default: the model's, at most 512)", "N", int),
        Option(
            "--stride",
            "begin a chunk every N tokens; what it shares with the one before is context (default: no overlap)",
            "N",
            int,
        ),
        Option("--scoring", f"positions to score: {' or '.join(SCORINGS)} (default: {ALL})", "S", default=ALL),
        Option(
            "--chat",
            "the text is conversations (JSON, a list of lists of messages with a role and content), written by the "
            f"checkpoint's own chat template; answers alone are scored: --scoring {ANSWERS}",
            flag=True,
        ),
        Option(
            "--like-llama-cpp",
            "score what llama-perplexity does: --scoring second-half, and the whole text unless --max-tokens is given",
            flag=True,
        ),
        REVISION,
        ALSO,
        Option(
            "--libraries",
            "run the installed libraries that implement the candidates too, and time everything in turns",
            flag=True,
        ),
        *MARGINS,
        EVERYTHING,
        JSON,
        *STORING,
    ),
    examples=(
        "qfund compare pydoc-llama --precision bf16 int8",
        "qfund compare ./my-model --precision int4 nf4 --text-file notes.txt --json",
    ),
)
