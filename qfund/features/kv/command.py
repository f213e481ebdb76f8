"""``qfund kv``: what rounding the KV cache costs."""

from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace

import msgspec

from qfund import engine
from qfund.commandline import measuring
from qfund.commandline.options import JSON, KEPT, MODEL, REVISION, STORING, caches, count, names
from qfund.commandline.table import Command, Exclusive, Option
from qfund.commandline.tables import aligned
from qfund.core.units import bytes_text, number_text
from qfund.drawing.numbers import interval_text
from qfund.drawing.phrases import label
from qfund.features.compare.request import usual
from qfund.features.compare.request.hardware import Hardware
from qfund.features.compare.request.report import Report
from qfund.features.compare.request.spec import Spec
from qfund.features.compare.request.together import Pair, least, pairs
from qfund.features.compare.words.together import sentence
from qfund.features.kv import words
from qfund.features.kv.request import DEFAULT_KV, DEFAULT_TOKENS, Kv, KvRequest
from qfund.features.memory.request import budgets, sizing
from qfund.features.memory.request.budgets import recognized
from qfund.features.memory.request.fits import Fits, FitsRequest, Workload
from qfund.precisions.caches import KV_CHOICES, title
from qfund.precisions.table import PRECISIONS


def _run(options: Namespace) -> None:
    weights = names(options.precision)
    if len(weights) > 1 or options.gpu is not None or options.budget is not None:
        _together(options, weights)
        return
    asked = KvRequest(
        model=options.model,
        kv=names(options.kv),
        precision=weights[0],
        max_tokens=options.max_tokens,
        context=options.context,
        first=options.first,
        window=options.window,
        revision=options.revision,
    )
    measuring.put(measuring.stored(asked, options), options, text, msgspec.json.encode)


def _together(options: Namespace, weights: tuple[str, ...]) -> None:
    """A comparison of all pairs, and which of them a budget takes."""
    place = Hardware(_place(options), options.length, options.batch)
    budget = budgets.budget(place.budget)  # one that there is not is told before minutes are spent
    asked = Spec(
        model=options.model,
        reference=usual.reference(options.model, options.revision),
        precisions=weights,
        kv=caches(options),
        max_tokens=options.max_tokens,
        context=options.context,
        revision=options.revision,
    )
    report: Report = measuring.stored(asked, options)
    rows = (report.reference.precision, *report.spec.precisions)
    runtime = "cpu" if place.budget == budgets.MACHINE else "cuda"
    workload = Workload(budget, place.length(None), place.batch, runtime=runtime)
    sized: Fits = engine.compute(FitsRequest(options.model, workload, tuple(dict.fromkeys(rows)), (), options.revision))
    workload = replace(workload, context=place.length(sized.shape.trained))
    found = pairs(report, sizing.rows_with(sized.shape, sized.weights, workload, report.spec.kv))
    least_of = least(found)
    put = {"workload": workload, "pairs": found, "chosen": least_of.candidate if least_of else None, "report": report}
    print(msgspec.json.encode(put).decode() if options.json else _pairs_text(found, workload, place, report))


def _place(options: Namespace) -> str:
    """A name of ``budgets.GPUS``, an amount, or this machine."""
    return budgets.gpu(options.gpu).name if options.gpu is not None else options.budget or budgets.MACHINE


def _pairs_text(found: Sequence[Pair], workload: Workload, place: Hardware, report: Report) -> str:
    table = [["weights, cache", "weights", "cache", "all that runs", "fits", "KL (nat)", "frontier"]]
    for pair in found:
        sizes = map(bytes_text, (pair.weights, pair.cache, pair.total))
        kl = "0, reference" if pair.kl is None else interval_text("kl_mean", pair.kl)
        table.append([label(pair.candidate), *sizes, "yes" if pair.fits else "no", kl, "*" * pair.frontier])
    refused = [f"{label(name)} is left out: {why}" for name, why in report.refused.items()]
    return "\n".join([f"{report.spec.model}: {sentence(found, workload, place.name)}", "", *aligned(table), *refused])


COMMAND = Command(
    run=_run,
    rows=(
        MODEL,
        Option(
            "--kv",
            f"caches to measure: {', '.join(KV_CHOICES)}; keys and values apart as q8_0/q4_0; tokens kept of "
            f"one alone as q8_0:first4:window64 (default: {' '.join(DEFAULT_KV)})",
            "K",
            default=list(DEFAULT_KV),
            many=True,
        ),
        Option(
            "--precision",
            "of weights and arithmetic; its cache as computed is the reference. Several are measured with each cache, "
            "beside what the checkpoint is stored in (default: fp32)",
            "P",
            default=["fp32"],
            many=True,
        ),
        Exclusive(
            (
                Option("--budget", "which pair of weights and cache fits: 24GiB, 512MiB, `machine`", "B", recognized),
                Option("--gpu", "the same of this GPU's memory: 4090, h100 …", "G"),
            )
        ),
        Option("--length", "tokens of a sequence that the budget is for: 8192, 32k (default: ≤ 4096)", "N", count),
        Option("--batch", "sequences at once that the budget is for (default: 1)", "N", count, 1),
        Option("--max-tokens", f"tokens of text (default: {DEFAULT_TOKENS})", "N", count, DEFAULT_TOKENS),
        Option("--context", "tokens of a chunk (default: the model's, at most 512)", "N", count),
        *KEPT,
        REVISION,
        JSON,
        *STORING,
    ),
    examples=(
        "qfund kv pydoc-llama --kv int8 q4_0 int4_kivi",
        "qfund kv pydoc-llama --kv q8_0/q4_0 --first 4 --window 64",
        "qfund kv pydoc-llama --kv q4_0 q4_0:first4 q4_0:window64",
        "qfund kv owner/name --precision int8 int4 --kv q8_0 q4_0 --gpu 4090 --length 32k",
    ),
)


def text(found: Kv) -> str:
    """The sentence, a table, and how damage goes along the context."""
    reference = f"{PRECISIONS[found.request.precision].label}, as computed"
    table = [["cache", "bytes", "KL (nat)", "same top-1", "KL by depth, in eighths of the context"]]
    table.append([reference, bytes_text(found.reference_bytes), "0", "100 %", ""])
    table += [
        [
            title(row.kv),
            bytes_text(row.bytes),
            words.kl_text(row),
            f"{100 * row.top1.value:.2f} %" if row.top1 else "-",
            " ".join(number_text(band.kl) for band in row.bands),
        ]
        for row in found.rows
        if not row.problem
    ]
    return "\n".join(
        [
            f"{found.request.model}: {words.headline(found)}",
            "",
            *aligned(table),
            "",
            f"Bytes of one sequence of {found.tokens:,} tokens.",
            *words.refused(found),
            *words.notes(found),
            *found.notes,
        ]
    )
