"""The command line: ``qfund compare``, ``plan``, ``fits``, ``load-peak``, ``generate``, ``classify``, ``embed``,
``caption``, ``show``, ``ls``, ``run``.

Results go to standard output, progress and messages to standard error. Exit codes: 0 done, 1 failed, 2 wrong usage.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from qfund.checkpoints import catalog
from qfund.commandline.measuring import say
from qfund.core.errors import QfundError
from qfund.core.metrics.table import METRICS
from qfund.features.captions import command as captions_command
from qfund.features.compare.command import add_margins, run_compare, run_show
from qfund.features.compare.request import spec
from qfund.features.memory.command import fits, load_peak, plan
from qfund.features.outputs.command import classify, embed, generate
from qfund.inputs import texts
from qfund.precisions import backends, request
from qfund.precisions.precision import Precision
from qfund.precisions.table import PRECISIONS, unavailable
from qfund.version import VERSION

_APP = Path(__file__).resolve().parent.parent / "app.py"


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
        say(f"qfund: {error}")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        say("qfund: stopped.")
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
    compare.set_defaults(run=run_compare)
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
        "--scoring", metavar="S", default=texts.ALL, help=f"positions to score: {' or '.join(texts.SCORINGS)}"
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
        help=f"quantise these too: {', '.join(f'{name} ({what})' for name, what in request.ALSO.items())}",
    )
    compare.add_argument(
        "--libraries",
        action="store_true",
        help="run the installed libraries that implement the candidates too, and time everything in turns",
    )
    add_margins(compare)
    compare.add_argument("--json", action="store_true", help="print the whole report as one JSON document")
    compare.add_argument("--quiet", action="store_true", help="print no progress")
    compare.add_argument("--fresh", action="store_true", help="measure again even if the result is stored")
    compare.add_argument("--no-store", action="store_true", help="neither look for a stored result nor keep this one")

    for command in (plan, fits, load_peak, generate, classify, embed, captions_command):
        command.add(commands)

    show = commands.add_parser("show", help="print a report that somebody sent: the document of --json, in words")
    show.set_defaults(run=run_show)
    show.add_argument("file", type=Path, help="a JSON report, - for standard input")
    add_margins(show)

    lists = commands.add_parser("ls", help="list models, precisions or metrics")
    lists.set_defaults(run=_list)
    lists.add_argument("what", choices=("models", "precisions", "metrics"))

    run = commands.add_parser("run", help="start the dashboard in a browser")
    run.set_defaults(run=_run)
    run.add_argument("--port", type=int, default=8501, help="default: %(default)s")
    run.add_argument("--host", default="localhost", help="address to listen on (default: %(default)s)")
    return top


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
