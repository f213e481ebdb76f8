"""Where what a measurement has gathered is kept, so that whatever ends it, it goes on from there."""

import hashlib
from pathlib import Path
from typing import Any

import torch

from qfund.checkpoints.catalog import device
from qfund.checkpoints.checkpoint import Checkpoint
from qfund.core.errors import StoreError
from qfund.core.home import home
from qfund.models.inputs import Batch
from qfund.stream.disk import Disk, budget
from qfund.version import VERSION

#: Bytes of all measurements together.
LIMIT = 1024**3


def disk() -> Disk:
    try:
        folder = home() / "rounds"
    except StoreError:
        return Disk(Path(), 0)
    return Disk(folder, min(budget(), LIMIT))


def place(found: Checkpoint) -> tuple[str, ...]:
    """The weights, and where they run: other threads or versions give other last bits."""
    return VERSION, torch.__version__, found.id, device(), str(torch.get_num_threads())


def digest(batch: Batch) -> str:
    """Of what a batch gives a model, and what is compared of it."""
    found = hashlib.sha256()
    parts: list[Any] = [*batch.arguments.values(), batch.targets, batch.scored, batch.chunks]
    for part in parts:
        found.update(b"-" if part is None else part.contiguous().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()[:24]
