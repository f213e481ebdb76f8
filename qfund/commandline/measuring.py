"""How a command comes to its result, and prints it."""

from argparse import Namespace
from collections.abc import Callable
from typing import Any

import msgspec

from qfund import engine
from qfund.commandline.progress import Shown, say
from qfund.core.request import Request


def measured(request: Request, options: Namespace, **storing: Any) -> Any:
    """Its result, with progress on standard error unless ``--quiet``. It is neither looked for in a store nor kept,
    unless ``storing`` says so to ``engine.compute``."""
    shown = None if options.quiet else Shown()
    result = engine.compute(request, progress=shown, warn=lambda sentence: say(f"qfund: {sentence}"), **storing)
    if shown:
        shown.end()
    return result


def stored(request: Request, options: Namespace) -> Any:
    """The same, kept and found again, as ``options.STORING`` says."""
    from qfund.engine.store import Store

    return measured(request, options, store=None if options.no_store else Store(), fresh=options.fresh)


def put(
    result: Any, options: Namespace, text: Callable[[Any], str], to_json: Callable[[Any], bytes] = msgspec.json.encode
) -> None:
    """Print it: words and tables, or with ``--json`` one document."""
    print(to_json(result).decode() if options.json else text(result))
