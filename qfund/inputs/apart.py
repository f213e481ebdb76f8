"""A stranger's picture, read in a process of its own: ``python -m qfund.inputs.apart NAME`` takes the file on standard
input and writes what came of it.

A small file may hold a picture that takes gigabytes or minutes to decode. What its header tells is refused at once
(``qfund.inputs.picture_files``); whatever else it does, it does to that process.
"""

import contextlib
import os
import resource
import subprocess
import sys
from pathlib import Path

import msgspec

from qfund.core.errors import InvalidInput
from qfund.inputs import picture_files
from qfund.inputs.picture_files import PictureFile

#: Seconds of a processor that decoding may take (the largest that is accepted takes two), and of waiting for them.
MOST_SECONDS = 10
_PATIENCE = 40.0
#: Bytes of memory, beside what the process takes by itself.
MOST_BYTES = 900 * 1024**2

_ROOT = str(Path(__file__).resolve().parents[2])
_COMMAND = (sys.executable, "-m", "qfund.inputs.apart")
_REMEDY = "Open it in a picture editor, and save it again."


class _Answer(msgspec.Struct):
    png: bytes = b""
    notes: tuple[str, ...] = ()
    message: str = ""
    remedy: str = ""


def decode(data: bytes, name: str) -> PictureFile:
    """As ``picture_files.decode``, within bounds of time and memory.

    Raises:
        InvalidInput: as there; or it takes more than ``MOST_SECONDS`` or ``MOST_BYTES``.
    """
    name = picture_files.clean_name(name)
    if picture_files.is_ready(data):  # no larger than what is kept
        return picture_files.decode(data, name)
    picture_files.must_be_modest(data, name)
    path = os.pathsep.join(filter(None, (_ROOT, os.environ.get("PYTHONPATH"))))  # of a checkout that is not installed
    environment = os.environ | {"PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1"}
    try:
        done = subprocess.run(
            [*_COMMAND, name],
            input=data,
            capture_output=True,
            timeout=_PATIENCE,
            env=environment,
            start_new_session=True,
        )
        found = msgspec.msgpack.decode(done.stdout, type=_Answer)
    except OSError as error:
        raise InvalidInput(f"{name} cannot be read now: {error.strerror}.", "Try again in a moment.") from error
    except (subprocess.TimeoutExpired, msgspec.DecodeError) as error:  # ended by a limit it says nothing
        raise InvalidInput(f"{name} takes more time or memory to read than any photo does.", _REMEDY) from error
    if found.message:
        raise InvalidInput(found.message, found.remedy)
    return PictureFile(name, found.png, found.notes)


def _bounded() -> None:
    """Limits that the system keeps."""
    resource.setrlimit(resource.RLIMIT_CPU, (MOST_SECONDS, MOST_SECONDS + 1))
    with contextlib.suppress(OSError):
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + MOST_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


def main() -> None:
    data = sys.stdin.buffer.read(picture_files.MAX_BYTES + 1)
    _bounded()
    try:
        found = picture_files.decode(data, sys.argv[1])
        answer = _Answer(found.png, found.notes)
    except InvalidInput as error:
        answer = _Answer(message=error.message, remedy=error.remedy)
    # Where memory ran out it says nothing: its parent knows what to say.
    sys.stdout.buffer.write(msgspec.msgpack.encode(answer))


if __name__ == "__main__":
    main()
