"""A folder of packed weights as a ``QuantizedFile``: which format it is of, and every tensor of it accounted for."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qfund.checkpoints import checkpoint
from qfund.checkpoints.headers import StoredTensor, read_header, read_metadata, shortened
from qfund.checkpoints.identity import content_id
from qfund.checkpoints.pointers import must_be_no_pointer
from qfund.checkpoints.wild.against import facts_of, vocabulary_of
from qfund.checkpoints.wild.packed import (
    awq,
    bitsandbytes,
    compressed_tensors,
    fp8,
    gptq,
    hqq,
    mlx,
    modelopt,
    mxfp4,
    torchao,
    torchao_int4,
)
from qfund.checkpoints.wild.packed.binding import bind
from qfund.checkpoints.wild.packed.method import settings_of
from qfund.checkpoints.wild.packed.refused import refusal
from qfund.checkpoints.wild.packed.source import Source
from qfund.checkpoints.wild.packed_tensor import PackedTensor
from qfund.checkpoints.wild.quantized_file import QuantizedFile
from qfund.core.errors import CorruptCheckpoint, ModelNotFound, UnsupportedModel

_FOLDED = (
    "AWQ multiplies inputs by scales and folds those into the layer before: neither of the two holds the original's "
    "numbers, their product does. Compare outputs, not tensors."
)


@dataclass(frozen=True, slots=True)
class _Decoder:
    """The quantised tensors of a folder, and how its kernels round inputs."""

    tensors: Callable[[Source], Iterable[PackedTensor]]
    inputs: Callable[[Source], str | None] = lambda source: None
    folded: str | None = None


_DECODERS = {
    "gptq": _Decoder(gptq.tensors),
    "awq": _Decoder(awq.tensors, folded=_FOLDED),
    "compressed-tensors": _Decoder(compressed_tensors.tensors, compressed_tensors.inputs),
    "fp8": _Decoder(fp8.tensors, fp8.inputs),
    "fbgemm_fp8": _Decoder(lambda source: fp8.tensors(source, "weight_scale"), lambda source: "fp8, one scale a token"),
    "mxfp4": _Decoder(mxfp4.tensors),
    "bitsandbytes": _Decoder(bitsandbytes.tensors, bitsandbytes.inputs),
    "torchao": _Decoder(torchao.tensors, torchao.inputs),
    "modelopt": _Decoder(modelopt.tensors, modelopt.inputs),
    "hqq": _Decoder(hqq.tensors),
    "mlx": _Decoder(mlx.tensors),
}

#: Scales of the key-value cache, and of attention, which are no weights.
_OF_THE_CACHE = re.compile(
    r"\.(k_scale|v_scale|q_scale|prob_scale|kv_scale|k_zero_point|v_zero_point|q_proj\.output_scale"
    r"|[kv]_proj\.(output_scale|output_zero_point|k_scale|v_scale))$"
)


def open_folder(folder: Path) -> QuantizedFile:
    """Headers and config of a folder, all its tensors explained; no weight is read.

    Raises:
        ModelNotFound: no such folder, or its files cannot be read.
        CorruptCheckpoint: a file is truncated or malformed, or companions of a weight are missing or of other shapes.
        UnsafeCheckpoint: its weights are pickled.
        UnsupportedModel: a format that is not read, by its name.
    """
    config = checkpoint.read_config(folder)
    said = settings_of(folder, config)
    if said is None:
        raise UnsupportedModel(f"{folder} is not quantised, says its config.json.", "Name a quantised file or folder.")
    method, label, settings = said
    decoder = _DECODERS.get(method)
    if decoder is None:
        raise refusal(folder.name, method)
    try:
        source, size = _source(folder, config, settings)
        packed = {tensor.name: tensor for tensor in decoder.tensors(source)}
        tensors = _every(source, packed, label)
        return QuantizedFile(
            folder,
            method,
            label,
            tensors,
            size,
            content_id(folder),
            config=config,
            facts=facts_of(config),
            vocabulary=vocabulary_of(folder),
            inputs=decoder.inputs(source),
            folded=decoder.folded,
            notes=tuple(_notes(source, tensors)),
            bind=lambda original: bind(tensors, original),
        )
    except OSError as error:
        raise ModelNotFound(
            f"{error.filename or folder} cannot be read: {error.strerror or error}.",
            "Check that the files are there and that this user may read them.",
        ) from error


def _source(folder: Path, config: Mapping[str, Any], settings: Mapping[str, Any]) -> tuple[Source, int]:
    index, paths = checkpoint.weight_files(folder)
    must_be_no_pointer(paths)
    tensors: dict[str, StoredTensor] = {}
    metadata: dict[str, str] = {}
    names: list[str] = []
    for path in paths:
        for name, stored in read_header(path).items():
            if tensors.setdefault(name, stored) != stored:
                raise CorruptCheckpoint(f"Two files of {folder.name} hold {shortened(name)}.", "Download them again.")
        found = read_metadata(path)
        if "tensor_names" in found:
            names.append(found["tensor_names"])
        metadata.update(found)
    if len(names) > 1:  # each shard lists its own
        metadata["tensor_names"] = "[" + ", ".join(part.strip()[1:-1] for part in names) + "]"
    for name, file in (index or {}).items():
        if name not in tensors:
            raise CorruptCheckpoint(
                f"The index of {folder.name} says that {file} holds {shortened(name)}; it does not.",
                "Download the checkpoint again.",
            )
    source = Source(folder, config, settings, tensors, checkpoint.places(folder), metadata)
    return source, sum(path.stat().st_size for path in paths)


def _every(source: Source, packed: Mapping[str, PackedTensor], label: str) -> dict[str, PackedTensor]:
    """The quantised tensors and the plain ones, in the files' order; each of the files' tensors in one of them."""
    if not packed:
        raise CorruptCheckpoint(
            f"config.json says that {source.folder.name} is quantised ({label}), but no weight in it is.",
            "Download the checkpoint again; config.json and weights must belong together.",
        )
    used = {part: tensor for tensor in packed.values() for part in tensor.parts}
    found: dict[str, PackedTensor] = {}
    for name in source.tensors:
        if name in used:
            found.setdefault(used[name].name, used[name])
        elif not _OF_THE_CACHE.search(name):
            found[name] = source.plain(name)
    return found


def _notes(source: Source, tensors: Mapping[str, PackedTensor]) -> Iterator[str]:
    cache = [name for name in source.tensors if _OF_THE_CACHE.search(name)]
    if cache:
        yield f"It holds {len(cache):,} scales of a rounded key-value cache, which are not applied: weights only."
    if any(tensor.type.endswith(torchao_int4.TILED) for tensor in tensors.values()):
        yield (
            "Its tiles of int4 are read as NVIDIA's GPUs have them. Made on an AMD GPU they look the same and lie "
            "otherwise: then every weight of them is wrong."
        )
