"""Whether two stored tensors hold the same values: what decides in transformers whether a tie of the config holds."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from qfund.checkpoints.checkpoint import Checkpoint, Content, places
from qfund.checkpoints.headers import StoredTensor
from qfund.checkpoints.wild.packed_tensor import PackedTensor
from qfund.core.errors import CorruptCheckpoint

_AT_ONCE = 4 * 1024**2
#: On the Hub only samples are read: two tensors that were trained apart differ everywhere.
_SAMPLES, _SAMPLE = 4, 64 * 1024
#: torch's names of dtypes → safetensors'.
_STORED = {"float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16"}


@dataclass(frozen=True, slots=True)
class Answer:
    """``sampled``: not all bytes were read."""

    same: bool
    sampled: bool


def same(checkpoint: Checkpoint, first: str, second: str, dtype: str | None = None, whole: bool = True) -> Answer:
    """Up to the first difference; samples on the Hub, and where not the ``whole`` is asked for.

    Args:
        dtype: torch's name of the one that both are loaded in, where numbers that differ may become the same; None
            compares what is stored.

    Raises:
        CorruptCheckpoint: the files cannot be read any more.
        ModelNotFound: the Hub does not answer.
    """
    one, other = checkpoint.tensors[first], checkpoint.tensors[second]
    if one.shape != other.shape or (one.dtype != other.dtype and not (dtype and one.is_float and other.is_float)):
        return Answer(False, sampled=False)
    wanted = None if dtype is None else _STORED[dtype]
    if checkpoint.packed:
        return Answer(_packed(checkpoint.packed[first], checkpoint.packed[second], wanted), sampled=False)
    sampled = one.bytes > _SAMPLES * _SAMPLE and (checkpoint.content is not None or not whole)
    pair = (first, one), (second, other)
    if checkpoint.content is None and not sampled:
        return Answer(_in_files(checkpoint.id, checkpoint.folder, *pair, wanted), sampled=False)
    content = checkpoint.content or _reader(checkpoint.folder)
    return Answer(_equal(content, *pair, wanted, sampled), sampled)


@lru_cache(maxsize=64)
def _in_files(
    _: str, folder: Path, one: tuple[str, StoredTensor], other: tuple[str, StoredTensor], dtype: str | None
) -> bool:
    """Asked for every precision of a checkpoint: its id stands for what the files hold."""
    return _equal(_reader(folder), one, other, dtype, sampled=False)


def _reader(folder: Path) -> Content:
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


def _equal(
    content: Content, one: tuple[str, StoredTensor], other: tuple[str, StoredTensor], dtype: str | None, sampled: bool
) -> bool:
    (first, left), (second, right) = one, other
    # Numbers in fewer than eight bits are compared as bytes only.
    elements = left.elements if left.bytes >= left.elements else left.bytes
    widths = [tensor.bytes // max(1, elements) for tensor in (left, right)]
    for start, end in _parts(elements, (_SAMPLE if sampled else _AT_ONCE) // max(1, *widths), sampled):
        a, b = (content(name, start * width, end * width) for name, width in zip((first, second), widths, strict=True))
        if (a != b or left.dtype != right.dtype) and not (dtype and _alike(a, left.dtype, b, right.dtype, dtype)):
            return False
    return True


def _alike(one: bytes, stored: str, other: bytes, others: str, dtype: str) -> bool:
    """Whether two arrays of numbers are the same once they are cast."""
    import numpy as np  # here: whoever reads headers alone needs none

    from qfund.checkpoints.wild.packed.arithmetic import DTYPES

    if stored not in DTYPES or others not in DTYPES:
        return False
    with np.errstate(over="ignore", invalid="ignore"):
        left, right = (
            np.frombuffer(data, DTYPES[kind]).astype(DTYPES[dtype]) for data, kind in ((one, stored), (other, others))
        )
    return bool((left == right).all())


def _packed(one: PackedTensor, other: PackedTensor, dtype: str | None) -> bool:
    if one.parts == other.parts:
        return True
    step = max(1, _AT_ONCE * one.rows // max(1, one.elements))
    for start in range(0, one.rows, step):
        left, right = (tensor.decode(start, min(start + step, one.rows)).tobytes() for tensor in (one, other))
        if left != right and not (dtype and _alike(left, "F32", right, "F32", dtype)):
            return False
    return True


def _parts(size: int, length: int, sampled: bool) -> Iterator[tuple[int, int]]:
    """All of it, or the first parts, the last and some between."""
    if sampled:
        steps = ((size - length) * number // (_SAMPLES - 1) for number in range(_SAMPLES))
        yield from ((start, start + length) for start in steps)
    else:
        yield from ((start, min(start + length, size)) for start in range(0, size, length))
