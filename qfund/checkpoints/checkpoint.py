"""A checkpoint folder read without its weights: config, safetensors headers, and an identity. No torch."""

import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

import msgspec

from qfund.checkpoints import quantization
from qfund.checkpoints.quantization import Quantization
from qfund.core.errors import CorruptCheckpoint, ModelNotFound, UnsafeCheckpoint, UnsupportedModel

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"

#: Files above this size are identified by header, size and time of change instead of their whole content.
_HASHED_WHOLE = 256 * 1024**2

_TICK = 2_000_000_000  # ns; some file systems stamp to two seconds

#: Bytes of a header that are read. The format allows 100 MB, for which Python needs a gigabyte; this is room for
#: 120,000 tensors in one file, and DeepSeek-V3 has 90,000 in 163.
LARGEST_HEADER = 16 * 1024**2

#: Bytes of a config or an index: DeepSeek-V3's index has 9 million.
LARGEST_JSON = 32 * 1024**2

_MOST_DIMENSIONS = 64  # as many as torch has

#: safetensors' dtypes and their bits.
_BITS = {
    **dict.fromkeys(("F64", "I64", "U64", "C64"), 64),
    **dict.fromkeys(("F32", "I32", "U32"), 32),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 16),
    **dict.fromkeys(("F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ", "I8", "U8", "BOOL"), 8),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    "F4": 4,
}

_AGAIN = "Download or save the file again."

_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")

_NOT_CONTENT = ("README.md", "training.json", ".gitattributes")


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """``dtype`` is safetensors' name (``"F32"``, ``"BF16"``); ``bytes`` as stored."""

    dtype: str
    shape: tuple[int, ...]
    bytes: int

    @property
    def elements(self) -> int:
        return math.prod(self.shape)

    @property
    def is_coded(self) -> bool:
        """Whether the elements are codes of a quantised weight, not numbers: in 8 bits or fewer, or packed integers."""
        return self.dtype.startswith(("F8", "F6", "F4")) or self.dtype in ("I8", "U8", "I16", "U16", "I32", "U32")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """``quantization`` is None for the ordinary checkpoint, whose weights are floats."""

    folder: Path
    config: dict[str, Any]
    tensors: dict[str, StoredTensor]
    id: str
    quantization: Quantization | None = None

    @property
    def architecture(self) -> str:
        """The class that ``config.json`` names first."""
        return str(self.config["architectures"][0])


def read(folder: Path) -> Checkpoint:
    """Config and headers of a folder, checked before anything is loaded.

    Raises:
        ModelNotFound: no such folder, it holds no model, or its files cannot be read.
        UnsafeCheckpoint: its weights are pickled.
        CorruptCheckpoint: a file is truncated, malformed or missing.
        UnsupportedModel: it names no architecture, is a GGUF file, or is quantised and does not say how.
    """
    return _read(folder, content_id)


def read_headers(folder: Path) -> Checkpoint:
    """As ``read``, but no byte of a weight is read: the id (``headers:…``) is that of config and headers alone."""
    return _read(folder, None)


def _read(folder: Path, identify: Callable[[Path], str] | None) -> Checkpoint:
    try:
        config = read_config(folder)
        index, paths = _weight_files(folder)
        headers = {path.name: read_header(path) for path in paths}
        found = assemble(folder, folder.name, config, index, headers)
        return replace(found, id=identify(folder)) if identify else found
    except OSError as error:
        raise ModelNotFound(
            f"{error.filename or folder} cannot be read: {error.strerror or error}.",
            "Check that the files are there and that this user may read them.",
        ) from error


def assemble(
    folder: Path,
    name: str,
    config: dict[str, Any],
    index: Mapping[str, str] | None,
    headers: Mapping[str, Mapping[str, StoredTensor]],
) -> Checkpoint:
    """One checkpoint of what was read of its files: the headers by file, and which file the index names for a tensor.

    Raises:
        CorruptCheckpoint: a tensor is not where the index says, or two files disagree on it.
        UnsupportedModel: it is quantised and does not say how.
    """
    for tensor, file in (index or {}).items():
        if tensor not in headers[file]:
            raise CorruptCheckpoint(
                f"The index of {name} says that {file} holds {_short(tensor)}; it does not.", _AGAIN
            )
    tensors: dict[str, StoredTensor] = {}
    for file, header in headers.items():
        for tensor, stored in header.items():
            if tensors.setdefault(tensor, stored) != stored:
                raise CorruptCheckpoint(f"Two files of {name} hold {_short(tensor)}, {file} another one.", _AGAIN)
    quantized = quantization.find(config)
    if quantized is None:
        _must_be_floats(name, tensors)
    identity = hashlib.sha256(msgspec.json.encode([config, tensors], order="deterministic")).hexdigest()
    return Checkpoint(folder, config, tensors, f"headers:{identity}", quantized)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        if (size := path.stat().st_size) > LARGEST_JSON:
            raise CorruptCheckpoint(f"{path} has {size:,} bytes; at most {LARGEST_JSON:,} are read.", _AGAIN)
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CorruptCheckpoint(f"{path} cannot be read as JSON: {error}.", "Download the checkpoint again.") from error
    if not isinstance(found, dict):
        raise CorruptCheckpoint(f"{path} holds no JSON object.", "Download the checkpoint again.")
    return found


