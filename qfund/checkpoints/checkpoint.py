"""A checkpoint folder read without its weights: config, safetensors headers, and an identity. No torch."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec

from qfund.checkpoints import counts, quantization
from qfund.checkpoints.headers import AGAIN, StoredTensor, read_header, read_offsets, shortened
from qfund.checkpoints.identity import content_id
from qfund.checkpoints.pointers import must_be_no_pointer
from qfund.checkpoints.quantization import Quantization
from qfund.checkpoints.recognition import INDEX, WEIGHTS, folder_at, not_a_model, without_wrapper
from qfund.checkpoints.wild.packed_tensor import PackedTensor
from qfund.core.errors import CorruptCheckpoint, ModelNotFound, UnsupportedModel

#: Bytes of a config or an index: DeepSeek-V3's index has 9 million.
LARGEST_JSON = 32 * 1024**2

#: Asks for bytes of a tensor: its name, the first, and the one behind the last.
Content = Callable[[str, int, int], bytes]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Config and headers.

    Attributes:
        tensors: by their names without ``wrapper``.
        quantization: None for the ordinary checkpoint, whose weights are floats.
        wrapper: what a wrapper of torch has left in the names of the files (``"_orig_mod."``); empty for nothing.
        content: reads bytes of tensors where the folder does not hold them.
        packed: tensors of a quantised file in place of the folder's, decoded when they are read (``wild.filling``).
    """

    folder: Path
    config: dict[str, Any]
    tensors: dict[str, StoredTensor]
    id: str
    quantization: Quantization | None = None
    wrapper: str = ""
    content: Content | None = field(default=None, compare=False, repr=False)
    packed: Mapping[str, PackedTensor] = field(default_factory=dict, compare=False, repr=False)

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
        index, paths = weight_files(folder)
        must_be_no_pointer(paths)
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
        CorruptCheckpoint: a tensor is not where the index says, two files disagree on it, or it is empty.
        UnsupportedModel: it is quantised and does not say how.
    """
    for tensor, file in (index or {}).items():
        if tensor not in headers[file]:
            raise CorruptCheckpoint(
                f"The index of {name} says that {file} holds {shortened(tensor)}; it does not.", AGAIN
            )
    tensors: dict[str, StoredTensor] = {}
    for file, header in headers.items():
        for tensor, stored in header.items():
            if tensors.setdefault(tensor, stored) != stored:
                raise CorruptCheckpoint(f"Two files of {name} hold {shortened(tensor)}, {file} another one.", AGAIN)
    identity = hashlib.sha256(msgspec.json.encode([config, tensors], order="deterministic")).hexdigest()
    clean, wrapper = without_wrapper(tensors)
    tensors = {short: tensors[stored] for short, stored in clean.items()}
    _must_not_be_empty(name, tensors)
    quantized = quantization.of_checkpoint(name, config, tensors)
    if quantized is None:
        _must_be_floats(name, tensors)
    return Checkpoint(folder, config, tensors, f"headers:{identity}", quantized, wrapper)


def place_of(folder: Path, tensor: str) -> tuple[Path, int]:
    """The file that holds a tensor of ``read_headers(folder)``, and where in it the first byte of its data is.

    Raises:
        CorruptCheckpoint: the files are not any more what they were.
    """
    index, _ = weight_files(folder)
    if index and tensor in index and (start := read_offsets(folder / index[tensor]).get(tensor)) is not None:
        return folder / index[tensor], start
    if (place := places(folder).get(tensor)) is not None:
        return place
    raise CorruptCheckpoint(f"{folder.name} does not hold {shortened(tensor)} any more.", "Open it again.")


def places(folder: Path) -> dict[str, tuple[Path, int]]:
    """Tensor → the file that holds it, and where in it its first byte lies. For a folder that ``read`` has checked.

    Raises:
        CorruptCheckpoint: the files are not any more what they were.
        OSError: a file cannot be read.
    """
    found: dict[str, tuple[Path, int]] = {}
    for path in weight_files(folder)[1]:
        for name, start in read_offsets(path).items():
            found.setdefault(name, (path, start))
    return {short: found[stored] for short, stored in without_wrapper(found)[0].items()}


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file of a checkpoint. Raises ``CorruptCheckpoint`` where it holds none, or is too large."""
    try:
        if (size := path.stat().st_size) > LARGEST_JSON:
            raise CorruptCheckpoint(f"{path} has {size:,} bytes; at most {LARGEST_JSON:,} are read.", AGAIN)
        must_be_no_pointer([path])
        found = json.loads(path.read_text("utf-8-sig"))
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
        UnsupportedModel: it names no architecture, or asks for more parts than are built.
    """
    if not folder.is_dir():
        raise ModelNotFound(f"There is no folder {folder}.", "Check the path, or name a catalog model or a Hub id.")
    if not (folder / "config.json").is_file():
        raise not_a_model(folder_at(folder)) or ModelNotFound(
            f"{folder} holds no config.json, so it is no Hugging Face checkpoint.",
            "Name the folder that save_pretrained() wrote: config.json beside *.safetensors.",
        )
    config = read_json(folder / "config.json")
    if isinstance(named := config.get("architectures"), str) and named:
        raise UnsupportedModel(
            f'The "architectures" in the config.json of {folder} are a text; transformers writes a list of names.',
            f'Write "architectures": ["{shortened(named)}"].',
        )
    if not isinstance(config.get("architectures"), list) or not config["architectures"]:
        raise not_a_model(folder_at(folder, config)) or UnsupportedModel(
            f"The config.json in {folder} names no architecture, so the model's head is unknown.",
            "Save the model again with save_pretrained(), which writes it.",
        )
    counts.must_be_buildable(config)
    return config


def _must_not_be_empty(model: str, tensors: Mapping[str, StoredTensor]) -> None:
    """What ZeRO-3 saves where nobody has gathered the weights."""
    empty = [name for name, tensor in tensors.items() if tensor.shape == (0,)]
    if empty:
        raise CorruptCheckpoint(
            f"{len(empty):,} of {len(tensors):,} tensors of {model} are empty, {shortened(empty[0])} first: they were "
            "saved under DeepSpeed's ZeRO-3 without being gathered.",
            "Set stage3_gather_16bit_weights_on_model_save, or run `python zero_to_fp32.py . OUT --safe_serialization`"
            " where the training state lies.",
        )


def _must_be_floats(model: str, tensors: Mapping[str, StoredTensor]) -> None:
    """Codes taken for numbers, without their scales, would be another model; and so would whole numbers."""
    for name, tensor in tensors.items():
        if tensor.is_coded and "weight" in name:
            raise UnsupportedModel(
                f"{model} holds {shortened(name)} in {tensor.dtype}, and its config.json does not say how it is "
                "quantised.",
                "Name the original checkpoint, or one with a quantization_config.",
            )
        if not tensor.is_float and "weight" in name:
            raise not_floats(model, name, tensor.dtype)


def not_floats(model: str, tensor: str, dtype: str) -> UnsupportedModel:
    """A weight that no cast makes a number of the model."""
    return UnsupportedModel(
        f"{model} holds {shortened(tensor)} in {dtype}; weights are floating point numbers (F64, F32, F16, BF16).",
        "Save the model again in one of these dtypes, or name another checkpoint.",
    )


def weight_files(folder: Path) -> tuple[dict[str, str] | None, list[Path]]:
    """The index, where there is one, and the files of weights.

    Raises:
        ModelNotFound: there are none.
        CorruptCheckpoint: the index or a file that it names is missing or malformed.
        UnsafeCheckpoint, UnsupportedModel: they are pickled, or of another kind.
    """
    if (folder / WEIGHTS).is_file():
        return None, [folder / WEIGHTS]
    if (folder / INDEX).is_file():
        index = read_index(folder / INDEX)
        paths = [folder / name for name in sorted(set(index.values()))]
        if missing := [path.name for path in paths if not path.is_file()]:
            few = f"{', '.join(missing[:3])}{' …' * (len(missing) > 3)}"
            raise CorruptCheckpoint(f"{folder} lacks {few}.", "Download the missing files.")
        return index, paths
    raise not_a_model(folder_at(folder, read_json(folder / "config.json"))) or ModelNotFound(
        f"{folder} holds no weights ({WEIGHTS}).", "Download the checkpoint's weights."
    )


def read_index(path: Path) -> dict[str, str]:
    """Tensor → file, as ``model.safetensors.index.json`` maps them.

    Raises:
        CorruptCheckpoint: it maps nothing, or to something else than a file beside it.
    """
    shards = read_json(path).get("weight_map")
    if not isinstance(shards, dict) or not shards:
        raise CorruptCheckpoint(f"{path} maps no weights.", "Download the checkpoint again.")
    for file in shards.values():
        if (
            not isinstance(file, str)
            or not file.endswith(".safetensors")
            or len(file) > 255
            or set(file) & set("/\\\0")
        ):
            raise CorruptCheckpoint(f"{path} maps weights to {shortened(str(file))}, which is no shard.", AGAIN)
    return shards
