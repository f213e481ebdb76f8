"""Jobs on a cluster: Ray runs them on whichever of its machines has room. A process beside the web server hands each
over (``driver``), and on the other machine a worker as everywhere does it (``task``). Nothing else knows of Ray, and
importing this imports none of it."""

import os
import sys
from dataclasses import dataclass
from importlib.util import find_spec

from qfund.core.errors import UsageError
from qfund.engine import settings

#: Jobs of one web server that are on the cluster at once; each has a process of about 130 MB here.
AT_ONCE = 8
COMMAND = (sys.executable, "-m", "qfund.engine.cluster.driver")


@dataclass(frozen=True, slots=True)
class Cluster:
    """``command``: starts what hands jobs to it; ``at_once``: how many of one web server it is given."""

    command: tuple[str, ...] = COMMAND
    at_once: int = AT_ONCE


def chosen() -> Cluster | None:
    """``QFUND_ENGINE=ray``, ``QFUND_RAY_ADDRESS`` and ``QFUND_RAY_JOBS``; None where jobs run here.

    Raises:
        UsageError: another engine, none that is installed, no address, or no number above 0.
    """
    engine = os.environ.get("QFUND_ENGINE") or "local"
    if engine == "local":
        return None
    if engine != "ray":
        raise UsageError(f"QFUND_ENGINE is {engine!r}.", "Set it to ray, or leave it out.")
    if find_spec("ray") is None:
        raise UsageError("QFUND_ENGINE is ray, and Ray is not installed.", "pip install 'qfund[ray]'")
    if not address():
        raise UsageError(
            "QFUND_ENGINE is ray, and no cluster is named.",
            "Set QFUND_RAY_ADDRESS to its address, as head:6379; or to auto, where this machine is part of it.",
        )
    if address().startswith("ray://"):
        raise UsageError(
            f"QFUND_RAY_ADDRESS is {address()}, for Ray's client, which jobs cannot be handed over by.",
            "Let this machine join the cluster (ray start --num-cpus=0 --address=head:6379), and name head:6379.",
        )
    return Cluster(at_once=settings.number("QFUND_RAY_JOBS", AT_ONCE))


def address() -> str:
    """Of the cluster; empty where none is named."""
    return os.environ.get("QFUND_RAY_ADDRESS") or os.environ.get("RAY_ADDRESS") or ""
