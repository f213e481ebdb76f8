"""What this machine does at most: bytes read a second, and operations a second of a matrix product in each dtype."""

import os
import time
from collections.abc import Callable, Iterable

import torch

from qfund.features.speed.request.speed import Bounds
from qfund.models.environment import wait_for

_BYTES = 256 * 1024**2
_SIDES = (256, 512, 1024)  # of matrices; on a GPU eight times
_TRIES = 3
_SECONDS = 0.05  # that one try takes at least


def bounds(dtypes: Iterable[str], device: torch.device) -> Bounds:
    """The best of some tries each: what else runs can only take away."""
    try:
        load = os.getloadavg()[0]
    except OSError:
        load = None
    block = torch.ones(_BYTES // 4, dtype=torch.float32, device=device)
    reading = _best(block.sum, device)
    copy = torch.empty_like(block)
    copying = _best(lambda: copy.copy_(block), device) / 2  # reads as much as it writes
    return Bounds(
        bandwidth=_BYTES / min(reading, copying),
        bandwidth_bytes=_BYTES,
        peaks={dtype: _peak(dtype, device) for dtype in dict.fromkeys(dtypes)},
        load=load,
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
    )


def _peak(dtype: str, device: torch.device) -> float:
    return max(_rate(side if device.type == "cpu" else 8 * side, dtype, device) for side in _SIDES)


def _rate(side: int, dtype: str, device: torch.device) -> float:
    # As a linear layer has it: the weight [out, in] turned.
    one = torch.randn(side, side, device=device).to(getattr(torch, dtype))
    other = torch.randn(side, side, device=device).to(getattr(torch, dtype))
    return 2 * side**3 / _best(lambda: torch.nn.functional.linear(one, other), device)


def _best(call: Callable[[], object], device: torch.device) -> float:
    """Seconds of one call, the shortest mean of some tries."""
    found = float("inf")
    for _ in range(_TRIES):
        count, started = 0, time.perf_counter()
        while True:
            call()
            wait_for(device)
            count += 1
            taken = time.perf_counter() - started
            if taken >= _SECONDS:
                break
        found = min(found, taken / count)
    return found
