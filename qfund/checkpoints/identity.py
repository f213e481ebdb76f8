"""What tells a folder's model from all others."""

import hashlib
import time
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from qfund.checkpoints import sentences

#: Files above this size are identified by header, size and time of change instead of their whole content.
_HASHED_WHOLE = 256 * 1024**2
_TICK = 2_000_000_000  # ns; some file systems stamp to two seconds

_NOT_CONTENT = ("README.md", "training.json", ".gitattributes")


def content_id(folder: Path) -> str:
    """What identifies a folder's model: equal ids, equal models.

    ``sha256:…`` of every file that decides what the model computes; ``stat:…`` where one is too large to hash whole
    (then its start, size and time of change stand for it).
    """
    paths = sorted(path for path in folder.iterdir() if path.is_file() and path.name not in _NOT_CONTENT)
    return files_id([*paths, *sentences.settings_files(folder)])


def files_id(paths: Iterable[Path]) -> str:
    """The same of files that are the model."""
    stats = [(path, path.stat()) for path in paths]
    files = tuple((str(path), stat.st_size, stat.st_mtime_ns) for path, stat in stats)
    # A file may be written twice within one tick of the clock that stamps it: a fresh stamp proves nothing yet.
    settled = all(time.time_ns() - changed > _TICK for _, _, changed in files)
    return (_remembered_id if settled else _content_id)(files)


def _content_id(files: tuple[tuple[str, int, int], ...]) -> str:
    digest, whole = hashlib.sha256(), True
    for name, size, changed in files:
        path = Path(name)
        digest.update(f"{path.name}\0{size}\0".encode())
        with path.open("rb") as file:
            if size <= _HASHED_WHOLE:
                digest.update(hashlib.file_digest(file, "sha256").digest())
            else:
                whole = False
                digest.update(file.read(1024**2) + str(changed).encode())
    return f"{'sha256' if whole else 'stat'}:{digest.hexdigest()}"


_remembered_id = lru_cache(maxsize=64)(_content_id)