def read_config(folder: Path) -> dict[str, Any]:
    """The config.json of a folder, which names an architecture.

    Raises:
        ModelNotFound: there is none.
        CorruptCheckpoint: it is no JSON object.
        UnsupportedModel: it names no architecture.
    """
    if not folder.is_dir():
        raise ModelNotFound(f"There is no folder {folder}.", "Check the path, or name a catalog model or a Hub id.")
    if not (folder / "config.json").is_file():
        _must_not_be_gguf(folder)
        raise ModelNotFound(
            f"{folder} holds no config.json, so it is no Hugging Face checkpoint.",
            "Name the folder that save_pretrained() wrote: config.json beside *.safetensors.",
        )
    config = _read_json(folder / "config.json")
    if not isinstance(config.get("architectures"), list) or not config["architectures"]:
        raise UnsupportedModel(
            f"The config.json in {folder} names no architecture, so the model's head is unknown.",
            "Save the model again with save_pretrained(), which writes it.",
        )
    return config


def _must_not_be_gguf(folder: Path) -> None:
    if found := sorted(folder.glob("*.gguf")):
        raise UnsupportedModel(
            f"{found[0].name} is a GGUF file, quantised for llama.cpp; qfund reads safetensors.",
            "Name the checkpoint that it was made from.",
        )


def _must_be_floats(model: str, tensors: Mapping[str, StoredTensor]) -> None:
    """Codes taken for numbers, without their scales, would be another model."""
    for name, tensor in tensors.items():
        if tensor.is_coded and "weight" in name:
            raise UnsupportedModel(
                f"{model} holds {_short(name)} in {tensor.dtype}, and its config.json does not say how it is "
                "quantised.",
                "Name the original checkpoint, or one with a quantization_config.",
            )


def _weight_files(folder: Path) -> tuple[dict[str, str] | None, list[Path]]:
    """The index, where there is one, and the files of weights."""
    if (folder / WEIGHTS).is_file():
        return None, [folder / WEIGHTS]
    if (folder / INDEX).is_file():
        index = read_index(folder / INDEX)
        paths = [folder / name for name in sorted(set(index.values()))]
        if missing := [path.name for path in paths if not path.is_file()]:
            few = f"{', '.join(missing[:3])}{' …' * (len(missing) > 3)}"
            raise CorruptCheckpoint(f"{folder} lacks {few}.", "Download the missing files.")
        return index, paths
    _must_not_be_gguf(folder)
    if any(path.suffix in _PICKLES for path in folder.iterdir()):
        raise UnsafeCheckpoint(
            f"{folder} holds pickled weights only; loading them could run any code, so qfund refuses.",
            "Save the model again with save_pretrained(), which writes safetensors.",
        )
    raise ModelNotFound(f"{folder} holds no weights ({WEIGHTS}).", "Download the checkpoint's weights.")


def read_index(path: Path) -> dict[str, str]:
    """Tensor → file, as ``model.safetensors.index.json`` maps them.

    Raises:
        CorruptCheckpoint: it maps nothing, or to something else than a file beside it.
    """
    shards = _read_json(path).get("weight_map")
    if not isinstance(shards, dict) or not shards:
        raise CorruptCheckpoint(f"{path} maps no weights.", "Download the checkpoint again.")
    for file in shards.values():
        if (
            not isinstance(file, str)
            or not file.endswith(".safetensors")
            or len(file) > 255
            or set(file) & set("/\\\0")
        ):
            raise CorruptCheckpoint(f"{path} maps weights to {_short(str(file))}, which is no shard.", _AGAIN)
    return shards


