"""The command line: ``qfund compare``, ``plan``, ``fits``, ``load-peak``, ``generate``, ``classify``, ``embed``,
``caption``, ``show``, ``ls``, ``run``.

Results go to standard output, progress and messages to standard error. Exit codes: 0 done, 1 failed, 2 wrong usage.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from qfund import backends, catalog, report, spec, verdict
from qfund.commands import caption, classify, embed, fits, generate, load_peak, plan, texts
from qfund.engine import compute
from qfund.errors import InvalidInput, QfundError, StoreError
from qfund.metrics import METRICS
from qfund.precisions import PRECISIONS, Precision, unavailable
from qfund.store import Store
from qfund.verdict import Margin
from qfund.version import VERSION

if TYPE_CHECKING:
    import pandas as pd

_APP = Path(__file__).resolve().parent.parent / "app.py"
_BESIDE = 4  # candidates whose columns fit beside each other in a terminal
_WIDTH = 160  # characters of a line where there is no terminal


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit."""
    options = parser().parse_args(arguments)
    # Before torch is imported: threads that wait must not spin, or a shared machine is several times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    backends.quiet()
    try:
        options.run(options)
        sys.stdout.flush()
    except QfundError as error:
        _say(f"qfund: {error}")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        _say("qfund: stopped.")
        sys.exit(130)
    except BrokenPipeError:  # the reader of our output (head, less) is gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    sys.exit(0)


def parser() -> argparse.ArgumentParser:
    """Every command and option; documented in the README, which a test checks."""
    top = argparse.ArgumentParser(
        prog="qfund", description="What lower precision costs a neural network, and what it buys."
    )
    top.add_argument("--version", action="version", version=f"qfund {VERSION}")
    commands = top.add_subparsers(required=True, metavar="command")

    compare = commands.add_parser("compare", help="compare precisions of a model")
    compare.set_defaults(run=_compare)
    compare.add_argument("model", help="a name of `qfund ls models`, a local folder, or a Hub id (owner/name)")
    compare.add_argument(
        "--precision",
        nargs="+",
        metavar="P",
        default=[*spec.DEFAULT_CANDIDATES],
        help=f"candidates, names of `qfund ls precisions` (default: {' '.join(spec.DEFAULT_CANDIDATES)})",
    )
    compare.add_argument("--reference", metavar="P", default="fp32", help="compare with this one (default: fp32)")
    text = compare.add_mutually_exclusive_group()
    text.add_argument("--text", help="the input (default: the model's own evaluation text)")
    text.add_argument(
        "--text-file", type=Path, metavar="F", help="read the input from this UTF-8 file, - for standard input"
    )
    text.add_argument(
        "--text-folder",
        type=Path,
        metavar="D",
        help="read several inputs, the UTF-8 files in this folder, each its own",
    )
    compare.add_argument(
        "--max-tokens",
        type=int,
        metavar="N",
        help=f"use at most N tokens, in a folder of each text (default: {spec.DEFAULT_TOKENS})",
    )
    compare.add_argument(
        "--context", type=int, metavar="N", help="tokens per chunk (default: the model's, at most 512)"
    )
    compare.add_argument(
        "--stride",
        type=int,
        metavar="N",
        help="begin a chunk every N tokens; what it shares with the one before is context (default: no overlap)",
    )
    compare.add_argument(
        "--scoring", metavar="S", default=spec.ALL, help=f"positions to score: {' or '.join(spec.SCORINGS)}"
    )
    compare.add_argument(
        "--like-llama-cpp",
        action="store_true",
        help="score what llama-perplexity does: --scoring second-half, and the whole text unless --max-tokens is given",
    )
    compare.add_argument("--revision", metavar="R", help="branch, tag or commit of a Hub id")
    compare.add_argument(
        "--also",
        nargs="+",
        metavar="M",
        default=[],
        help=f"quantise these too: {', '.join(f'{name} ({what})' for name, what in spec.ALSO.items())}",
    )
    compare.add_argument(
        "--libraries",
        action="store_true",
        help="run the installed libraries that implement the candidates too, and time everything in turns",
    )
    _add_margins(compare)
    compare.add_argument("--json", action="store_true", help="print the whole report as one JSON document")
    compare.add_argument("--quiet", action="store_true", help="print no progress")
    compare.add_argument("--fresh", action="store_true", help="measure again even if the result is stored")
    compare.add_argument("--no-store", action="store_true", help="neither look for a stored result nor keep this one")

    for command in (plan, fits, load_peak, generate, classify, embed, caption):
        command.add(commands)

    show = commands.add_parser("show", help="print a report that somebody sent: the document of --json, in words")
    show.set_defaults(run=_show)
    show.add_argument("file", type=Path, help="a JSON report, - for standard input")
    _add_margins(show)

    lists = commands.add_parser("ls", help="list models, precisions or metrics")
    lists.set_defaults(run=_list)
    lists.add_argument("what", choices=("models", "precisions", "metrics"))

    run = commands.add_parser("run", help="start the dashboard in a browser")
    run.set_defaults(run=_run)
    run.add_argument("--port", type=int, default=8501, help="default: %(default)s")
    run.add_argument("--host", default="localhost", help="address to listen on (default: %(default)s)")
    return top


