"""The one seam between pages and the rest of qfund: store, jobs and catalog, shared by all sessions of a server.

What must be there once for all of them is no cached resource of Streamlit's: any visitor's browser may empty those.
Tests replace ``store`` and ``jobs``; nothing else in ``qfund.ui`` and ``pages/`` reaches them in another way.
"""

import functools
import hashlib
import importlib
import threading
import time
from collections import Counter, OrderedDict
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from qfund.checkpoints import catalog
from qfund.core.errors import QfundError, TimedOut
from qfund.core.feature import Feature, Kind, lazily
from qfund.core.request import Request, holds_own
from qfund.engine import key_of, shipped, unfinished
from qfund.engine.job import NOBODY, Job, Visitor
from qfund.engine.jobs import Desk, Jobs
from qfund.engine.kinds import KINDS, kind_of
from qfund.engine.settings import public as public
from qfund.engine.shared.ledger import Ledger
from qfund.engine.store import Store
from qfund.ui.server import login, private
from qfund.ui.server.pages import COOKIE

#: All rows; ``features`` is above this room, so it is named, not imported.
FEATURES: tuple[Feature, ...] = lazily("qfund.features:FEATURES")

#: Decoded reports that a server keeps: some megabytes each.
KEPT = 24

#: Seconds after which headers that could not be read are asked for again, and that a page waits for what it opens with.
AGAIN = 120.0
PATIENCE = 15.0


_making = threading.RLock()


@functools.cache
def _store() -> Store:
    return Store()


@functools.cache
def _jobs() -> Jobs:
    made = Jobs(store(), ledger=Ledger(store()))
    made.look_after()
    return made


@functools.cache
def _warmed() -> threading.Thread:
    charts = [name for feature in FEATURES for name in feature.warm]

    def work() -> None:
        for name in ("pandas", "pyarrow", "plotly.graph_objects", "plotly.io", *charts):
            importlib.import_module(name)

    return threading.Thread(target=work, name="warm-up", daemon=True)


def store() -> Store:
    with _making:
        return _store()


class Signed(Desk):
    """Jobs as one visitor asks for them, who is the owner of what they asked for where visitors sign in."""

    __slots__ = ()

    def submit(self, request: Request) -> Job:
        if login.configured() and holds_own(request):
            _claim(key_of(request), kind_of(request))
        return Desk.submit(self, request)

    def get(self, key: str) -> Job | None:
        return None if login.configured() and not _reads(key) else Desk.get(self, key)

    def wait(self, key: str, timeout: float | None = None) -> Job | None:
        return None if login.configured() and not _reads(key) else Desk.wait(self, key, timeout)


def jobs() -> Desk:
    """The jobs, for the visitor whose page is drawn."""
    return Signed(every_job(), visitor())


def owner() -> str:
    """Whose page is drawn, where they have signed in, or whose key a program has shown."""
    return login.user() if ASKING.get() is None else PERSON.get()


def _claim(key: str, kind: Kind) -> None:
    """What was known before anybody signed in for it stays everybody's."""
    names = [owner()]
    if names != [private.ANYBODY] and not private.owners(store(), [key]):
        known = every_job().get(key) is not None or store().get(kind, key) is not None
        names += [private.ANYBODY] * known
    private.claim(store(), key, *names)


def _reads(key: str) -> bool:
    """Whether this visitor may read what is under ``key``, of a request that holds what is somebody's own."""
    try:
        return private.reads(private.owners(store(), [key]).get(key), owner())
    except QfundError:
        return not login.configured()


def mine(keys: list[str]) -> frozenset[str]:
    """Those of them that are of the visitor whose page is drawn, who has signed in.

    Raises:
        StoreError: the database refuses.
    """
    if (me := owner()) == private.ANYBODY:
        return frozenset()
    return frozenset(key for key, names in private.owners(store(), keys).items() if me in names)


def warm_up() -> None:
    """Import what the first chart needs while the first visitor still reads; once for each server."""
    with _making:
        thread = _warmed()
        if thread.ident is None:
            thread.start()


#: Who asks where no page is drawn: a program, of ``qfund.ui.server.api``.
ASKING: ContextVar[Visitor | None] = ContextVar("asking", default=None)

#: In whose name it asks, where it has shown a key of somebody who has signed in.
PERSON: ContextVar[str] = ContextVar("person", default=private.ANYBODY)

#: How often a result that was looked for was held in memory, stored, shipped, or not there.
FOUND: Counter[str] = Counter()


def every_job() -> Jobs:
    """Of all visitors."""
    with _making:
        return _jobs()


def visitor() -> Visitor:
    """Whose page is drawn: the browser that carries our cookie, or else the session."""
    if (asking := ASKING.get()) is not None:
        return asking
    context = get_script_run_ctx(suppress_warning=True)
    if context is None:
        return NOBODY
    cookie, address = st.context.cookies.get(COOKIE), st.context.ip_address
    # A page that is run without a server has stand-ins for both.
    known = cookie if isinstance(cookie, str) and cookie else context.session_id
    known = f"user {signed}" if (signed := login.user()) else known
    return named(known, address if isinstance(address, str) else None)


def named(known: str, address: str | None) -> Visitor:
    """A visitor who is known by that, of which only a hash is kept."""
    return Visitor(hashlib.sha256(known.encode(errors="replace")).hexdigest()[:16], address)


def prepare_worker() -> None:
    """Somebody is about to compare: let the worker import what the first job needs."""
    jobs().warm()


