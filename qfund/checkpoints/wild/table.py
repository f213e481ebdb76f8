"""The ONE table of formats that quantised models are published in."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from qfund.checkpoints.wild.quantized_file import QuantizedFile
from qfund.core.errors import ModelNotFound, UnsupportedModel
from qfund.core.feature import lazily


@dataclass(frozen=True, slots=True)
class Format:
    """A row.

    Attributes:
        recognized: whether a path (a file or a folder) is of this format; reads no more than a config or a header.
        open: lazy ``"module:function"``: path → ``QuantizedFile``; headers only, no weight is read.
        reference: the library whose decoding ours equals bit for bit.
        inputs: what its kernels round besides weights, in words; None for nothing.
    """

    name: str
    label: str
    recognized: Callable[[Path], bool]
    open: str
    reference: str
    inputs: str | None = None


def _is_gguf(path: Path) -> bool:
    return path.is_file() and path.suffix == ".gguf"


_ROWS = (
    Format(
        "gguf",
        "GGUF",
        _is_gguf,
        "qfund.checkpoints.wild.gguf.opening:open_gguf",
        "gguf",
        "llama.cpp rounds inputs of quantised products to 8 bits, in blocks of 32 or 256",
    ),
)

#: By name, in the order in which a path is held against them.
FORMATS = {row.name: row for row in _ROWS}


def open_file(path: Path) -> QuantizedFile:
    """A quantised file or folder, its headers read and checked.

    Raises:
        ModelNotFound: there is nothing.
        UnsupportedModel: it is of no format of the table.
        CorruptCheckpoint: it is truncated, malformed, or says what cannot be.
    """
    if not path.exists():
        raise ModelNotFound(f"There is no file or folder {path}.", "Check the path.")
    for row in FORMATS.values():
        if row.recognized(path):
            found: QuantizedFile = lazily(row.open)(path)
            return found
    raise UnsupportedModel(
        f"{path} is no quantised file that qfund knows.",
        f"Name a file or folder of one of these formats: {', '.join(row.label for row in FORMATS.values())}.",
    )
