"""A stranger's picture, read in a process of its own: ``python -m qfund.engine.apart NAME`` takes the file on standard
input and writes what came of it.

A small file may hold a picture that takes gigabytes or minutes to decode. What its header tells is refused at once
(``qfund.inputs.picture_files``); whatever else it does, it does to that process.
"""

import contextlib
import resource
import subprocess
import sys
from pathlib import Path

import msgspec

from qfund.core.errors import ERRORS, InvalidInput, QfundError
from qfund.engine import child, messages
from qfund.inputs import picture_files
from qfund.inputs.picture_files import PictureFile

#: Seconds of a processor that decoding may take (the largest that is accepted takes two), and of waiting for them.
MOST_SECONDS = 10
_PATIENCE = 40.0
#: Bytes of memory, beside what the process takes by itself.
MOST_BYTES = 900 * 1024**2

_COMMAND = (sys.executable, "-m", "qfund.engine.apart")
_REMEDY = "Open it in a picture editor, and save it again."


class _Answer(msgspec.Struct):
    png: bytes = b""
    notes: tuple[str, ...] = ()
    error: str = ""
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
    environment = child.environment() | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
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
    if found.error:
        raise ERRORS.get(found.error, InvalidInput)(found.message, found.remedy)
    return PictureFile(name, found.png, found.notes)


def _bounded() -> None:
    """Limits that the system keeps."""
    resource.setrlimit(resource.RLIMIT_CPU, (MOST_SECONDS, MOST_SECONDS + 1))
    with contextlib.suppress(OSError):
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + MOST_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


def main() -> None:
    incoming, outgoing = child.take_streams()
    child.settle(mapped=16 << 20, expendable=800)
    data = incoming.read(picture_files.MAX_BYTES + 1)
    _bounded()
    try:
        found = picture_files.decode(data, sys.argv[1])
        answer = _Answer(found.png, found.notes)
    except QfundError as error:
        failed = messages.failure(error)
        answer = _Answer(error=failed.error, message=failed.message, remedy=failed.remedy)
    # Where memory ran out it says nothing: its parent knows what to say.
    outgoing.write(msgspec.msgpack.encode(answer))
    outgoing.close()


if __name__ == "__main__":
    main()