class Results:
    """Decoded reports and other results by key, the least recently used forgotten first: a rerun decodes no JSON."""

    def __init__(self) -> None:
        self._held: OrderedDict[str, Any] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: str) -> Any | None:
        with self._lock:
            if key in self._held:
                self._held.move_to_end(key)
            return self._held.get(key)

    def put(self, key: str, report: Any) -> None:
        with self._lock:
            self._held[key] = report
            self._held.move_to_end(key)
            while len(self._held) > KEPT:
                self._held.popitem(last=False)

    def forget(self, key: str) -> None:
        with self._lock:
            self._held.pop(key, None)


@st.cache_resource(show_spinner=False)
def results() -> Results:
    return Results()


@dataclass(frozen=True, slots=True)
class Answer:
    """What is known about a request of any kind: its result, or the latest job for it, or neither. ``problem`` says why
    the store did not give or keep the result; it can be shown and measured all the same. ``so_far`` is what is known
    while there is no result: of a job at work, or of one that was ended."""

    request: Any
    key: str
    result: Any = None
    job: Job | None = None
    problem: str | None = None
    so_far: Any = None


def look_up(request: Request, *, whole: bool = True) -> Answer:
    """What is known about ``request``; never starts work.

    Args:
        whole: whether a result that ships shortened, to what some pages draw, will not do.

    Raises:
        QfundError: a malformed request, or a model that cannot be identified.
    """
    key = key_of(request)
    if holds_own(request) and not _reads(key):
        return Answer(request, key)
    if (held := results().get(key)) is not None:
        FOUND["memory"] += 1
        return Answer(request, key, held)
    result, problem = None, None
    try:
        result = store().get(kind_of(request), key)
    except QfundError as error:
        problem = f"Saved results cannot be read. {error}"
    stored = result is not None
    result = result or shipped.find(request, key)
    FOUND["store" if stored else "shipped" if result is not None else "nowhere"] += 1
    job = jobs().get(key)
    if job is not None and job.state == "done":
        result, problem = job.result or result, job.warning or problem
    if result is not None and problem is None and not (job and job.active):  # it may be measured anew just now
        results().put(key, result)
    if result is None and not whole:
        shortened = f"{key} in numbers"
        result = results().get(shortened) or shipped.find(request, key, whole=False)
        if result is not None:
            results().put(shortened, result)
            return Answer(request, shortened, result, job, problem)
    so_far = _so_far(request, key, job) if result is None else None
    return Answer(request, key, result, job, problem, so_far)


def _so_far(request: Request, key: str, job: Job | None) -> Any | None:
    """What there is of a result, by the job that works on it or by one that was ended."""
    if job is not None and job.so_far is not None:
        return job.so_far
    try:
        return unfinished.find(store(), kind_of(request), key)
    except QfundError:  # told where the result itself is looked for
        return None


def ask(request: Request) -> Answer:
    """As ``look_up``, and starts the work where nothing is known. Only for what takes a second and little memory: a
    link that is opened may do it.

    Raises:
        QfundError: as ``look_up``; or too many jobs wait.
    """
    found = look_up(request)
    if found.result is None and found.job is None:
        job = jobs().submit(request)
        return Answer(request, found.key, job.result, job, found.problem)
    return found


def at_once(request: Request) -> Any:
    """What files alone tell of ``request``: read in this process where they are on this machine, which takes
    milliseconds; by a worker where they are on the Hub, since they may hold anything. The job, while it is at work.

    Raises:
        QfundError: the model is not there, or its files are malformed.
    """
    kind = kind_of(request)
    assert kind.at_once is not None and kind.elsewhere is not None
    if catalog.locate(request.model, request.revision).folder is not None:
        return lazily(kind.at_once)(request)
    asked = lazily(kind.elsewhere)(request)
    answer = ask(asked)
    job = answer.job
    if answer.result is None and job is not None and not job.active and time.time() - (job.finished or 0) > AGAIN:
        job = jobs().submit(asked)
    if answer.result is None and job is not None and job.error is not None:
        raise job.error
    return job if answer.result is None else answer.result


def waited(request: Request) -> Any:
    """As ``at_once``, after a while at most.

    Raises:
        QfundError: as there; or it takes longer.
    """
    found = at_once(request)
    if isinstance(found, Job):
        jobs().wait(found.key, PATIENCE)
        found = at_once(request)
    if isinstance(found, Job):
        raise TimedOut(f"The headers of {request.model} are still being read.", "Try again in a moment.")
    return found


def listed(kind: str, limit: int = 200) -> list[Any]:
    """A line for each of at most ``limit`` stored results of a kind, newest first, that this visitor may see: in public
    none of somebody else's text.

    Raises:
        StoreError: the database refuses.
    """
    found = store().listed(KINDS[kind], limit)
    names = private.owners(store(), [row.key for row in found if row.text is not None])
    me = owner()
    if public():
        return [row for row in found if row.text is None or (me and me in names.get(row.key, ()))]
    return [row for row in found if private.reads(names.get(row.key), me)]


@functools.cache
def shipped_lines(kind: str) -> tuple[Any, ...]:
    """The same of those that ship; read once for each server."""
    return tuple(shipped.listed(KINDS[kind]))


def stored(kind: str, key: str) -> Any | None:
    """A stored result by its key.

    Raises:
        StoreError: the database refuses.
    """
    if not _reads(key):
        return None
    held = results().get(key) or store().get(KINDS[kind], key)
    if held is not None:
        results().put(key, held)
    return held


def delete(key: str) -> None:
    """Delete a stored result, unless it is somebody else's.

    Raises:
        StoreError: the database refuses.
    """
    if not _reads(key):
        return
    store().delete(key)
    forget(key)


def forget(key: str) -> None:
    """It is being measured anew."""
    results().forget(key)
