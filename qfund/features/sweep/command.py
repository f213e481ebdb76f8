"""``qfund sweep``: many models, planned, measured as far as they are not, and ranked."""

import sys
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from qfund.checkpoints import catalog
from qfund.commandline import measuring, texts
from qfund.commandline.comparing import CHAT, LIBRARIES, LIKE_LLAMA_CPP, REFERENCE, UNTIL_DECIDED, amounts, margins
from qfund.commandline.options import ALSO, JSON, STORING, names, precision
from qfund.commandline.progress import Shown, say
from qfund.commandline.submitting import ENGINE, HERE, submitting
from qfund.commandline.table import Command, Exclusive, Option
from qfund.commandline.tables import folded
from qfund.core.errors import EngineError, StoreError, UsageError
from qfund.drawing.frames import frame
from qfund.features.compare.request.costs import Costs
from qfund.features.compare.request.margin import Margin
from qfund.features.compare.request.report import Report
from qfund.features.compare.request.spec import DEFAULT_TOKENS, MAX_TOKENS
from qfund.features.memory.request.plan import from_headers
from qfund.features.sweep import tables, words
from qfund.features.sweep.request import document
from qfund.features.sweep.request.outcomes import Measure, outcomes
from qfund.features.sweep.request.plan import Planned, plan, total
from qfund.features.sweep.request.ranking import Failed, Line, Swept, current
from qfund.features.sweep.request.sweep import Choices, Input, items
from qfund.inputs.texts import ANSWERS, SECOND_HALF, WRITTEN

if TYPE_CHECKING:
    from qfund.engine.store import Store


def _run(options: Namespace) -> None:
    if options.no_store and options.engine != HERE:
        raise UsageError(f"What --engine {options.engine} measures is kept in the store.", "Leave --no-store out.")
    store = _store(options)
    chosen = [each for name in options.models for each in _models(name, _shared(options))]
    planned = plan(items(chosen, from_headers), _stored(store, options), _before(store))
    if options.plan:
        print(_plan(planned, options))
        return
    if not options.quiet:
        say(words.planned(total(planned)))
    lines: list[Line] = []
    failed: list[Failed] = []
    try:
        for found in _measured(planned, options, store):
            if isinstance(found, Failed):
                failed.append(found)
            else:
                lines += found
    except KeyboardInterrupt:
        print(_text(Swept.of(current(lines), failed), options))
        say("qfund: this is what there was; the same command goes on from there.")
        raise
    print(_text(Swept.of(current(lines), failed), options))
    if failed:
        remedy = "See why above; the same command measures only what is missing."
        raise EngineError(f"{len(failed):,} of {len(planned):,} comparisons failed, or parts of them.", remedy)


def _measured(planned: Sequence[Planned], options: Namespace, store: "Store | None") -> Iterator[list[Line] | Failed]:
    """In the plan's order; those that are stored take no time."""
    missing = [row for row in planned if row.missing]
    if options.engine == HERE or not missing:
        yield from outcomes(planned, _here(missing, options))
        return
    from qfund.engine.kinds import KINDS

    assert store is not None
    with ExitStack() as stack:
        engine = stack.enter_context(submitting(options.engine, len(missing), options.quiet))
        for row in missing:
            assert row.item is not None
            engine.submit(row.key, row.item.spec, _called(row))

        def measure(row: Planned) -> Report:
            found = engine.result(row.key) if row.missing else None
            found = found or store.get(KINDS["compare"], row.key)
            if found is None:
                raise EngineError("The result is not in the store.", "Measure it again.")
            report: Report = found
            return report

        yield from outcomes(planned, measure)


def _here(missing: Sequence[Planned], options: Namespace) -> Measure:
    """In this process, with progress."""
    silent, places = options.quiet, {row.key: number for number, row in enumerate(missing, 1)}
    if not sys.stderr.isatty():  # a line for each comparison, and no phases
        options = Namespace(**vars(options) | {"quiet": True})

    def measure(row: Planned) -> Report:
        assert row.item is not None
        if row.missing and not silent:
            say(f"[{places[row.key]}/{len(missing)}] {_called(row)}: {words.takes(row)}")
        report: Report = measuring.stored(row.item.spec, options, Shown())
        return report

    return measure


def _called(row: Planned) -> str:
    return f"{row.model}{f' on {row.name}' * bool(row.name)}"


def _models(name: str, shared: Choices) -> tuple[Choices, ...]:
    """What a word of the command line stands for: a list, a folder of checkpoints, or one model."""
    if name == "-" or Path(name).suffix.lower() in (".yaml", ".yml"):
        return document.read(texts.read(Path(name)), shared, texts.read)
    if Path(name).suffix.lower() == ".txt":
        return document.lines(texts.read(Path(name)), shared)
    if document.is_checkpoint(name):
        return (document.named(name).beside(shared),)
    return document.folder(catalog.path_of(name), shared)


