"""``qfund speed``: reading and writing, timed in turns."""

from argparse import Namespace

import msgspec

from qfund.commandline import measuring
from qfund.commandline.options import beside, count, names, reference
from qfund.commandline.table import Command, Option
from qfund.commandline.tables import aligned
from qfund.core.units import bytes_text, number_text, seconds_text
from qfund.features.memory.request.budgets import GPUS, gpu
from qfund.features.speed import words
from qfund.features.speed.request.gpus import estimated, per_million
from qfund.features.speed.request.speed import (
    COMPILED,
    DEFAULT_BATCHES,
    DEFAULT_DEPTHS,
    DEFAULT_NEW,
    DEFAULT_PRECISIONS,
    DEFAULT_ROUNDS,
    RUNNERS,
    Speed,
    SpeedRequest,
)


def _run(options: Namespace) -> None:
    if options.gpu is not None:
        gpu(options.gpu)  # a name that there is not is told before minutes are spent
    if options.price is not None:
        per_million(options.price, 1.0)
    asked = SpeedRequest(
        model=options.model,
        precisions=names(options.precision),
        reference=reference(options),
        backends=names(options.backend),
        depths=tuple(options.depth),
        batches=tuple(options.batch),
        new_tokens=options.new_tokens,
        rounds=options.rounds,
        revision=options.revision,
        also=names(options.also),
        files=tuple(options.file or ()),
    )
    found = measuring.stored(asked, options)
    measuring.put(found, options, lambda found: text(found, options.gpu, options.price), msgspec.json.encode)


COMMAND = Command(
    run=_run,
    rows=(
        *beside(DEFAULT_PRECISIONS),
        Option(
            "--file",
            "a GGUF file of this model, timed as llama.cpp runs it here: a path, or owner/name:file of the Hub; can be "
            "given again. MODEL may be such a file too, which is then timed without its original",
            "F",
            default=[],
            again=True,
        ),
        Option(
            "--backend",
            f"only these: {', '.join(RUNNERS)} (default: all that run here but {COMPILED})",
            "B",
            default=[],
            many=True,
        ),
        Option(
            "--depth",
            f"tokens of the prompts (default: {' '.join(map(str, DEFAULT_DEPTHS))})",
            "N",
            count,
            DEFAULT_DEPTHS,
            many=True,
        ),
        Option(
            "--batch",
            f"sequences at once (default: {' '.join(map(str, DEFAULT_BATCHES))})",
            "N",
            count,
            DEFAULT_BATCHES,
            many=True,
        ),
        Option("--new-tokens", f"tokens written after each prompt (default: {DEFAULT_NEW})", "N", count, DEFAULT_NEW),
        Option(
            "--rounds",
            f"turns of every model, more where times scatter (default: {DEFAULT_ROUNDS})",
            "N",
            int,
            DEFAULT_ROUNDS,
        ),
        Option("--gpu", "estimate, from what is published, the most that this GPU does: 4090, h100 …", "G"),
        Option("--price", "of an hour, here or with --gpu there: says what a million tokens cost", "P", float),
    ),
    examples=(
        "qfund speed pydoc-llama --precision bf16 int8 int4",
        "qfund speed ./my-model --precision bf16 --file ./my-model-Q4_K_M.gguf",
        "qfund speed ./my-model-Q4_K_M.gguf --file ./my-model-Q8_0.gguf",
        "qfund speed pydoc-llama --precision int8 --backend torchao --batch 1 8 --gpu h100 --price 2.5",
    ),
    notes=f"GPUs: {', '.join(GPUS)}.",
)


def text(found: Speed, gpu: str | None = None, price: float | None = None) -> str:
    """The sentence, a table for each point, causes, and what was worked out for elsewhere."""
    batch, depth = found.place
    lines = [f"{found.request.model}: {words.headline(found, batch, depth)}"]
    for point in found.reference.points:
        lines += ["", f"{point.batch:,} × {point.depth:,} tokens:", *aligned(_table(found, point.batch, point.depth))]
    lines += ["", *words.why(found, batch, depth)]
    lines += ["", words.bounds(found), *filter(None, [words.busy(found)]), *words.refused(found), *words.notes(found)]
    if price is not None and gpu is None:
        lines += [""] + [
            f"{words.name(run)}: {words.cost_text(per_million(price, run.at(batch, depth).decode.median))} a million "
            f"written tokens on this machine at {price:g} an hour."
            for run in found.runs
        ]
    if gpu is not None:
        lines += [""] + [words.elsewhere(run, estimated(gpu, run, run.at(batch, depth)), price) for run in found.runs]
    return "\n".join(lines)


def _table(found: Speed, batch: int, depth: int) -> list[list[str]]:
    heading = ["precision", "written/s", "of reference", "of bound", "first", "read/s", "of reference", "of bound"]
    rows = [[*heading, "J/token", "load", "memory"]]
    for run in found.runs:
        point = run.at(batch, depth)
        wrote, read = words.shares(found, run, point)
        rows.append(
            [
                words.name(run),
                words.spread_text(point.decode),
                f"{point.decode_ratio.median:.2f} ({point.decode_ratio.low:.2f} to {point.decode_ratio.high:.2f})",
                wrote,
                words.first_text(point),
                number_text(point.prefill.median),
                f"{point.prefill_ratio.median:.2f}",
                read,
                "-" if point.joules is None else number_text(point.joules),
                seconds_text(run.load_seconds),
                bytes_text(run.stored_bytes),
            ]
        )
    return rows
