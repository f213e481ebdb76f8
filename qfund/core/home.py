"""The folder of what qfund keeps for itself."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from qfund.core.errors import StoreError
from qfund.core.machine import RESERVE, free_bytes

#: Folders in it whose entries are made again when they are missed (``qfund.stream.disk``).
CACHES = ("quantised", "rounds")


def home() -> Path:
    """Where qfund keeps its files: ``$QFUND_HOME``, ``$XDG_DATA_HOME/qfund`` or ``~/.local/share/qfund``.

    Raises:
        StoreError: if none of them says where.
    """
    try:
        if given := os.environ.get("QFUND_HOME"):
            return Path(given).expanduser().absolute()
        data = os.environ.get("XDG_DATA_HOME", "")
        return (Path(data) if Path(data).is_absolute() else Path("~/.local/share").expanduser()) / "qfund"
    except RuntimeError as error:
        raise StoreError(f"This user has no home folder: {error}", "Set QFUND_HOME to a folder.") from error


def cached() -> int:
    """Bytes of all entries of caches."""
    return sum(size for _, size, _ in _entries())


def drop_cached(needed: int | None = None) -> int:
    """Delete entries of caches, what was used longest ago first; the bytes that this has freed.

    Args:
        needed: how many are enough; None for all.
    """
    freed = 0
    for _, size, path in sorted(_entries()):
        if needed is not None and freed >= needed:
            break
        with suppress(OSError):
            path.unlink()
            freed += size
    return freed


def make_room(folder: Path, needed: int) -> None:
    """Before so many bytes are written there that nothing else holds: they go before entries of caches."""
    with suppress(OSError):
        if (missing := needed + RESERVE - free_bytes(folder)) > 0:
            drop_cached(missing)


def _entries() -> Iterator[tuple[float, int, Path]]:
    with suppress(StoreError, OSError):
        for name in CACHES:
            folder = home() / name
            for entry in os.scandir(folder) if folder.is_dir() else ():
                with suppress(OSError):
                    stat = entry.stat()
                    yield stat.st_mtime, stat.st_size, Path(entry.path)
