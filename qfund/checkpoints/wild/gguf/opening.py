"""A GGUF file, or all files of a split one, opened: heads only."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qfund.checkpoints import reading
from qfund.checkpoints.checkpoint import Checkpoint
from qfund.checkpoints.headers import AGAIN
from qfund.checkpoints.identity import files_id
from qfund.checkpoints.wild.gguf import names
from qfund.checkpoints.wild.gguf.header import Head, Incomplete, Record, parse
from qfund.checkpoints.wild.gguf.types import FLOATS, decode, type_of
from qfund.checkpoints.wild.packed_tensor import PackedTensor
from qfund.checkpoints.wild.quantized_file import QuantizedFile, Vocabulary
from qfund.core.errors import CorruptCheckpoint, ModelNotFound, UnsupportedModel

_PART = re.compile(r"(.*)-(\d{5})-of-(\d{5})\.gguf")
#: Bytes of a head that are read at first.
_AT_ONCE = 4 * 1024**2
#: Key of a file's head below its architecture → the word of config.json.
_FACTS = {
    "context_length": "max_position_embeddings",
    "embedding_length": "hidden_size",
    "block_count": "num_hidden_layers",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.key_length": "head_dim",
    "attention.layer_norm_rms_epsilon": "rms_norm_eps",
    "attention.layer_norm_epsilon": "layer_norm_eps",
    "attention.sliding_window": "sliding_window",
    "rope.freq_base": "rope_theta",
    "rope.scaling.type": "rope_type",
    "rope.scaling.factor": "rope_factor",
    "expert_count": "num_experts",
    "expert_used_count": "num_experts_per_tok",
    "vocab_size": "vocab_size",
}


def open_gguf(path: Path) -> QuantizedFile:
    """A file, or any part of a split one.

    Raises:
        ModelNotFound: it cannot be read.
        CorruptCheckpoint: truncated, malformed, or a part is missing.
        UnsupportedModel: of a version or with tensors that are not read.
    """
    try:
        paths = _parts(path)
        heads = [head_of(part) for part in paths]
        identity, size = files_id(paths), sum(part.stat().st_size for part in paths)
    except OSError as error:
        raise ModelNotFound(
            f"{error.filename or path} cannot be read: {error.strerror or error}.",
            "Check that the file is there and that this user may read it.",
        ) from error
    values = heads[0].values
    tensors: dict[str, PackedTensor] = {}
    for part, head in zip(paths, heads, strict=True):
        for record in head.tensors.values():
            if record.name in tensors:
                raise CorruptCheckpoint(f"Two parts of {path.name} hold {record.name}.", AGAIN)
            tensors[record.name] = packed(part, record)
    _must_be_whole(path, heads, len(tensors))
    architecture = str(values.get("general.architecture", ""))
    said = {word: values.get(f"{architecture}.{key}") for key, word in _FACTS.items()}
    return QuantizedFile(
        path=paths[0],
        format="gguf",
        label=f"GGUF {_kind(values, tensors)}",
        tensors=tensors,
        bytes=size,
        id=identity,
        facts={"architecture": architecture} | {word: _plain(v) for word, v in said.items() if v is not None},
        vocabulary=_vocabulary(values),
        notes=tuple(_notes(values, tensors)),
        bind=lambda original: _bound(path.name, architecture, tensors, original),
    )


def _bound(
    file: str, architecture: str, tensors: Mapping[str, PackedTensor], original: Checkpoint
) -> dict[str, PackedTensor]:
    for tensor in tensors.values():
        if not type_of(tensor.type).decodable:
            raise undecodable(file, tensor.name, tensor.type)
    return names.bind(file, architecture, tensors, original)


def packed(path: Path, record: Record) -> PackedTensor:
    """A tensor of a file, decoded when it is asked for."""
    kind = type_of(record.type)
    inner = record.shape[1:] if record.shape else ()
    width = int(np.prod(record.shape[1:], dtype=np.int64)) if len(record.shape) > 1 else 1

    def rows(start: int, stop: int) -> NDArray[np.float32]:
        if not kind.decodable:
            raise undecodable(path.name, record.name, record.type)
        # A row of a vector may be a part of a block.
        first, last = start * width // kind.block, -(-stop * width // kind.block)
        data = read_bytes(path, record.start + first * kind.block_bytes, (last - first) * kind.block_bytes)
        flat = decode(data, record.type)[start * width - first * kind.block :]
        return flat[: (stop - start) * width].reshape(stop - start, *inner)

    return PackedTensor(
        record.name, record.shape, record.type, record.bytes, rows, record.type not in FLOATS, (record.name,)
    )


def undecodable(file: str, tensor: str, kind: str) -> UnsupportedModel:
    return UnsupportedModel(
        f"{file} holds {tensor} in {kind}, of which the gguf package makes no numbers.",
        "Make the file in another type: llama-quantize lists them.",
    )


def read_bytes(path: Path, start: int, count: int) -> NDArray[np.uint8]:
    """Bytes of a file, into memory of their own.

    Raises:
        ModelNotFound: it is gone, or has become shorter.
    """
    found = np.empty(count, np.uint8)
    with reading.opened(path) as file:
        reading.fill(found.data, file.fileno(), path, start)
    return found


def _parts(path: Path) -> list[Path]:
    """All files of a split one, in order."""
    found = _PART.fullmatch(path.name)
    if found is None:
        return [path]
    count = int(found[3])
    every = [path.with_name(f"{found[1]}-{number:05}-of-{count:05}.gguf") for number in range(1, count + 1)]
    if missing := [part.name for part in every if not part.is_file()]:
        raise CorruptCheckpoint(
            f"{path.name} is one of {count} parts; {', '.join(missing[:3])} {'are' if missing[1:] else 'is'} missing.",
            "Download the missing parts into the same folder.",
        )
    return every


def head_of(path: Path) -> Head:
    """Raises as ``open_gguf`` of a file's head."""
    size = path.stat().st_size
    if size < 24:
        raise CorruptCheckpoint(f"{path} is truncated or no GGUF file: {size:,} bytes.", AGAIN)
    with path.open("rb") as file:
        start = b""
        while True:
            start += file.read(max(_AT_ONCE, 3 * len(start)))
            try:
                return parse(start, size, str(path))
            except Incomplete:
                continue


