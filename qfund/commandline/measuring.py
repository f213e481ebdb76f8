"""How a command comes to its result, and prints it."""

from argparse import Namespace
from collections.abc import Callable
from typing import Any

import msgspec

from qfund import engine
from qfund.commandline.progress import Quiet, Shown, say
from qfund.commandline.results import Results
from qfund.core.request import Request


class Stopped(KeyboardInterrupt):
    """Somebody pressed Ctrl-C when ``so_far`` was there."""

    def __init__(self, so_far: Any) -> None:
        super().__init__()
        self.so_far = so_far


def measured(request: Request, options: Namespace, shown: Shown | None = None, **storing: Any) -> Any:
    """Its result, with progress on standard error unless ``--quiet``. It is neither looked for in a store nor kept,
    unless ``storing`` says so to ``engine.compute``.

    Raises:
        Stopped: with what there is, where it was stopped and there is something.
    """
    shown = shown or Shown()
    told = Quiet(shown) if options.quiet else shown
    try:
        result = engine.compute(request, progress=told, warn=lambda sentence: say(f"qfund: {sentence}"), **storing)
    except KeyboardInterrupt as error:
        if shown.unfinished is None:
            raise
        raise Stopped(shown.unfinished) from error
    finally:
        if not options.quiet:
            shown.end()
    return result


def stored(request: Request, options: Namespace, shown: Shown | None = None) -> Any:
    """The same, kept and found again, as ``options.STORING`` says."""
    if options.no_store:
        return measured(request, options, shown, store=None, fresh=options.fresh)
    return measured(request, options, shown, store=Results(), fresh=options.fresh)


def put(
    result: Any, options: Namespace, text: Callable[[Any], str], to_json: Callable[[Any], bytes] = msgspec.json.encode
) -> None:
    """Print it: words and tables, or with ``--json`` one document."""
    print(to_json(result).decode() if options.json else text(result))
