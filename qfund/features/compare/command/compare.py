"""``qfund compare``."""

from argparse import Namespace
from dataclasses import replace
from pathlib import Path

from qfund.commandline import measuring, texts
from qfund.commandline.comparing import CHAT, LIBRARIES, LIKE_LLAMA_CPP, REFERENCE, UNTIL_DECIDED, amounts
from qfund.commandline.options import (
    ALSO,
    FILE,
    JSON,
    KEPT,
    KV,
    MODEL,
    REVISION,
    STORING,
    caches,
    names,
    precision,
    reference,
)
from qfund.commandline.progress import Shown, say
from qfund.commandline.results import Results
from qfund.commandline.table import Command, Exclusive, Option
from qfund.core.errors import QfundError, StoreError
from qfund.features.compare.command import writing
from qfund.features.compare.command.printing import EVERYTHING, MARGINS, margin, text
from qfund.features.compare.request import duration, report, spec, usual
from qfund.features.compare.request.costs import Costs
from qfund.features.compare.request.decision import decide
from qfund.features.compare.words import rounds as words
from qfund.inputs.texts import ANSWERS, WRITTEN


def _run(options: Namespace) -> None:
    given = options.text if options.text_file is None else texts.read(options.text_file)
    against = _reference(options)
    request = spec.Spec(
        model=options.model,
        reference=against,
        # Beside files, the usual candidates are not meant unless they are named.
        precisions=names(options.precision) or (() if options.file else usual.candidates(against)),
        text=given,
        max_tokens=spec.DEFAULT_TOKENS if options.max_tokens is None else options.max_tokens,
        context=options.context,
        revision=options.revision,
        also=names(options.also),
        libraries=options.libraries,
        stride=options.stride,
        scoring=options.scoring.lower(),
        files=tuple(options.file or ()),
        kv=caches(options),
        imatrix=options.imatrix,
        without=names(options.without),
        texts=() if options.text_folder is None else texts.read_folder(options.text_folder),
    )
    if options.chat or options.reference_answers:
        request = replace(request, scoring=WRITTEN if options.reference_answers else ANSWERS)
    if options.like_llama_cpp:
        request = replace(spec.like_llama_cpp(request), stride=options.stride)
        request = request if options.max_tokens is None else replace(request, max_tokens=options.max_tokens)
    if options.until_decided:
        request = _soon(replace(request, until=margin(options)), options)
    writing.check(options)
    try:
        found = measuring.stored(request, options, _shown(request, options))
    except measuring.Stopped as stopped:
        _put(stopped.so_far, options)
        say("qfund: this is what there was; the same command goes on from there.")
        raise
    _put(found, options)


def _put(found: report.Report, options: Namespace) -> None:
    measuring.put(found, options, lambda found: text(found, margin(options), options.all), report.to_json)
    writing.write(found, options)


def _reference(options: Namespace) -> str:
    """What is asked for, or what the checkpoint is stored in."""
    if options.reference or set(names(options.precision)) == {"stored"}:
        return reference(options)
    return usual.reference(options.model, options.revision)


def _soon(request: spec.Spec, options: Namespace) -> spec.Spec:
    """With chunks so short that a slow model's first verdict comes within about a minute, as on the page; where it was
    measured or begun before, with those that it had then."""
    if options.context or options.stride or (size := duration.size_of(request)) is None:
        return request
    looks = not (options.no_store or options.fresh)
    if looks and (begun := next(filter(_begun, duration.chunkings(request, size)), None)):
        return begun
    return duration.with_short_chunks(request, size, [] if options.no_store else _before())


def _begun(request: spec.Spec) -> bool:
    from qfund.engine import key_of, shipped, unfinished
    from qfund.engine.kinds import kind_of
    from qfund.engine.store import Store

    try:
        request, store = spec.checked(request), Store()
        kind, key = kind_of(request), key_of(request)
        found = store.get(kind, key) or unfinished.find(store, kind, key) or shipped.find(request, key)
    except QfundError:  # told where it is measured
        return False
    return found is not None


def _shown(request: spec.Spec, options: Namespace) -> Shown:
    """Says how long it will take, and after each round what is decided."""

    def before() -> str:
        size = duration.size_of(request)
        if size is None:
            return ""
        took = duration.estimate(spec.checked(request), size, [] if options.no_store else _before())
        short = request.context if request.context != options.context else None
        chunks = f" Read in chunks of {short} tokens, to say something soon (--context reads others)." if short else ""
        return f"This takes {words.about(took, request.until is not None)}.{chunks}"

    return Shown(before, lambda found: words.verdicts(found, decide(found, margin(options))))


def _before() -> list[Costs]:
    """What earlier comparisons took; nothing where the store refuses, as is told elsewhere."""
    from qfund.engine.kinds import KINDS

    try:
        return [line.costs for line in Results().listed(KINDS["compare"]) if line.costs]
    except StoreError:
        return []


COMMAND = Command(
    run=_run,
    rows=(
        MODEL,
        precision(
            (),
            otherwise=f"{' '.join(spec.DEFAULT_CANDIDATES)}; beside 16 bits {' '.join(usual.ON_16_BITS)}",
        ),
        FILE,
        KV,
        *KEPT,
        Option(
            "--imatrix",
            "an importance matrix of this model (llama-imatrix; GGUF or .dat): candidates that are GGUF types are made "
            "as llama-quantize --imatrix makes them; a path, or owner/name@revision:file of the Hub",
            "F",
        ),
        REFERENCE,
        Exclusive(
            (
                Option("--text", "the input (default: the model's own evaluation text)", "T"),
                Option("--text-file", "read the input from this UTF-8 file, - for standard input", "F", Path),
                Option("--text-folder", "read several inputs, the UTF-8 files in this folder, each its own", "D", Path),
            )
        ),
        *amounts(spec.DEFAULT_TOKENS),
        *CHAT,
        LIKE_LLAMA_CPP,
        REVISION,
        ALSO,
        LIBRARIES,
        UNTIL_DECIDED,
        Option(
            "--without",
            f"leave these out, which saves time: {', '.join(f'{name} ({what})' for name, what in spec.PARTS.items())}",
            "X",
            default=[],
            many=True,
        ),
        *MARGINS,
        EVERYTHING,
        JSON,
        *writing.DOCUMENTS,
        *STORING,
    ),
    examples=(
        "qfund compare pydoc-llama --precision bf16 int8",
        "qfund compare ./my-model --precision bf16 int4 --file ./my-model-Q4_K_M.gguf",
        "qfund compare pydoc-llama --precision bf16 int4 --kv q8_0 q8_0/q4_0",
        "qfund compare ./my-model --precision q4_k_m q2_k_mix --imatrix imatrix.gguf",
        "qfund compare ./my-model --precision int4 nf4 --text-file notes.txt --json",
        "qfund compare ./my-model --precision int8 int4 nf4 --until-decided",
    ),
)
