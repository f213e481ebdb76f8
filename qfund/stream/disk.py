"""Quantised weights kept on disk, within a budget in bytes. Two processes may share it, and each may be killed."""

import hashlib
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import safetensors
from safetensors.torch import load_file, save_file
from torch import Tensor

from qfund.core.errors import InvalidSpec, StoreError
from qfund.core.home import home
from qfund.core.machine import RESERVE, free_bytes

#: Raised whenever a quantiser gives other codes for a weight.
FORMAT = 1
DEFAULT_GIB = 4.0
_ABANDONED = 3600.0  # seconds after which an unfinished file belongs to nobody

Codes = dict[str, Tensor]


def budget() -> int:
    """Bytes: ``QFUND_CACHE_GIB``; 0 keeps nothing.

    Raises:
        InvalidSpec: it is no number.
    """
    given = os.environ.get("QFUND_CACHE_GIB", str(DEFAULT_GIB))
    try:
        return int(float(given) * 1024**3)
    except (ValueError, OverflowError):
        raise InvalidSpec(f"QFUND_CACHE_GIB is {given!r}.", "Give a number, for example 4; 0 keeps nothing.") from None


class Disk:
    """A folder of entries, each written at once: what is there by its name is whole.

    Attributes:
        found, missed: how often an entry was there, and was not.
    """

    def __init__(self, folder: Path | None = None, limit: int | None = None) -> None:
        self.limit = budget() if limit is None else limit
        try:
            self.folder = folder or home() / "quantised"
        except StoreError:  # nowhere to keep anything
            self.folder, self.limit = Path(), 0
        self.found = self.missed = 0

    def read(self, key: tuple[str, ...]) -> tuple[Codes, dict[str, str]] | None:
        """Tensors and notes under ``key``; None where there are none that can be read."""
        path = self._path(key)
        try:
            with safetensors.safe_open(path, "pt") as file:
                notes = file.metadata() or {}
            tensors = load_file(path)
            os.utime(path)  # what was used last is dropped last
        except (OSError, safetensors.SafetensorError, RuntimeError):
            # torch's RuntimeError too: another process may drop it between two looks
            self.missed += 1
            return None
        self.found += 1
        return tensors, notes

    def write(self, key: tuple[str, ...], tensors: Codes, notes: Mapping[str, str]) -> None:
        """Keep it if there is room. A disk that refuses is no error: it will be made again."""
        size = sum(tensor.nbytes for tensor in tensors.values())
        if size > self.limit:
            return
        path = self._path(key)
        unfinished = path.with_name(f"{path.stem}.{os.getpid()}.unfinished")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if not self._make_room(size):
                return
            save_file(tensors, unfinished, dict(notes))
            unfinished.replace(path)
        except (OSError, safetensors.SafetensorError):
            with suppress(OSError):
                unfinished.unlink()

    def _path(self, key: tuple[str, ...]) -> Path:
        digest = hashlib.sha256("\0".join((str(FORMAT), *key)).encode()).hexdigest()
        return self.folder / f"{digest[:40]}.safetensors"

    def _make_room(self, needed: int) -> bool:
        """Drop what was used longest ago; False if the disk is needed for results even so."""
        entries = []
        for entry in os.scandir(self.folder):
            with suppress(OSError):  # another process may have dropped it just now
                stat = entry.stat()
                if entry.name.endswith(".safetensors"):
                    entries.append((stat.st_mtime, stat.st_size, entry.path))
                elif time.time() - stat.st_mtime > _ABANDONED:
                    Path(entry.path).unlink()
        used, free = sum(size for _, size, _ in entries), free_bytes(self.folder)
        for _, size, path in sorted(entries):
            if used + needed <= self.limit and free - needed >= RESERVE:
                break
            with suppress(OSError):
                Path(path).unlink()
            used, free = used - size, free + size
        return free - needed >= RESERVE
