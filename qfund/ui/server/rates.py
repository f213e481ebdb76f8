"""How often an address may ask."""

import ipaddress
import time
from collections import OrderedDict

#: Addresses that are remembered.
_KNOWN = 10_000


class Rate:
    """So many requests at once, and so many a minute from then on. For one thread.

    Args:
        burst: how many at once.
        a_minute: how many come again in a minute.
    """

    def __init__(self, burst: int, a_minute: float) -> None:
        self._burst, self._a_second = burst, a_minute / 60
        self._known: OrderedDict[str, tuple[float, float]] = OrderedDict()  # address → what it had left, and when

    def wait(self, address: str) -> float:
        """Take one: 0, or the seconds after which there is one again."""
        who, now = _network(address), time.monotonic()
        left, then = self._known.pop(who, (float(self._burst), now))
        left = min(self._burst, left + (now - then) * self._a_second)
        wait = 0.0 if left >= 1 else (1 - left) / self._a_second
        self._known[who] = (left - (not wait), now)
        if len(self._known) > _KNOWN:
            self._known.popitem(last=False)
        return wait


def _network(address: str) -> str:
    """Of IPv6 somebody has a whole network of 64 bits."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    return str(found) if found.version == 4 else str(ipaddress.ip_network((found, 64), strict=False))
