"""How long a test waits for what shall happen: long, because what is late on a busy machine is not wrong."""

import time
from collections.abc import Callable
from dataclasses import dataclass

#: Seconds for imports, the first pages and a cold worker beside whatever else the machine does.
PATIENCE = 120.0


def until(condition: Callable[[], object]) -> None:
    """Wait until ``condition()`` is true."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)


@dataclass
class Clock:
    """In the place of the module ``time``: what a clock says, and ``passed`` seconds that a test need not wait for."""

    passed: float = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self.passed

    time = staticmethod(time.time)
