"""From the names of a GGUF file to those of the checkpoint that it was made from, by the gguf package's own tables."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from qfund.checkpoints.checkpoint import Checkpoint, places
from qfund.checkpoints.headers import shortened
from qfund.checkpoints.weights import numbers
from qfund.checkpoints.wild import changes
from qfund.checkpoints.wild.filling import HEAD
from qfund.checkpoints.wild.gguf.architectures import ARCHITECTURES
from qfund.checkpoints.wild.packed_tensor import PackedTensor
from qfund.core.errors import UnsupportedModel

Tensors = Mapping[str, PackedTensor]

_OUTPUT, _EMBEDDINGS = "output.weight", "token_embd.weight"
#: Made by converters from the config: no weights of the model.
_OF_THE_CONFIG = re.compile(
    r"rope_factors_(long|short)\.weight|(blk\.\d+\.)?rope_freqs\.weight|blk\.\d+\.attn_rot_embd"
)
_EXPERT = re.compile(r"(.*\.experts)\.(\d+)\.(gate_proj|up_proj|down_proj|w1|w2|w3)\.weight")
_STACK = re.compile(r"(.*\.experts)\.(gate_up|down)_proj(_bias)?")


def bind(file: str, architecture: str, tensors: Tensors, original: Checkpoint) -> dict[str, PackedTensor]:
    """The file's tensors by the original's names and, where only axes of length 1 differ, in its shapes. What the
    original has no place for stays under its own name.

    Raises:
        UnsupportedModel: an architecture that is not read, or another one than the original's.
    """
    row = ARCHITECTURES.get(architecture)
    if row is None:
        raise UnsupportedModel(
            f"{file} is of the architecture {shortened(architecture) or '(none named)'}, whose tensors qfund cannot "
            "find in a transformers model.",
            f"Read are: {', '.join(ARCHITECTURES)}.",
        )
    config = {**original.config, **original.config.get("text_config", {})}
    types = {original.config.get("model_type"), config.get("model_type")}
    if not types & set(row.models):
        raise UnsupportedModel(
            f"{file} is a {architecture} model, {original.folder.name} is {config.get('model_type')}: another "
            "architecture.",
            f"Name the original that the file was made from ({' or '.join(row.models)}).",
        )
    finder = _Finder(architecture, tensors, config)
    found: dict[str, PackedTensor] = {}
    for name, stored in original.tensors.items():
        if (match := finder.find(name)) is not None:
            tensor = _padded(name, row.undo(*match, config), original, architecture)
            alike = _wide(tensor.shape) == _wide(stored.shape)
            found[name] = changes.named(changes.reshaped(tensor, stored.shape) if alike else tensor, name)
    if HEAD not in original.tensors and _OUTPUT in tensors and _apart(tensors):
        found[HEAD] = changes.named(tensors[_OUTPUT], HEAD)
    return found | {name: tensors[name] for name in finder.left}


#: Architectures whose converter leaves out tokens of pictures at the end of the vocabulary, and the most of it.
_CUT, _MOST_CUT = ("gemma3",), 0.01


def _padded(name: str, tensor: PackedTensor, original: Checkpoint, architecture: str) -> PackedTensor:
    """A table of embeddings with the original's own rows where the converter left them out: no text has such tokens."""
    stored = original.tensors[name]
    missing = stored.shape[0] - tensor.rows if stored.shape[1:] == tensor.shape[1:] and tensor.shape else 0
    if architecture not in _CUT or not re.search(r"embed_tokens|lm_head", name):
        return tensor
    if not 0 < missing <= _MOST_CUT * stored.shape[0]:
        return tensor
    path, start = places(original.folder)[name]
    width = tensor.elements // tensor.rows
    return changes.lengthened(
        tensor,
        stored.shape[0],
        lambda first, last: numbers(path, stored.dtype, start, first * width, last * width).astype(np.float32),
    )


