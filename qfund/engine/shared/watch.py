"""What a server does by itself for a database that it shares: results that the database did not take are given to it
again until it does, and jobs that another server has left behind are begun again."""

import logging
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from qfund.core.errors import StoreError
from qfund.core.feature import Kind

if TYPE_CHECKING:
    from qfund.engine.store import Store

#: Seconds between two tries and two looks around, and between two looks for what others have left.
AGAIN, LOOK = 2.0, 15.0
#: Seconds that a server which is shut down goes on trying.
LAST = 5.0
#: Results that are held meanwhile; then the oldest is given up, and its job begun again by whoever asks.
HELD = 50

_log = logging.getLogger(__name__)


class Watch:
    """Thread-safe. A daemon thread, from the first call of ``look_after`` or ``hold`` on.

    Args:
        resume: begins again what servers that are gone have left.
        look_around: sees what others wait for or have taken.
    """

    def __init__(self, store: "Store", resume: Callable[[], object], look_around: Callable[[], object]) -> None:
        self._store = store
        self._resume = resume
        self._look_around = look_around
        self._changed = threading.Condition()
        self._closed = False
        self._held: dict[str, tuple[Kind, Any, Callable[[], object]]] = {}
        self._thread: threading.Thread | None = None

    def look_after(self) -> None:
        with self._changed:
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(target=self._run, name="qfund-watch", daemon=True)
                self._thread.start()

    def hold(self, kind: Kind, key: str, result: Any, kept: Callable[[], object]) -> None:
        """Keep ``result`` as soon as the database takes it, and call ``kept``."""
        with self._changed:
            self._held[key] = kind, result, kept
            if len(self._held) > HELD:
                oldest = next(iter(self._held))
                _log.error("The result of %s is given up: the database has been away for too long.", oldest)
                del self._held[oldest]
            self._changed.notify_all()
        self.look_after()

    def close(self) -> None:
        """After some more tries. What the database does not take then is left to another server, as work to be done."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        resumed = time.monotonic()
        while not self._closed:
            with self._changed:
                if not self._closed:
                    self._changed.wait(min(AGAIN, LOOK))
            if not self._keep_all() or self._closed:
                continue
            if time.monotonic() - resumed >= LOOK:
                self._resume()
                resumed = time.monotonic()
            self._look_around()
        end = time.monotonic() + LAST
        while not self._keep_all() and time.monotonic() < end:
            time.sleep(AGAIN / 4)

    def _keep_all(self) -> bool:
        with self._changed:
            held = list(self._held.items())
        return all(self._keep(key, *each) for key, each in held)

    def _keep(self, key: str, kind: Kind, result: Any, kept: Callable[[], object]) -> bool:
        try:
            self._store.put(kind, key, result)
        except StoreError as error:
            _log.warning("A result still waits for the database. %s", error)
            return False
        with self._changed:
            self._held.pop(key, None)
        kept()
        return True
