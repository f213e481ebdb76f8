"""``qfund kv``: what rounding the KV cache costs."""

from argparse import Namespace

import msgspec

from qfund.commandline import measuring
from qfund.commandline.options import JSON, MODEL, REVISION, STORING, count, names
from qfund.commandline.table import Command, Option
from qfund.commandline.tables import aligned
from qfund.core.units import bytes_text, number_text
from qfund.features.kv import words
from qfund.features.kv.request import DEFAULT_KV, DEFAULT_TOKENS, Kv, KvRequest
from qfund.precisions.caches import KV_CHOICES, title
from qfund.precisions.table import PRECISIONS


def _run(options: Namespace) -> None:
    asked = KvRequest(
        model=options.model,
        kv=names(options.kv),
        precision=options.precision.lower(),
        max_tokens=options.max_tokens,
        context=options.context,
        first=options.first,
        window=options.window,
        revision=options.revision,
    )
    measuring.put(measuring.stored(asked, options), options, text, msgspec.json.encode)


COMMAND = Command(
    run=_run,
    rows=(
        MODEL,
        Option(
            "--kv",
            f"caches to measure: {', '.join(KV_CHOICES)}; keys and values apart as q8_0/q4_0 (default: "
            f"{' '.join(DEFAULT_KV)})",
            "K",
            default=list(DEFAULT_KV),
            many=True,
        ),
        Option(
            "--precision",
            "of weights and arithmetic; its cache as computed is the reference (default: fp32)",
            "P",
            default="fp32",
        ),
        Option("--max-tokens", f"tokens of text (default: {DEFAULT_TOKENS})", "N", count, DEFAULT_TOKENS),
        Option("--context", "tokens of a chunk (default: the model's, at most 512)", "N", count),
        Option("--first", "first tokens that stay as computed (default: 0)", "N", count, 0),
        Option(
            "--window",
            "recent tokens that stay as computed until there are so many, transformers' residual_length (default: 0)",
            "N",
            count,
            0,
        ),
        REVISION,
        JSON,
        *STORING,
    ),
    examples=(
        "qfund kv pydoc-llama --kv int8 q4_0 int4_kivi",
        "qfund kv pydoc-llama --kv q8_0/q4_0 --first 4 --window 64",
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