def _wide(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(size for size in shape if size != 1)


def _apart(tensors: Tensors) -> bool:
    """Whether an output head is another tensor than the embeddings: some converters write a tied one twice."""
    output, embeddings = tensors[_OUTPUT], tensors.get(_EMBEDDINGS)
    if embeddings is None or (output.type, output.shape) != (embeddings.type, embeddings.shape):
        return True
    step = max(1, 1024**2 // max(1, output.elements // output.rows))
    return not all(
        np.array_equal(output.decode(start, end), embeddings.decode(start, end), equal_nan=True)
        for start in range(0, output.rows, step)
        for end in [min(start + step, output.rows)]
    )


class _Finder:
    """Finds tensors of the file by the original's names; ``left`` are those that nothing has asked for."""

    def __init__(self, architecture: str, tensors: Tensors, config: Mapping[str, Any]) -> None:
        from gguf.constants import MODEL_ARCH_NAMES
        from gguf.tensor_mapping import TensorNameMap

        # Its class would keep what one architecture adds to the table, for all that come later.
        names = type("Names", (TensorNameMap,), {"block_mappings_cfg": dict(TensorNameMap.block_mappings_cfg)})
        arch = next(key for key, name in MODEL_ARCH_NAMES.items() if name == architecture)
        blocks = 1 + max((int(m[1]) for name in tensors if (m := re.match(r"blk\.(\d{1,5})\.", name))), default=-1)
        self._names = names(arch, blocks)
        self._tensors, self._gpt_oss = tensors, architecture == "gpt-oss"
        self._used: set[str] = set()
        self._tied = config.get("tie_word_embeddings") is not False

    @property
    def left(self) -> list[str]:
        return [
            name
            for name in self._tensors
            if name not in self._used and name != _OUTPUT and not _OF_THE_CONFIG.fullmatch(name)
        ]

    def find(self, name: str) -> tuple[str, PackedTensor] | None:
        """Its name in the file, and the tensor; None where it is not there."""
        if (part := _EXPERT.fullmatch(name)) and (stack := self._named(f"{part[1]}.{part[3]}", ".weight")):
            if int(part[2]) >= self._tensors[stack].rows:
                return None
            return stack, changes.element(self._tensors[stack], int(part[2]))
        if part := _STACK.fullmatch(name):
            return self._stack(name, part[1], part[2], ".bias" if part[3] else ".weight")
        base, dot, suffix = name.rpartition(".")
        known = dot + suffix if suffix in ("weight", "bias") else ""
        source = self._named(base if known else name, known)
        if source is None and name == HEAD and self._tied:  # and stored twice in the original
            source = self._take(_EMBEDDINGS)
        return None if source is None else (source, self._tensors[source])

    def _stack(self, name: str, experts: str, kind: str, suffix: str) -> tuple[str, PackedTensor] | None:
        """All experts of a layer at once: [experts, out, in], or [experts, in, out] of gpt-oss."""
        if kind == "down":
            source = self._named(f"{experts}.down_proj", suffix)
            if source is None:
                return None
            down = self._tensors[source]
            return source, changes.transposed(down) if self._gpt_oss and suffix == ".weight" else down
        if fused := self._named(f"{experts}.gate_up_proj", suffix):
            return fused, self._tensors[fused]
        gate, up = (self._named(f"{experts}.{one}_proj", suffix) for one in ("gate", "up"))
        if gate is None or up is None or self._tensors[gate].shape != self._tensors[up].shape:
            return None
        pair = [self._tensors[gate], self._tensors[up]]
        if self._gpt_oss:  # one column of each in turn
            if suffix == ".weight":
                pair = [changes.transposed(one) for one in pair]
            return gate, changes.joined(pair, name, lambda parts: np.stack(parts, -1).reshape(*parts[0].shape[:-1], -1))
        return gate, changes.joined(pair, name, lambda parts: np.concatenate(parts, 1))

    def _named(self, base: str, suffix: str) -> str | None:
        for key in _spelled(base):
            if (known := self._names.get_name(key)) is not None:
                for full in (known + suffix, known if not suffix else "", known + ".weight" if not suffix else ""):
                    if self._take(full):
                        return full
        return None

    def _take(self, full: str) -> str | None:
        if full not in self._tensors:
            return None
        self._used.add(full)
        return full


def _spelled(base: str) -> Iterator[str]:
    """A name as models of several parts, and bare models, have it in their files."""
    yield base
    parts = base.split(".")
    for skipped in range(1, min(3, len(parts))):
        yield ".".join(parts[skipped:])
    for prefix in ("model", "transformer", "backbone"):
        yield f"{prefix}.{base}"
        yield f"{prefix}.{'.'.join(parts[1:])}"
