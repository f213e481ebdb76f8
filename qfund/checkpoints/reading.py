"""Bytes of a file that was looked at before, and may have changed since."""

import os
from pathlib import Path
from typing import BinaryIO

from qfund.core.errors import ModelNotFound


def opened(path: Path) -> BinaryIO:
    """
    Raises:
        ModelNotFound: it is gone, or cannot be read any more.
    """
    try:
        return path.open("rb", buffering=0)
    except OSError as error:
        raise _gone(path, error) from error


def fill(memory: memoryview, file: int, path: Path, start: int) -> None:
    """Read all of ``memory`` from byte ``start`` of an open file (its descriptor; ``path`` is its name) on.

    Raises:
        ModelNotFound: it cannot be read any more, or has become shorter.
    """
    done = 0
    try:
        while done < len(memory):
            got = os.preadv(file, [memory[done:]], start + done)
            if not got:
                raise OSError(0, "the file has become shorter", str(path))
            done += got
    except OSError as error:
        raise _gone(path, error) from error


def _gone(path: Path, error: OSError) -> ModelNotFound:
    return ModelNotFound(
        f"{path} can no longer be read: {error.strerror or error}.",
        "Check that the disk is there and that the file is whole.",
    )
