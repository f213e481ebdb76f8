"""A quantised file in the place of the original's weights: the original's checkpoint with the file's tensors."""

import re
from collections.abc import Mapping
from dataclasses import replace

from qfund.checkpoints.checkpoint import Checkpoint
from qfund.checkpoints.headers import StoredTensor, shortened
from qfund.checkpoints.wild.packed_tensor import PackedTensor
from qfund.checkpoints.wild.quantized_file import QuantizedFile
from qfund.core.errors import UnsupportedModel

#: Of an output head that the original ties and a file stores apart.
HEAD = "lm_head.weight"
#: Buffers that old checkpoints hold and models make themselves.
_BUFFERS = re.compile(r".*\.(rotary_emb\.inv_freq|(attn|attention)\.(masked_)?bias)")
_BESIDE_TEXT = re.compile(r"vision|visual|audio|multi_modal|mm_projector|image")


def filled(original: Checkpoint, file: QuantizedFile) -> Checkpoint:
    """The original's config with the file's weights, each decoded when it is read. What a file of a language model has
    no tensors for (a vision tower) stays the original's.

    Raises:
        UnsupportedModel: it is no quantised form of this original: tensors that are missing or left over, other shapes.
    """
    bound = file.bound(original)
    _must_fit(file.path.name, original, bound)
    tensors = original.tensors | {
        name: StoredTensor("F32", tensor.shape, 4 * tensor.elements) for name, tensor in bound.items()
    }
    # The id of what is filled in: another original gives another model only where it lends tensors of its own.
    lent = original.tensors.keys() - bound.keys()
    identity = f"{file.id} in {original.id}" if lent else f"{file.id} as {original.architecture}"
    return replace(original, tensors=tensors, id=identity, quantization=None, packed=bound)


def _must_fit(file: str, original: Checkpoint, bound: Mapping[str, PackedTensor]) -> None:
    name, remedy = original.folder.name, "Name the original that the file was made from."
    missing = [
        key
        for key in original.tensors
        if key not in bound and not _BUFFERS.fullmatch(key) and not _BESIDE_TEXT.search(key)
    ]
    if missing:
        raise UnsupportedModel(
            f"{file} lacks {len(missing):,} of the {len(original.tensors):,} tensors of {name}, "
            f"{shortened(missing[0])} first.",
            remedy,
        )
    shapes = {
        key: (tensor.shape, original.tensors[key].shape)
        for key, tensor in bound.items()
        if key in original.tensors and tensor.shape != original.tensors[key].shape
    }
    if shapes:
        first = next(iter(shapes))
        here, there = ("×".join(map(str, shape)) for shape in shapes[first])
        tables = all(re.search(r"embed|head|wte", key) for key in shapes)
        raise UnsupportedModel(
            f"{file} has other shapes than {name}: {shortened(first)} is {here}, not {there} ({len(shapes):,} such "
            f"tensors).{' It has another vocabulary.' if tables else ''}",
            remedy,
        )
    if left := [key for key in bound if key not in original.tensors and key != HEAD]:
        raise UnsupportedModel(
            f"{file} holds {len(left):,} tensors for which {name} has no place, {shortened(left[0])} first.", remedy
        )
