"""A folder of packed weights, opened: its headers, its config, and arrays of its tensors, read as they are needed."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qfund.checkpoints.headers import StoredTensor, shortened
from qfund.checkpoints.wild.changes import transposed
from qfund.checkpoints.wild.packed.arithmetic import DTYPES, NAMED, number
from qfund.checkpoints.wild.packed_tensor import Decode, PackedTensor
from qfund.core.errors import CorruptCheckpoint, ModelNotFound, UnsupportedModel

AGAIN = "Download the checkpoint again; config.json and weights must belong together."
#: The modules whose matrices transformers keeps as [in, out] (``Conv1D``), and who has them.
_CONV1D = {
    "gpt2": ("c_attn", "c_proj", "c_fc", "q_attn"),
    "openai-gpt": ("c_attn", "c_proj", "c_fc"),
    "imagegpt": ("c_attn", "c_proj", "c_fc", "q_attn"),
    "decision_transformer": ("c_attn", "c_proj", "c_fc", "q_attn"),
}


@dataclass(frozen=True, slots=True)
class Source:
    """
    Attributes:
        tensors: by the names in the files.
        places: tensor → its file, and where in it its first byte lies.
        settings: of the quantisation, as the config has them.
        metadata: what the headers say besides tensors (torchao describes its tensors there).
    """

    folder: Path
    config: Mapping[str, Any]
    settings: Mapping[str, Any]
    tensors: Mapping[str, StoredTensor]
    places: Mapping[str, tuple[Path, int]] = field(repr=False)
    metadata: Mapping[str, str] = field(default_factory=dict, repr=False)

    def header(self, name: str, dtypes: tuple[str, ...], shape: tuple[int | None, ...] | None = None) -> StoredTensor:
        """Of a tensor that must be there, in one of these dtypes and in this shape (None: of any length).

        Raises:
            CorruptCheckpoint: it is not.
        """
        found = self.tensors.get(name)
        if found is None:
            raise CorruptCheckpoint(f"{self.folder.name} lacks {shortened(name)}.", AGAIN)
        if found.dtype not in dtypes:
            raise CorruptCheckpoint(
                f"{self.folder.name} holds {shortened(name)} in {found.dtype} instead of {' or '.join(dtypes)}.", AGAIN
            )
        if shape is not None and (
            len(shape) != len(found.shape)
            or any(there is not None and there != here for there, here in zip(shape, found.shape, strict=True))
        ):
            raise self.corrupt(name, f"has shape {_shape(found.shape)} instead of {_shape(shape)}")
        return found

    def corrupt(self, name: str, what: str) -> CorruptCheckpoint:
        return CorruptCheckpoint(f"{shortened(name)} of {self.folder.name} {what}.", AGAIN)

    def array(self, name: str) -> NDArray[np.generic]:
        """The tensor's values in their dtype, mapped from the file.

        Raises:
            ModelNotFound: the file is gone, or has become shorter.
        """
        stored = self.tensors[name]
        path, start = self.places[name]
        dtype = DTYPES[stored.dtype]
        if not stored.elements:
            return np.empty(stored.shape, dtype)
        try:
            found: NDArray[np.generic] = np.memmap(path, dtype, "r", start, stored.shape or (1,))
        except (OSError, ValueError) as error:
            raise ModelNotFound(
                f"{path} can no longer be read: {error}.", "Check that the disk is there and that the file is whole."
            ) from error
        return found.view(np.ndarray).reshape(stored.shape)

    @property
    def dtype(self) -> str:
        """Of the model, as its config says; BF16 where it says nothing."""
        said = self.config.get("dtype") or self.config.get("torch_dtype")
        parts = (part for part in self.config.values() if isinstance(part, dict))
        said = said or next((part["dtype"] for part in parts if isinstance(part.get("dtype"), str)), None)
        return NAMED.get(str(said).removeprefix("torch."), "BF16")

    def plain(self, name: str) -> PackedTensor:
        """A tensor of floats (or of whole numbers that a model counts with) as it is."""
        stored = self.tensors[name]
        if stored.is_coded:
            raise UnsupportedModel(
                f"{self.folder.name} holds {shortened(name)} in {stored.dtype}, which its format does not explain.",
                "Name the original checkpoint, or one that is quantised otherwise.",
            )
        return PackedTensor(
            name,
            stored.shape,
            stored.dtype,
            stored.bytes,
            lambda first, last: number(np.atleast_1d(self.array(name))[first:last]),
            quantized=False,
            parts=(name,),
        )

    def packed(
        self, name: str, shape: tuple[int, ...], type_: str, decode: Decode, parts: tuple[str, ...]
    ) -> PackedTensor:
        """A quantised weight ``name`` [out, in] made of these tensors; turned where transformers keeps it as [in, out].

        Raises:
            CorruptCheckpoint: a dimension is zero.
        """
        if not all(shape):
            raise self.corrupt(name, f"has shape {_shape(shape)}")
        size = sum(self.tensors[part].bytes for part in parts)

        def some(first: int, last: int) -> NDArray[np.float32]:
            return decode(first, last) if first < last else np.empty((0, *shape[1:]), np.float32)

        whole = PackedTensor(name, shape, type_, size, some, parts=parts)
        return transposed(whole) if len(shape) == 2 and self._is_conv1d(name) else whole

    def _is_conv1d(self, name: str) -> bool:
        module = name.split(".")[-2:-1]
        return bool(module) and module[0] in _CONV1D.get(str(self.config.get("model_type")), ())


def _shape(shape: tuple[int | None, ...]) -> str:
    return "×".join("?" if size is None else str(size) for size in shape) or "a scalar"


def groups_text(group: int, columns: int, said: object = None) -> str:
    """``" g128"`` where the config says so or a row has several groups; else what one scale a row is called."""
    if isinstance(said, int) and said > 0:
        return f" g{said}"
    return " per channel" if group >= columns else f" g{group}"