def _add_margins(command: argparse.ArgumentParser) -> None:
    """What each candidate is judged by; it changes no measurement."""
    usual = Margin()
    for name, default, what in (
        ("perplexity", usual.perplexity, "perplexity that is worse by at most X %%"),
        ("tokens", usual.tokens, "at most X %% of the most likely tokens changed"),
    ):
        command.add_argument(
            f"--margin-{name}",
            type=_percent,
            default=default,
            metavar="X",
            help=f"call a candidate within your margin with {what} (default: {100 * (default or 0):g})",
        )


def _percent(text: str) -> float:
    """``1``, ``0.5`` or ``0.5%`` as a share."""
    try:
        value = float(text.strip().removesuffix("%"))
    except ValueError:
        value = -1.0
    if not 0 <= value <= 100:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of per cent from 0 to 100")
    return value / 100


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _compare(options: argparse.Namespace) -> None:
    text = options.text if options.text_file is None else texts.read(options.text_file)
    asked = spec.Spec(
        model=options.model,
        reference=options.reference.lower(),
        precisions=tuple(name.lower() for given in options.precision for name in given.split(",") if name),
        text=text,
        max_tokens=spec.DEFAULT_TOKENS if options.max_tokens is None else options.max_tokens,
        context=options.context,
        revision=options.revision,
        also=tuple(name.lower() for given in options.also for name in given.split(",") if name),
        libraries=options.libraries,
        stride=options.stride,
        scoring=options.scoring.lower(),
        texts=() if options.text_folder is None else texts.read_folder(options.text_folder),
    )
    if options.like_llama_cpp:
        asked = replace(spec.like_llama_cpp(asked), stride=options.stride)
        asked = asked if options.max_tokens is None else replace(asked, max_tokens=options.max_tokens)
    found: report.Report = compute(
        asked,
        store=None if options.no_store else Store(),
        fresh=options.fresh,
        progress=None if options.quiet else _progress,
        warn=lambda sentence: _say(f"qfund: {sentence}"),
    )
    if options.json:
        sys.stdout.write(report.to_json(found).decode() + "\n")
    else:
        _print(found, Margin(options.margin_perplexity, options.margin_tokens))


def _show(options: argparse.Namespace) -> None:
    document = texts.read(options.file)
    try:
        found = report.from_json(document.encode())
    except StoreError as error:
        if _has_schema(document):
            raise
        raise InvalidInput("This is no report of qfund.", "Give what `qfund compare … --json` printed.") from error
    _print(found, Margin(options.margin_perplexity, options.margin_tokens))


