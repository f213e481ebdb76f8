"""Weights of a checkpoint read straight from its files, in NumPy: a part of a matrix, without loading a model."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from qfund.checkpoints import catalog, checkpoint
from qfund.checkpoints.headers import StoredTensor
from qfund.core.errors import InvalidInput, ModelNotFound, UnsupportedModel
from qfund.core.names import unknown

#: safetensors' dtypes that are numbers → NumPy's.
_DTYPES: dict[str, Any] = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "F8_E4M3": ml_dtypes.float8_e4m3fn,
    "F8_E5M2": ml_dtypes.float8_e5m2,
}
#: Rows and columns of a tile.
TILE = 256
#: The most weights that are read at once: 4096 × 4096.
MOST = 4096**2


@dataclass(frozen=True, slots=True)
class Part:
    """Which weights: of ``tensor`` the tile of at most 256 × 256 that begins at ``row`` and ``column``, or all of it.

    ``tensor`` is empty for the model's first matrix.
    """

    model: str = catalog.EXAMPLE
    revision: str | None = None
    tensor: str = ""
    whole: bool = False
    row: int = 0
    column: int = 0


@dataclass(frozen=True, slots=True)
class Weights:
    """Attributes:
    values: [rows, columns] float32; a bfloat16, float16 or float8 is one exactly.
    dtype: as stored, in safetensors' name.
    row, column: of the first one within the matrix, which has ``shape`` [out, in].
    """

    values: NDArray[np.float32]
    dtype: str
    tensor: str
    shape: tuple[int, int]
    row: int
    column: int

    @property
    def stored_bytes(self) -> int:
        """What these weights take in the file."""
        return int(self.values.size * np.dtype(_DTYPES[self.dtype]).itemsize)


def folder_of(model: str, revision: str | None = None) -> Path:
    """Where the model's files are on this machine; nothing is downloaded.

    Raises:
        QfundError: as ``catalog.locate``; or a Hub model that nobody has downloaded yet.
    """
    source = catalog.locate(model, revision)
    if source.folder is not None:
        return source.folder
    from qfund.checkpoints import hub  # its client takes a second to import

    if (folder := hub.downloaded(source.name, source.revision)) is None:
        raise ModelNotFound(
            f"The weights of {model} are not on this machine yet.",
            "Compare it once on the page Compare, which downloads it; then they are read from there.",
        )
    return folder


def matrices(tensors: Mapping[str, StoredTensor]) -> dict[str, tuple[int, int]]:
    """Names and shapes [out, in] of all that can be read as a matrix: two dimensions or more (an output channel's
    weights are one row), of numbers, with at least two rows and columns; layer 2 stands before layer 10."""
    found = {}
    for name, tensor in sorted(tensors.items(), key=lambda item: _natural(item[0])):
        if len(tensor.shape) >= 2 and tensor.dtype in _DTYPES:
            rows = tensor.shape[0]
            columns = tensor.elements // rows if rows else 0
            if rows > 1 and columns > 1:
                found[name] = (rows, columns)
    return found


def _natural(name: str) -> list[tuple[int, str]]:
    """Sorts numbers within names by their size."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]


def first(shapes: Mapping[str, tuple[int, int]]) -> str:
    """The matrix to begin with: the first of a layer, which embeddings and heads are not."""
    plain = (name for name in shapes if not any(word in name for word in ("embed", "head", "wte", "wpe", "shared")))
    return next(plain, next(iter(shapes), ""))


def read(part: Part) -> Weights:
    """The weights that ``part`` names.

    Raises:
        QfundError: as ``folder_of`` and ``checkpoint.read_headers``.
        UnsupportedModel: it holds no matrix of numbers.
        UnknownName: no such matrix.
        InvalidInput: the part is outside of the matrix, or too large.
    """
    folder = folder_of(part.model, part.revision)
    tensors = checkpoint.read_headers(folder).tensors
    shapes = matrices(tensors)
    if not shapes:
        raise UnsupportedModel(
            f"{part.model} holds no matrix of floating point numbers.",
            "Choose another model; of one that is quantised already, the original.",
        )
    name = part.tensor or first(shapes)
    if name not in shapes:
        raise unknown(shapes, name, "matrix")
    rows, columns = shapes[name]
    if part.whole:
        if rows * columns > MOST:
            raise InvalidInput(
                f"{name} has {rows:,} × {columns:,} weights; at most {MOST:,} are read at once.",
                f"Choose a tile of {TILE} × {TILE} instead.",
            )
        row, column, height, width = 0, 0, rows, columns
    else:
        row, column = part.row, part.column
        if not (0 <= row < rows and 0 <= column < columns):
            raise InvalidInput(
                f"The tile begins at row {row:,}, column {column:,}; {name} has {rows:,} × {columns:,} weights.",
                f"Begin within rows 0 to {rows - 1:,} and columns 0 to {columns - 1:,}.",
            )
        height, width = min(TILE, rows - row), min(TILE, columns - column)
    path, start = checkpoint.place_of(folder, name)
    stored = np.memmap(path, _DTYPES[tensors[name].dtype], mode="r", offset=start, shape=(rows, columns))
    with np.errstate(over="ignore"):  # of a double that float32 does not hold: infinite, and said to be
        values = np.array(stored[row : row + height, column : column + width]).astype(np.float32)
    return Weights(values, tensors[name].dtype, name, (rows, columns), row, column)


def numbers(path: Path, dtype: str, start: int, first: int, end: int) -> NDArray[Any]:
    """Elements ``first`` … ``end`` − 1 of a tensor that begins at byte ``start`` of a file, as NumPy holds the dtype.

    Raises:
        UnsupportedModel: of a dtype that is no number.
        OSError: the file cannot be read.
    """
    if dtype not in _DTYPES:
        raise UnsupportedModel(f"A tensor is stored in {dtype}, which are no numbers.", "Name the original checkpoint.")
    kind = np.dtype(_DTYPES[dtype])
    with path.open("rb") as file:
        file.seek(start + first * kind.itemsize)
        return np.frombuffer(file.read((end - first) * kind.itemsize), kind)


def shapes_of(model: str, revision: str | None = None) -> dict[str, tuple[int, int]]:
    """``matrices`` of a model on this machine.

    Raises:
        QfundError: as ``folder_of`` and ``checkpoint.read_headers``.
    """
    return matrices(checkpoint.read_headers(folder_of(model, revision)).tensors)