def read_header(path: Path) -> dict[str, StoredTensor]:
    """Names, dtypes and shapes of a safetensors file, from its header alone.

    Raises:
        CorruptCheckpoint: the header is malformed or lies, or the file is not as long as it says.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = header_length(file.read(8), size, str(path))
        return parse_header(file.read(length), size - 8 - length, str(path))


def place_of(folder: Path, tensor: str) -> tuple[Path, int]:
    """The file that holds a tensor of ``read_headers(folder)``, and where in it the first byte of its data is.

    Raises:
        CorruptCheckpoint: the files are not any more what they were.
    """
    index, paths = _weight_files(folder)
    for path in [folder / index[tensor]] if index and tensor in index else paths:
        with path.open("rb") as file:
            length = header_length(file.read(8), path.stat().st_size, str(path))
            row = _ROWS.decode(file.read(length)).get(tensor)
        if row is not None:
            return path, 8 + length + _ROW.decode(row).data_offsets[0]
    raise CorruptCheckpoint(f"{folder.name} does not hold {_short(tensor)} any more.", "Open it again.")


def header_length(start: bytes, size: int, where: str) -> int:
    """Bytes of the header that follows the first eight of a file of ``size`` bytes; ``where`` names it in messages.

    Raises:
        CorruptCheckpoint: the file is too short for it, or it is too long to be read.
    """
    length = int.from_bytes(start, "little")
    if len(start) < 8 or length > size - 8:
        raise CorruptCheckpoint(f"{where} is truncated or no safetensors file: {size:,} bytes.", _AGAIN)
    if length > LARGEST_HEADER:
        raise CorruptCheckpoint(
            f"{where} begins with a header of {length:,} bytes; at most {LARGEST_HEADER:,} are read.", _AGAIN
        )
    return length


class _Row(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    dtype: str
    shape: list[Annotated[int, msgspec.Meta(ge=0)]]
    data_offsets: tuple[Annotated[int, msgspec.Meta(ge=0)], Annotated[int, msgspec.Meta(ge=0)]]


_ROWS = msgspec.json.Decoder(dict[str, msgspec.Raw])

_ROW = msgspec.json.Decoder(_Row)

_METADATA = msgspec.json.Decoder(dict[str, str] | None)


def parse_header(raw: bytes, data: int, where: str) -> dict[str, StoredTensor]:
    """The tensors of a header, which must fill the ``data`` bytes behind it without gap or overlap.

    Raises:
        CorruptCheckpoint: it does not, or is malformed.
    """

    def lie(what: str) -> CorruptCheckpoint:
        return CorruptCheckpoint(f"The header of {where} is malformed: {what}.", _AGAIN)

    try:
        found = _ROWS.decode(raw)
        metadata = _METADATA.decode(found.pop("__metadata__", "null")) or {}
        rows = {name: _ROW.decode(row) for name, row in found.items()}
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise lie(str(error)) from error
    if raw.count(b'"data_offsets"') - ("data_offsets" in metadata) > len(rows):
        raise lie("it names a tensor twice")
    tensors: dict[str, StoredTensor] = {}
    for name, row in rows.items():
        start, end = row.data_offsets
        if (bits := _BITS.get(row.dtype)) is None:
            raise lie(f"{_short(name)} is of dtype {_short(row.dtype)}, which safetensors does not have")
        if len(row.shape) > _MOST_DIMENSIONS:
            raise lie(f"{_short(name)} has {len(row.shape):,} dimensions")
        if math.prod(row.shape) * bits != 8 * (end - start):
            shape = "×".join(map(str, row.shape[:8])) or "a scalar"
            raise lie(f"{_short(name)} is {shape} in {row.dtype}, which are not {end - start:,} bytes")
        tensors[name] = StoredTensor(row.dtype, tuple(row.shape), end - start)
    place = 0
    for start, end, name in sorted((*row.data_offsets, name) for name, row in rows.items()):
        if start != place:
            raise lie(f"{_short(name)} {'overlaps with another tensor' if start < place else 'begins behind a gap'}")
        place = end
    if place != data:
        raise CorruptCheckpoint(
            f"{where} is truncated or damaged: its header promises {place:,} bytes of weights, the file has {data:,}.",
            _AGAIN,
        )
    return tensors


def places(folder: Path) -> dict[str, tuple[Path, int]]:
    """Tensor → the file that holds it, and where in it its first byte lies. For a folder that ``read`` has checked.

    Raises:
        OSError: a file cannot be read.
    """
    found: dict[str, tuple[Path, int]] = {}
    for path in _weight_files(folder)[1]:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            rows = _ROWS.decode(file.read(length))
        rows.pop("__metadata__", None)
        for name, row in rows.items():
            found.setdefault(name, (path, 8 + length + _ROW.decode(row).data_offsets[0]))
    return found


def _short(name: str) -> str:
    """Names from a file may be of any length."""
    return name if len(name) <= 100 else f"{name[:100]}…"


def content_id(folder: Path) -> str:
    """What identifies a folder's model: equal ids, equal models.

    ``sha256:…`` of every file that decides what the model computes; ``stat:…`` where one is too large to hash whole
    (then its start, size and time of change stand for it).
    """
    paths = sorted(path for path in folder.iterdir() if path.is_file() and path.name not in _NOT_CONTENT)
    stats = [(path, path.stat()) for path in paths]
    files = tuple((str(path), stat.st_size, stat.st_mtime_ns) for path, stat in stats)
    # A file may be written twice within one tick of the clock that stamps it: a fresh stamp proves nothing yet.
    settled = all(time.time_ns() - changed > _TICK for _, _, changed in files)
    return (_remembered_id if settled else _content_id)(files)


def _content_id(files: tuple[tuple[str, int, int], ...]) -> str:
    digest, whole = hashlib.sha256(), True
    for name, size, changed in files:
        path = Path(name)
        digest.update(f"{path.name}\0{size}\0".encode())
        with path.open("rb") as file:
            if size <= _HASHED_WHOLE:
                digest.update(hashlib.file_digest(file, "sha256").digest())
            else:
                whole = False
                digest.update(file.read(1024**2) + str(changed).encode())
    return f"{'sha256' if whole else 'stat'}:{digest.hexdigest()}"


_remembered_id = lru_cache(maxsize=64)(_content_id)
