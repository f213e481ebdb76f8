"""Git LFS pointers: what ``git clone`` leaves in place of large files where Git LFS is not installed."""

from collections.abc import Iterable
from pathlib import Path

from qfund.core.errors import CorruptCheckpoint

_START = b"version https://git-lfs.github.com/spec/"
_LARGEST = 1024  # bytes, by their specification


def must_be_no_pointer(paths: Iterable[Path]) -> None:
    """
    Raises:
        CorruptCheckpoint: one of the files that are there is a pointer, or several: by name.
        OSError: one cannot be read.
    """
    found = [path for path in paths if path.is_file() and _is_pointer(path)]
    if found:
        names = ", ".join(path.name for path in found[:3]) + " …" * (len(found) > 3)
        what = "is a Git LFS pointer" if len(found) == 1 else "are Git LFS pointers"
        raise CorruptCheckpoint(
            f"{names} in {found[0].parent} {what}: the address of the content, which is elsewhere.",
            "Run `git lfs pull` in that folder, or download it again with `hf download`.",
        )


def _is_pointer(path: Path) -> bool:
    if path.stat().st_size > _LARGEST:
        return False
    with path.open("rb") as file:
        return file.read(len(_START)) == _START
