"""A quantised file or folder, opened: its tensors, what it says of the model, and how it fills an original's frame."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qfund.checkpoints.checkpoint import Checkpoint
from qfund.checkpoints.wild.packed_tensor import PackedTensor

#: The tensors under the names and in the shapes that the original's files have. Raises what is wrong, in words.
Bind = Callable[[Checkpoint], Mapping[str, PackedTensor]]


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What a file that brings its own tokenizer says of it; None of a part that it does not say.

    ``tokens`` by id, ``merges`` as the file has them ("a b"), ``template`` the chat template.
    """

    tokens: tuple[str, ...] | None = None
    merges: tuple[str, ...] | None = None
    template: str | None = None
    bos: int | None = None
    eos: int | None = None
    adds_bos: bool | None = None


@dataclass(frozen=True, slots=True)
class BitsPerWeight:
    """Three conventions. ``file``: all bytes of the file over its parameters; ``parameters``: the tensors' bytes over
    them; ``quantized``: bytes over parameters of the tensors that hold codes, scales included (None without any)."""

    file: float
    parameters: float
    quantized: float | None


@dataclass(frozen=True, slots=True)
class QuantizedFile:
    """
    Attributes:
        path: the file, the first of a split one, or the folder.
        format: name of a row of ``table.FORMATS``.
        label: in a few words: ``"GGUF Q4_K_M"``, ``"GPTQ 4 bits"``.
        tensors: by name (see ``PackedTensor.name``), in the file's order.
        bytes: of all that is in the file or the folder's weight files: what is downloaded.
        id: as ``Checkpoint.id``: equal ids, equal models.
        config: the folder's own config.json; None where the format has none (GGUF).
        facts: what the file says of the model in the words of config.json (``hidden_size``, ``rope_theta``, …), held
            against the original's before anything runs.
        vocabulary: None where it brings none.
        inputs: how the format's kernels round the inputs of products as they run ("FP8, one scale a token"); None where
            only weights are quantised.
        folded: why tensors cannot be compared one by one with the original's (AWQ scales folded into norms); else None.
        notes: sentences about the file.
        bind: None where the tensors have the original's names already.
    """

    path: Path
    format: str
    label: str
    tensors: Mapping[str, PackedTensor]
    bytes: int
    id: str
    config: Mapping[str, Any] | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    vocabulary: Vocabulary | None = None
    inputs: str | None = None
    folded: str | None = None
    notes: tuple[str, ...] = ()
    bind: Bind | None = field(default=None, compare=False, repr=False)

    @property
    def parameters(self) -> int:
        return sum(tensor.elements for tensor in self.tensors.values())

    @property
    def bits(self) -> BitsPerWeight:
        coded = [tensor for tensor in self.tensors.values() if tensor.quantized]
        elements = sum(tensor.elements for tensor in coded)
        held = sum(tensor.bytes for tensor in self.tensors.values())
        return BitsPerWeight(
            file=8 * self.bytes / max(1, self.parameters),
            parameters=8 * held / max(1, self.parameters),
            quantized=8 * sum(tensor.bytes for tensor in coded) / elements if elements else None,
        )

    def bound(self, original: Checkpoint) -> Mapping[str, PackedTensor]:
        """The tensors by the names of the original's files.

        Raises:
            UnsupportedModel: it is no quantised form of this original.
        """
        return self.tensors if self.bind is None else self.bind(original)