def _shared(options: Namespace) -> Choices:
    inputs = [Input(" ".join(text.split())[:40], text) for text in options.text or ()]
    inputs += [Input(path.name, texts.read(path)) for path in options.text_file or ()]
    if options.text_folder is not None:
        inputs.append(Input(options.text_folder.name, texts=texts.read_folder(options.text_folder)))
    scoring = WRITTEN if options.reference_answers else ANSWERS if options.chat else options.scoring
    tokens = options.max_tokens
    if options.like_llama_cpp:
        scoring, tokens = SECOND_HALF, MAX_TOKENS if tokens is None else tokens
    margin = {name: getattr(options, f"margin_{name}") for name in ("perplexity", "tokens", "cosine")}
    return Choices(
        precisions=names(options.precision) or None,
        reference=options.reference,
        inputs=tuple(inputs) or None,
        margin=tuple(margin.items()),
        max_tokens=tokens,
        context=options.context,
        stride=options.stride,
        scoring=scoring,
        also=names(options.also) or None,
        libraries=options.libraries or None,
        until_decided=options.until_decided or None,
    )


def _store(options: Namespace) -> "Store | None":
    if options.no_store:
        return None
    from qfund.engine.store import Store

    return Store()


def _stored(store: "Store | None", options: Namespace) -> Callable[[str], bool]:
    if store is None or options.fresh:
        return lambda key: False
    from qfund.engine.kinds import KINDS

    try:
        return store.keys(KINDS["compare"]).__contains__
    except StoreError:  # as each comparison will then say
        return lambda key: False


def _before(store: "Store | None") -> list[Costs]:
    if store is None:
        return []
    from qfund.engine.kinds import KINDS

    try:
        return [line.costs for line in store.listed(KINDS["compare"]) if line.costs]
    except StoreError:
        return []


def _plan(planned: Sequence[Planned], options: Namespace) -> str:
    if options.json:
        return msgspec.json.encode([_bare(row) for row in planned]).decode()
    rows = tables.texts(tables.plan(planned))
    if options.csv:
        return _csv(rows, None)
    if options.markdown:
        return tables.markdown(rows)
    shown = [{name: cell for name, cell in row.items() if name != "Why not"} for row in rows]
    refused = [Failed(row.model, row.name, row.why) for row in planned if row.item is None]
    told = "\n".join(f"  {each}" for each in words.failures(refused))
    return "\n\n".join(filter(None, (words.planned(total(planned)), folded(shown, keys=2), told)))


def _csv(rows: Sequence[Mapping[str, object]], columns: Sequence[str] | None) -> str:
    from qfund.drawing.csv import csv  # imports pandas

    return csv(frame(rows, columns)).decode().rstrip("\n")


def _bare(row: Planned) -> dict[str, object]:
    """Without the headers that it was planned from."""
    found: dict[str, object] = {name: getattr(row, name) for name in Planned.__slots__ if name != "item"}
    return found | {"spec": row.item.spec if row.item else None, "margin": row.item.margin if row.item else None}


def _text(found: Swept, options: Namespace) -> str:
    if options.json:
        return msgspec.json.encode(found).decode()
    if options.csv:
        return _csv(tables.numbers(found.lines), tables.NUMBERS)
    if options.markdown:
        return tables.document(found).rstrip("\n")
    parts = [words.headline(found.picks)]
    if found.lines:
        parts += [folded(tables.texts(tables.picked(found.picks)))]
        parts += [folded(tables.texts(tables.ranked(found.lines)), keys=3), words.NOTE]
    if found.failed:
        parts.append("\n".join(("Failed:", *(f"  {each}" for each in words.failures(found.failed)))))
    return "\n\n".join(parts)


COMMAND = Command(
    run=_run,
    rows=(
        Option(
            "models",
            "a list of models (.yaml, - for standard input, or .txt with a model a line), a folder of checkpoints, or "
            "models by name, as `qfund compare` takes them, Hub ids also with @revision",
            many=True,
        ),
        precision((), otherwise="three that keep the rest of the model in what its checkpoint is stored in"),
        REFERENCE,
        Option("--text", "an input, for all models; can be given again, each is compared by itself", "T", again=True),
        Option("--text-file", "the same of a UTF-8 file; can be given again", "F", Path, again=True),
        Option("--text-folder", "several inputs in one comparison: the UTF-8 files in this folder", "D", Path),
        *amounts(DEFAULT_TOKENS),
        *CHAT,
        LIKE_LLAMA_CPP,
        ALSO,
        LIBRARIES,
        UNTIL_DECIDED,
        *margins(Margin().perplexity or 0.0, Margin().tokens or 0.0, Margin().cosine or 0.0),
        Option("--plan", "say what it would take, and measure nothing", flag=True),
        ENGINE,
        Exclusive(
            (
                JSON,
                Option("--csv", "print every candidate as CSV, with full digits", flag=True),
                Option("--markdown", "print the ranking as tables of Markdown", flag=True),
            )
        ),
        *STORING,
    ),
    examples=(
        "qfund sweep pydoc-llama docstring-kinds --precision bf16 int8 int4",
        "qfund sweep models.yaml --plan",
        "qfund sweep ./checkpoints --text-file notes.txt --until-decided --csv",
    ),
    notes="""A comparison that is stored is not measured again, so the same command goes on where one was ended. What
fails is told at the end, and the exit code is 1. In a list of YAML a model is a name, or a mapping with settings:

  precisions: [int8, int4]        # for all models
  models:
    - pydoc-llama
    - model: owner/name@revision
      precisions: [int4]
      margin: {perplexity: 0.5}   # per cent, as --margin-perplexity
      text_file: [one.txt, two.txt]

Settings are precisions, reference, text, text_file, files, margin, max_tokens, context, stride, scoring, also,
libraries, until_decided and revision; those of a model go before those of the list, and these before options.""",
)
