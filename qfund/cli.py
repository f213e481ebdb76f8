"""The command line: ``qfund compare``, ``qfund ls``, ``qfund run``.

Results go to standard output, progress and messages to standard error. Exit codes: 0 done, 1 failed, 2 wrong usage.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from qfund import backends, catalog, report, spec
from qfund.engine import compute
from qfund.errors import InvalidInput, QfundError
from qfund.metrics import METRICS
from qfund.precisions import PRECISIONS, Precision, unavailable
from qfund.store import Store
from qfund.version import VERSION

_APP = Path(__file__).resolve().parent.parent / "app.py"
_BESIDE = 4  # candidates whose columns fit beside each other in a terminal


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
    compare.add_argument(
        "--max-tokens",
        type=int,
        default=spec.DEFAULT_TOKENS,
        metavar="N",
        help="use at most N tokens (default: %(default)s)",
    )
    compare.add_argument(
        "--context", type=int, metavar="N", help="tokens per chunk (default: the model's, at most 512)"
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
    compare.add_argument("--json", action="store_true", help="print the whole report as one JSON document")
    compare.add_argument("--quiet", action="store_true", help="print no progress")
    compare.add_argument("--fresh", action="store_true", help="measure again even if the result is stored")
    compare.add_argument("--no-store", action="store_true", help="neither look for a stored result nor keep this one")

    show = commands.add_parser("show", help="print a report that somebody sent: the document of --json, in words")
    show.set_defaults(run=_show)
    show.add_argument("file", type=Path, help="a JSON report, - for standard input")

    lists = commands.add_parser("ls", help="list models, precisions or metrics")
    lists.set_defaults(run=_list)
    lists.add_argument("what", choices=("models", "precisions", "metrics"))

    run = commands.add_parser("run", help="start the dashboard in a browser")
    run.set_defaults(run=_run)
    run.add_argument("--port", type=int, default=8501, help="default: %(default)s")
    run.add_argument("--host", default="localhost", help="address to listen on (default: %(default)s)")
    return top


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _compare(options: argparse.Namespace) -> None:
    text = options.text if options.text_file is None else _read(options.text_file)
    asked = spec.Spec(
        model=options.model,
        reference=options.reference.lower(),
        precisions=tuple(name.lower() for given in options.precision for name in given.split(",") if name),
        text=text,
        max_tokens=options.max_tokens,
        context=options.context,
        revision=options.revision,
        also=tuple(name.lower() for given in options.also for name in given.split(",") if name),
        libraries=options.libraries,
    )
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
        _print(found)


def _read(path: Path) -> str:
    try:
        return sys.stdin.read() if str(path) == "-" else path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path} cannot be read: {error}.", "Give a UTF-8 text file.") from error


def _show(options: argparse.Namespace) -> None:
    _print(report.from_json(_read(options.file).encode()))


def _progress(phase: str, share: float) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{share:4.0%} {phase}", end="", file=sys.stderr, flush=True)
    else:
        _say(f"{share:4.0%} {phase}")


def _print(found: report.Report) -> None:
    from qfund import tables, words

    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr, flush=True)
    print(words.title(found))
    print(words.provenance(found))
    for note in words.notes(found):
        print(note)
    for alarm in words.reference_alarms(found):
        print(f"! {alarm}")
    for verdict in words.verdicts(found):
        print(f"\n{verdict.sentence}")
        for alarm in verdict.alarms:
            print(f"! {alarm}")
        for caution in verdict.cautions:
            print(f"  {caution}")
    print()
    if len(found.results) > _BESIDE:
        # Under the short names of `qfund ls metrics`, so that a row stays one line.
        names = {tables.heading(name): name for name in METRICS}
        print(tables.fidelity_by_precision(found).rename(columns=names).to_string(index=False))
    else:
        print(tables.fidelity_text(found).drop(columns=["Definition", "Better"]).to_string(index=False))
    print()
    print(tables.footprints_text(found).to_string(index=False))
    if found.spec.libraries:
        print()
        shown = tables.libraries_text(found).drop(columns=["Call", "Note", "Problem"], errors="ignore")
        print(shown.to_string(index=False))
        for problem in words.library_problems(found):
            print(f"  {problem}")


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
