"""Whether two stored tensors hold the same values: what decides in transformers whether a tie of the config holds."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from qfund.checkpoints.checkpoint import Checkpoint, Content, places
from qfund.core.errors import CorruptCheckpoint

_AT_ONCE = 4 * 1024**2
#: On the Hub only samples are read: two tensors that were trained apart differ everywhere.
_SAMPLES, _SAMPLE = 4, 64 * 1024


@dataclass(frozen=True, slots=True)
class Answer:
    """``sampled``: not all bytes were read."""

    same: bool
    sampled: bool


def same(checkpoint: Checkpoint, first: str, second: str, whole: bool = True) -> Answer:
    """Byte for byte, up to the first difference; samples on the Hub, and where not the ``whole`` is asked for.

    Raises:
        CorruptCheckpoint: the files cannot be read any more.
        ModelNotFound: the Hub does not answer.
    """
    one, other = checkpoint.tensors[first], checkpoint.tensors[second]
    if (one.dtype, one.shape) != (other.dtype, other.shape):
        return Answer(False, sampled=False)
    content = checkpoint.content or _in_files(checkpoint.folder)
    sampled = one.bytes > _SAMPLES * _SAMPLE and (checkpoint.content is not None or not whole)
    parts = _parts(one.bytes, _SAMPLE if sampled else _AT_ONCE, sampled)
    return Answer(all(content(first, *part) == content(second, *part) for part in parts), sampled)


def _in_files(folder: Path) -> Content:
    where = places(folder)

    def read(tensor: str, first: int, end: int) -> bytes:
        try:
            path, start = where[tensor]
            with path.open("rb") as file:
                file.seek(start + first)
                return file.read(end - first)
        except (OSError, LookupError) as error:
            raise CorruptCheckpoint(f"{folder.name} cannot be read any more: {error}.", "Open it again.") from error

    return read


def _parts(size: int, length: int, sampled: bool) -> Iterator[tuple[int, int]]:
    """All of it, or the first parts, the last and some between."""
    if sampled:
        steps = ((size - length) * number // (_SAMPLES - 1) for number in range(_SAMPLES))
        yield from ((start, start + length) for start in steps)
    else:
        yield from ((start, min(start + length, size)) for start in range(0, size, length))
