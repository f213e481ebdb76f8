"""Measure what a request asks (a ``Spec``, or another of ``qfund.engine.kinds``) and keep the result.

``compute`` does it in this process, for the command line and Python. ``qfund.engine.jobs.Jobs`` does it in a worker
process, for the web server. Importing either imports no torch.
"""

import dataclasses
import hashlib
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

import msgspec

from qfund.core.errors import InvalidInput, QfundError, StoreError, exhausted
from qfund.core.feature import lazily
from qfund.core.progress import Progress
from qfund.core.request import LATER, Request
from qfund.engine import unfinished
from qfund.engine.kinds import kind_of

if TYPE_CHECKING:
    from qfund.engine.shared.rows import Keeper

Measure = Callable[[Any, Progress], Any]
Identify = Callable[[Any], str]


def key_of(request: Request, identify: Identify | None = None) -> str:
    """The key of ``request`` for jobs and stored results: equal for equal requests of one kind and equal weights.

    Raises:
        QfundError: a malformed request, or a model that is not there.
    """
    kind = kind_of(request)
    request = kind.checked(request)
    try:
        parts = kind.name.encode(), _written(request), (identify or lazily(kind.identify))(request).encode()
    except UnicodeEncodeError as error:  # lone surrogates, as Python makes of bytes that are not UTF-8
        raise InvalidInput("The input is not valid Unicode text.", "Save it as UTF-8 and give it again.") from error
    return hashlib.sha256(b"\n".join(parts)).hexdigest()[:32]


def _written(request: Request) -> bytes:
    """The request as JSON, less what came later and is as it always was: older results keep their keys."""
    later = [field for field in dataclasses.fields(cast("Any", request)) if LATER.keys() <= field.metadata.keys()]
    usual = {field.name for field in later if getattr(request, field.name) == field.default}
    if not usual:
        return msgspec.json.encode(request)
    return msgspec.json.encode(
        {name: value for name, value in msgspec.to_builtins(request).items() if name not in usual}
    )


def keep(
    store: "Keeper",
    key: str,
    request: Request,
    result: Any,
    identify: Identify | None = None,
    refused: Callable[[], object] = lambda: None,
) -> str | None:
    """Put a fresh result into the store; a sentence that says why not, where that fails. Never raises for the store.

    Args:
        refused: called where it is the store that does not take it.
    """
    kind = kind_of(request)
    try:
        if key_of(request, identify) != key:
            return "The model changed while it was measured, so this result was not saved. Measure again."
        store.put(kind, key, result)
    except QfundError as error:
        if isinstance(error, StoreError):
            refused()
        return f"This result was not saved. {error}"
    with suppress(StoreError):
        unfinished.forget(store, key)
    return None


def compute(
    request: Request,
    *,
    store: "Keeper | None" = None,
    fresh: bool = False,
    progress: Progress | None = None,
    warn: Callable[[str], object] = warnings.warn,
    measure: Measure | None = None,
    identify: Identify | None = None,
) -> Any:
    """The result of ``request`` (of a ``Spec`` its ``Report``): the stored one, or measured in this process and stored.

    Args:
        store: where to look and to keep; None for neither.
        fresh: measure even if there is a stored result.
        progress: called as work goes on. What of the result is there in between is kept too, for ``unfinished.find``.
        warn: called with a sentence when the store refuses; the result is returned all the same.
        measure, identify: in place of those that the request's kind names.

    Raises:
        QfundError: whatever is wrong with the request, the model or the input; or memory ran out, a GPU's too.
    """
    kind = kind_of(request)
    request = kind.checked(request)
    key = key_of(request, identify) if store is not None else ""
    if store is not None and not fresh:
        try:
            found = store.get(kind, key)
        except StoreError as error:
            warn(f"The saved results cannot be read. {error}")
            store = None
        else:
            if found is not None:
                return found
    told = progress or (lambda phase, share: None)
    if store is not None:
        told = unfinished.Keeping(store, kind, key, told, fresh)
    try:
        result = kind.published((measure or lazily(kind.measure))(request, told))
    except Exception as error:
        if spent := exhausted(error):
            raise spent from error
        raise
    problem = keep(store, key, request, result, identify) if store is not None else None
    if problem:
        warn(problem)
    return result