def _has_schema(document: str) -> bool:
    """Whether it is a report of some version of qfund, as far as can be told."""
    try:
        found = json.loads(document)
    except ValueError:
        return False
    return isinstance(found, dict) and "schema" in found


def _progress(phase: str, share: float) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{share:4.0%} {phase}", end="", file=sys.stderr, flush=True)
    else:
        _say(f"{share:4.0%} {phase}")


def _print(found: report.Report, margin: Margin) -> None:
    from qfund import fidelity_tables, fidelity_words, tables, words

    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr, flush=True)
    print(words.title(found))
    print(words.provenance(found))
    for note in words.notes(found):
        print(note)
    for alarm in words.reference_alarms(found):
        print(f"! {alarm}")
    if whole := fidelity_words.streamed(found):
        print(whole)
    told = zip(verdict.decide(found, margin), words.verdicts(found), found.results, strict=True)
    for decision, said, result in told:
        print(f"\n{said.sentence}")
        print(decision.sentence)
        for alarm in said.alarms:
            print(f"! {alarm}")
        for quiet in (*said.cautions, *words.asides(result)):
            print(f"  {quiet}")
    print()
    fidelity = fidelity_tables.metrics_text(found)
    if fidelity.empty:
        print(words.nothing_compared(found))
    elif len(found.results) > _BESIDE:
        _print_table(fidelity_tables.metrics_by_precision(found))
    else:
        _print_table(fidelity.drop(columns=["Better", "Definition"]))
    if not fidelity.empty:
        print(fidelity_words.how_sure(found))
    if found.noise:
        print(fidelity_words.noise(found))
    print()
    _print_table(tables.footprints_text(found))
    if found.spec.libraries:
        print()
        shown = tables.libraries_text(found).drop(columns=["Call", "Note", "Problem"], errors="ignore")
        _print_table(shown, keys=2)
        for sentence in (*words.library_notes(found), *words.library_problems(found)):
            print(f"  {sentence}")


def _print_table(frame: "pd.DataFrame", keys: int = 1) -> None:
    """In as many parts below each other as the terminal's width asks for, each beginning with the first columns."""
    width = shutil.get_terminal_size((_WIDTH, 24)).columns
    first, rest = list(frame.columns[:keys]), list(frame.columns[keys:])
    while rest:
        many = len(rest)
        while many > 1 and len(_text(frame[first + rest[:many]]).partition("\n")[0]) > width:
            many -= 1
        print(_text(frame[first + rest[:many]]))
        if rest := rest[many:]:
            print()


def _text(frame: "pd.DataFrame") -> str:
    return str(frame.to_string(index=False))


def _list(options: argparse.Namespace) -> None:
    if options.what == "models":
        rows = [(entry.name, entry.description) for entry in catalog.CATALOG.values()]
    elif options.what == "precisions":
        rows = [(row.name, _precision(row)) for row in PRECISIONS.values()]
    else:
        rows = [(row.name, f"{row.label}: {row.definition}") for row in METRICS.values()]
    width = max(len(name) for name, _ in rows)
    for name, text in rows:
        print(f"{name:{width}}  {text}")


def _precision(row: Precision) -> str:
    """``INT4 g32 · 5 bits per weight · CPU, CUDA · 4-bit integers …``; where it does not run here, the reason first."""
    bits = [f"{row.effective_bits:.4g} bits per weight"] if row.effective_bits else []
    reason = unavailable(row, catalog.device())
    return " · ".join([row.label, *bits, row.runs_on, *([f"not here: {reason}"] if reason else []), row.meaning])


def _run(options: argparse.Namespace) -> None:
    command = [sys.executable, "-m", "streamlit", "run", str(_APP)]
    command += [f"--server.port={options.port}", f"--server.address={options.host}"]
    # Streamlit reads .streamlit/config.toml from the working directory.
    code = subprocess.run(command, cwd=_APP.parent, check=False).returncode
    if code:
        raise QfundError(f"The dashboard ended with exit code {code}.", "See its message above.")
