"""What a process knows of its own memory at the borders between the phases of a load."""

import bisect
import os
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from qfund.features.memory.measure.loading.messages import Border
from qfund.features.memory.measure.loading.sampler import available, statm
from qfund.models import counting


class Phases:
    """The borders that were passed, each announced."""

    def __init__(self, announce: Callable[[str], None]) -> None:
        self._announce = announce
        self._times: list[tuple[str, float, float]] = []
        self.borders: list[Border] = []

    def enter(self, phase: str, *models: Any) -> None:
        """``models`` are those that are alive."""
        ended = time.monotonic()
        sizes = memory()
        kept = aliasing_files(models) if sizes else 0
        self._announce(phase)
        began = time.monotonic()
        self._times.append((phase, ended, began))
        if sizes:
            self.borders.append(Border(phase, ended, began, *sizes, kept))

    @property
    def seconds(self) -> float:
        """Spent between ``start`` and ``ready``, at no border."""
        within = zip(self._times[1:], self._times[2:], strict=False)
        return sum(after[1] - before[2] for before, after in within if before[0] != "ready")


def memory() -> tuple[int, int] | None:
    """Resident and shared bytes of this process; None where the system does not say."""
    if not available():
        return None
    file = os.open("/proc/self/statm", os.O_RDONLY)
    try:
        return statm(file)
    finally:
        os.close(file)


def swapped() -> int:
    """Bytes of this process that the system has moved to its swap, where no other counter sees them."""
    path = Path("/proc/self/status")
    lines = path.read_text("utf-8", "replace").splitlines() if path.is_file() else []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmSwap:")), 0)


def aliasing_files(models: Iterable[Any]) -> int:
    """Bytes of the models' tensors whose memory is a mapped file's, each counted once."""
    ranges = file_ranges(Path("/proc/self/maps").read_text("utf-8", "replace"))
    found: dict[int, int] = {}
    for model in models:
        for _, _, _, tensor, _ in counting.tensors(model):
            if tensor.device.type != "cpu" or not tensor.numel():
                continue
            place = tensor.data_ptr()
            if within(place, ranges):
                found[place] = max(found.get(place, 0), tensor.numel() * tensor.element_size())
    return sum(found.values())


def file_ranges(maps: str) -> list[tuple[int, int]]:
    """First and past-the-last address of every range of ``/proc/<pid>/maps`` that has a file (an inode) behind it."""
    rows = (line.split(maxsplit=5) for line in maps.splitlines())
    spans = (row[0].split("-") for row in rows if len(row) > 5 and row[4] != "0")
    return sorted((int(start, 16), int(end, 16)) for start, end in spans)


def within(place: int, ranges: Sequence[tuple[int, int]]) -> bool:
    """Whether an address lies in one of these ranges, which are sorted."""
    index = bisect.bisect_right(ranges, place, key=lambda span: span[0]) - 1
    return index >= 0 and place < ranges[index][1]
