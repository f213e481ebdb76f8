"""Run a ``Spec`` and keep its ``Report``.

``compute`` does it in this process, for the command line and Python. ``qfund.engine.jobs.Jobs`` does it in a worker
process, for the web server. Importing either imports no torch.
"""

import importlib
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from qfund.errors import InvalidInput, QfundError, StoreError
from qfund.report import Report
from qfund.spec import Spec, checked, digest

if TYPE_CHECKING:
    from qfund.store import Store

#: ``(phase, share)``: what is being done, and the share of the whole job that is done, 0 to 1.
Progress = Callable[[str, float], None]
Measure = Callable[[Spec, Progress], Report]
Identify = Callable[[Spec], str]

MEASURE = "qfund.measures.compare:compare"
IDENTIFY = "qfund.catalog:identity"


def lazily(name: str) -> Any:
    """The function that ``"module:function"`` names, imported now."""
    module, _, function = name.partition(":")
    return getattr(importlib.import_module(module), function)


def key_of(spec: Spec, identify: Identify | None = None) -> str:
    """The key of ``spec`` for jobs and stored reports: equal for equal comparisons of equal weights.

    Raises:
        QfundError: a malformed ``spec``, or a model that is not there.
    """
    spec = checked(spec)
    try:
        return digest(spec, (identify or lazily(IDENTIFY))(spec))
    except UnicodeEncodeError as error:  # lone surrogates, as Python makes of bytes that are not UTF-8
        raise InvalidInput("The input is not valid Unicode text.", "Save it as UTF-8 and give it again.") from error


def keep(store: "Store", key: str, spec: Spec, report: Report, identify: Identify | None = None) -> str | None:
    """Put a fresh report into the store; a sentence that says why not, where that fails. Never raises for the store."""
    try:
        if key_of(spec, identify) != key:
            return "The model changed while it was measured, so this result was not saved. Compare again."
        store.put(key, report)
    except QfundError as error:
        return f"This result was not saved. {error}"
    return None


def compute(
    spec: Spec,
    *,
    store: "Store | None" = None,
    fresh: bool = False,
    progress: Progress | None = None,
    warn: Callable[[str], object] = warnings.warn,
    measure: Measure | None = None,
    identify: Identify | None = None,
) -> Report:
    """The report of ``spec``: the stored one, or measured in this process and stored.

    Args:
        store: where to look and to keep; None for neither.
        fresh: measure even if there is a stored report.
        progress: called as work goes on.
        warn: called with a sentence when the store refuses; the report is returned all the same.
        measure, identify: in place of ``qfund.measures.compare.compare`` and ``qfund.catalog.identity``.

    Raises:
        QfundError: whatever is wrong with the spec, the model or the input.
    """
    spec = checked(spec)
    key = key_of(spec, identify)
    if store is not None and not fresh:
        try:
            found = store.get(key)
        except StoreError as error:
            warn(f"The saved results cannot be read. {error}")
            store = None
        else:
            if found is not None:
                return found
    report: Report = (measure or lazily(MEASURE))(spec, progress or (lambda phase, share: None))
    problem = keep(store, key, spec, report, identify) if store is not None else None
    if problem:
        warn(problem)
    return report
