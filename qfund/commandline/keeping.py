"""``qfund store``: what the store holds, what may go, and a copy to take along."""

import time
from argparse import ArgumentTypeError, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from qfund.commandline.table import Command, Option
from qfund.commandline.tables import aligned
from qfund.core.errors import InvalidSpec, UsageError
from qfund.core.home import drop_cached
from qfund.core.units import bytes_text

if TYPE_CHECKING:
    from qfund.engine.store import Store


def _run(options: Namespace) -> None:
    if options.file is not None and options.action in ("size", "prune"):
        raise UsageError(f"{options.action} takes no --file.", "Leave it out.")
    given = options.older_than is not None or options.to is not None or options.own or options.cache
    if given and options.action != "prune":
        raise UsageError(f"{options.action} deletes nothing.", "Leave out what prune takes.")
    _ACTIONS[options.action](options)


def _size(options: Namespace) -> None:
    from qfund.engine import upkeep
    from qfund.engine.store import Store

    found = upkeep.sizes(Store())
    rows = [(line.kind, f"{line.count:,}", bytes_text(line.bytes)) for line in found.results]
    rows.append(("of own texts and pictures", f"{found.own.count:,}", bytes_text(found.own.bytes)))
    rows += [(f"jobs {state}", f"{count:,}", "") for state, count in sorted(found.jobs.items())]
    if found.database is not None:
        rows.append(("database", "", bytes_text(found.database)))
    rows.append(("cache", "", bytes_text(found.cache)))
    if found.free is not None:
        rows.append(("free on the disk", "", bytes_text(found.free)))
    for line in aligned(rows):
        print(line)


def _prune(options: Namespace) -> None:
    from qfund.engine import upkeep
    from qfund.engine.store import Store

    if options.own and options.older_than is None:
        options.older_than = 0.0
    if options.older_than is None and options.to is None and not options.cache:
        raise UsageError("Nothing says what may go.", "Give --older-than, --own, --to or --cache.")
    before = None if options.older_than is None else time.time() - options.older_than * upkeep.DAY
    if before is not None or options.to is not None:
        to = None if options.to is None else int(options.to * 1024**3)
        gone = upkeep.prune(Store(), before=before, own=options.own, to_bytes=to)
        print(f"{gone:,} {'result' if gone == 1 else 'results'} deleted")
    if options.cache:
        print(f"{bytes_text(drop_cached())} of the cache deleted")


def _export(options: Namespace) -> None:
    from qfund.engine import upkeep
    from qfund.engine.store import Store

    file = _named(options)
    if file.exists():
        raise InvalidSpec(f"{file} is there already.", "Name a new file.")
    source = Store()
    if not source.exists():
        raise InvalidSpec("There is no store yet.", "Measure something first.")
    print(f"{upkeep.copy(source, _at(file)):,} results written to {file}")


def _import(options: Namespace) -> None:
    from qfund.engine import upkeep
    from qfund.engine.store import Store

    file = _named(options)
    if not file.is_file():
        raise InvalidSpec(f"{file} is no file.", "Name one that `qfund store export` has written, or a qfund.db.")
    print(f"{upkeep.copy(_at(file), Store()):,} results taken from {file}")


def _named(options: Namespace) -> Path:
    if options.file is None:
        raise UsageError("No file is named.", "Give --file.")
    return Path(options.file).absolute()


def _at(file: Path) -> "Store":
    import sqlalchemy as sa

    from qfund.engine.store import Store

    return Store(sa.URL.create("sqlite", database=str(file)).render_as_string())


_ACTIONS = {"size": _size, "prune": _prune, "export": _export, "import": _import}


def _amount(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise ArgumentTypeError(f"{text!r} is no number from 0 on")
    return value


COMMAND = Command(
    run=_run,
    rows=(
        Option("action", "what to do", choices=tuple(_ACTIONS)),
        Option("--file", "export to, or import from, this file: an SQLite database", "F"),
        Option("--older-than", "prune results older than this many days", "D", _amount),
        Option("--own", "of those only results of texts and pictures that somebody gave", flag=True),
        Option("--to", "prune the oldest results until they take at most this many GiB", "G", _amount),
        Option("--cache", "prune what is kept only to be faster", flag=True),
    ),
    examples=(
        "qfund store size",
        "qfund store prune --older-than 90 --cache",
        "qfund store export --file results.db",
    ),
    notes="An import replaces no result by an older one. What is pruned can be measured again.",
)
