"""A checkpoint folder read without its weights: config, safetensors headers, and an identity. No torch."""

import hashlib
import json
import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from qfund.errors import CorruptCheckpoint, ModelNotFound, UnsafeCheckpoint, UnsupportedModel

#: Files above this size are identified by header, size and time of change instead of their whole content.
_HASHED_WHOLE = 256 * 1024**2
_TICK = 2_000_000_000  # ns; some file systems stamp to two seconds
_LARGEST_HEADER = 100 * 1024**2  # bytes, the limit of the safetensors format
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_NOT_CONTENT = ("README.md", "comparison.json", "training.json", ".gitattributes")


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """``dtype`` is safetensors' name (``"F32"``, ``"BF16"``); ``bytes`` as stored."""

    dtype: str
    shape: tuple[int, ...]
    bytes: int


@dataclass(frozen=True, slots=True)
class Checkpoint:
    folder: Path
    config: dict[str, Any]
    tensors: dict[str, StoredTensor]
    id: str

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
        UnsupportedModel: it names no architecture, or is already quantised.
    """
    try:
        config = _read_config(folder)
        tensors: dict[str, StoredTensor] = {}
        for path in _weight_files(folder):
            tensors |= read_header(path)
        return Checkpoint(folder, config, tensors, content_id(folder))
    except OSError as error:
        raise ModelNotFound(
            f"{error.filename or folder} cannot be read: {error.strerror or error}.",
            "Check that the files are there and that this user may read them.",
        ) from error


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise CorruptCheckpoint(f"{path} cannot be read as JSON: {error}.", "Download the checkpoint again.") from error
    if not isinstance(found, dict):
        raise CorruptCheckpoint(f"{path} holds no JSON object.", "Download the checkpoint again.")
    return found


def _read_config(folder: Path) -> dict[str, Any]:
    if not folder.is_dir():
        raise ModelNotFound(f"There is no folder {folder}.", "Check the path, or name a catalog model or a Hub id.")
    if not (folder / "config.json").is_file():
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
    if quantised := config.get("quantization_config"):
        method = quantised.get("quant_method", "unknown") if isinstance(quantised, dict) else "unknown"
        raise UnsupportedModel(
            f"This checkpoint is already quantised ({method}); its original weights are gone.",
            "Name the original checkpoint, so that every precision starts from the same weights.",
        )
    return config


def _weight_files(folder: Path) -> list[Path]:
    single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if single.is_file():
        return [single]
    if index.is_file():
        shards = _read_json(index).get("weight_map")
        if not isinstance(shards, dict) or not shards:
            raise CorruptCheckpoint(f"{index} maps no weights.", "Download the checkpoint again.")
        paths = [folder / Path(str(name)).name for name in sorted(set(shards.values()))]
        if missing := [path.name for path in paths if not path.is_file()]:
            raise CorruptCheckpoint(f"{folder} lacks {', '.join(missing)}.", "Download the missing files.")
        return paths
    if any(path.suffix in _PICKLES for path in folder.iterdir()):
        raise UnsafeCheckpoint(
            f"{folder} holds pickled weights only; loading them could run any code, so qfund refuses.",
            "Save the model again with save_pretrained(), which writes safetensors.",
        )
    raise ModelNotFound(f"{folder} holds no weights (model.safetensors).", "Download the checkpoint's weights.")


def read_header(path: Path) -> dict[str, StoredTensor]:
    """Names, dtypes and shapes of a safetensors file, from its header alone.

    Raises:
        CorruptCheckpoint: the header is malformed, or the file is not as long as it says.
    """
    again = "Download or save the file again."
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(size - 8, _LARGEST_HEADER):
            raise CorruptCheckpoint(f"{path} is truncated or no safetensors file: {size:,} bytes.", again)
        try:
            header = json.loads(file.read(length))
            header.pop("__metadata__", None)
            ends = [8 + length]
            tensors: dict[str, StoredTensor] = {}
            for name, row in header.items():
                start, end = map(int, row["data_offsets"])
                tensors[name] = StoredTensor(str(row["dtype"]), tuple(map(int, row["shape"])), end - start)
                ends.append(8 + length + end)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CorruptCheckpoint(f"The header of {path} is malformed.", again) from error
    if max(ends) != size:
        raise CorruptCheckpoint(
            f"{path} is truncated or damaged: its header promises {max(ends):,} bytes, the file has {size:,}.", again
        )
    return tensors


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
