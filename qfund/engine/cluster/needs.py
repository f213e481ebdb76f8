"""What a job is given of a machine, which machines have as much at all, and how that is said."""

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from qfund.checkpoints import catalog
from qfund.checkpoints.needs import LEAST
from qfund.core.errors import OutOfBudget, QfundError
from qfund.core.feature import Kind, lazily
from qfund.core.request import Request
from qfund.core.units import bytes_text

#: Memory for each processor that a job is given, and how many it is given at most.
PER_CPU, MOST_CPUS = 4 * 1024**3, 8


@dataclass(frozen=True, slots=True)
class Needs:
    """``memory`` in bytes. ``accelerator``: the kind of GPU, by Ray's name for it; empty for any."""

    memory: int
    cpus: int = 1
    gpus: int = 0
    accelerator: str = ""

    def options(self) -> dict[str, Any]:
        """Of a Ray task."""
        found: dict[str, Any] = {"memory": self.memory, "num_cpus": self.cpus, "num_gpus": self.gpus}
        return found | ({"accelerator_type": self.accelerator} if self.accelerator else {})

    def fits(self, node: Mapping[str, float]) -> bool:
        """Whether a machine has as much, all in all."""
        wanted: dict[str, float] = {"memory": self.memory, "CPU": self.cpus, "GPU": self.gpus}
        if self.accelerator:
            wanted[f"accelerator_type:{self.accelerator}"] = 0.001  # Ray gives each such machine 1
        return all(node.get(name, 0.0) >= amount for name, amount in wanted.items())

    def __str__(self) -> str:
        gpu = f" and {self.gpus} {self.accelerator or 'GPU'}" if self.gpus else ""
        return f"{bytes_text(self.memory)} of memory{gpu}"


def of(kind: Kind, request: Request) -> Needs:
    """What a job is given; the least where headers do not tell: the worker will say what is wrong with them."""
    memory = LEAST
    with suppress(QfundError):
        memory = int(lazily(kind.memory)(request))
    gpus = int(catalog.device().startswith("cuda"))
    accelerator = os.environ.get("QFUND_RAY_ACCELERATOR", "") if gpus else ""
    return Needs(memory, min(max(1, memory // PER_CPU), MOST_CPUS), gpus, accelerator)


def placed(needs: Needs, nodes: Iterable[Mapping[str, float]]) -> Needs:
    """As much of it as a machine has that will do: fewer processors only make it slower.

    Raises:
        OutOfBudget: none has the memory, or the GPU.
    """
    nodes = list(nodes)
    least = replace(needs, cpus=1)
    able = [node for node in nodes if least.fits(node)]
    if able:
        return replace(needs, cpus=min(needs.cpus, int(max(node["CPU"] for node in able))))
    workers = [node for node in nodes if node.get("CPU", 0.0) >= 1]
    largest = max(workers, key=lambda node: node.get("memory", 0.0), default=None)
    if largest is None:
        there = "it has no machine for jobs"
    else:
        gpus = f", {largest['GPU']:g} GPU" if largest.get("GPU") else ", no GPU" if needs.gpus else ""
        there = f"the largest has {bytes_text(int(largest.get('memory', 0)))}, {largest['CPU']:g} CPU{gpus}"
    raise OutOfBudget(
        f"This needs a machine with {needs}, and the cluster has none: {there}.",
        "Choose a smaller model or fewer precisions, or let a larger machine join.",
    )