def _must_be_whole(path: Path, heads: list[Head], tensors: int) -> None:
    count = heads[0].values.get("split.count", 1)
    if count not in (0, len(heads)):
        raise CorruptCheckpoint(
            f"{path.name} is {'part of ' if len(heads) == 1 else ''}a file of {count} parts; {len(heads)} are here.",
            "Give the parts the names that llama-gguf-split gave them (NAME-00001-of-00003.gguf), in one folder.",
        )
    promised = heads[0].values.get("split.tensors.count")
    if count > 1 and promised is not None and promised != tensors:
        raise CorruptCheckpoint(f"The parts of {path.name} hold {tensors:,} tensors, not {promised:,}.", AGAIN)
    if not tensors:
        raise CorruptCheckpoint(f"{path.name} holds no tensor.", "Name the file with the model's weights.")


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray) else value


def _kind(values: Mapping[str, Any], tensors: Mapping[str, PackedTensor]) -> str:
    """What people call the file: ``Q4_K_M``; its most frequent type where it does not say."""
    from gguf.constants import LlamaFileType

    number = values.get("general.file_type")
    if isinstance(number, int) and number in LlamaFileType._value2member_map_:
        name = LlamaFileType(number).name.removeprefix("MOSTLY_").removeprefix("ALL_")
        if name != "GUESSED":
            return name
    sizes: dict[str, int] = {}
    for tensor in tensors.values():
        sizes[tensor.type] = sizes.get(tensor.type, 0) + tensor.elements
    return max(sizes, key=lambda kind: sizes[kind])


def _vocabulary(values: Mapping[str, Any]) -> Vocabulary | None:
    def some(key: str, kind: type) -> Any:
        found = values.get(f"tokenizer.{key}")
        return found if isinstance(found, kind) else None

    def texts(key: str) -> tuple[str, ...] | None:
        found = some(key, list)
        return tuple(found) if found and all(isinstance(one, str) for one in found) else None

    if "tokenizer.ggml.tokens" not in values:
        return None
    return Vocabulary(
        tokens=texts("ggml.tokens"),
        merges=texts("ggml.merges"),
        template=some("chat_template", str),
        bos=some("ggml.bos_token_id", int),
        eos=some("ggml.eos_token_id", int),
        adds_bos=some("ggml.add_bos_token", bool),
    )


def _notes(values: Mapping[str, Any], tensors: Mapping[str, PackedTensor]) -> list[str]:
    if imatrix := values.get("quantize.imatrix.file"):
        chunks = values.get("quantize.imatrix.chunks_count")
        over = f", {chunks:,} chunks" if isinstance(chunks, int) else ""
        return [f"Made with an importance matrix ({str(imatrix)[-80:]}{over})."]
    return []
