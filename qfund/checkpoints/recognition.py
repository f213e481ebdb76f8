"""What a folder is that is no checkpoint of transformers, and what to do with it. Names alone decide; no torch."""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qfund.core.errors import CorruptCheckpoint, ModelNotFound, QfundError, UnsafeCheckpoint, UnsupportedModel

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"

_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
#: What trainers write beside weights.
_TRAINER = re.compile(
    r"training_args\.bin|(optimizer|scheduler|scaler|rng_state.*|random_states.*)\.\w+|trainer_state\.json"
)
_VARIANT = re.compile(
    r"model\.(?!safetensors)([\w-]+?)(-\d+-of-\d+)?\.safetensors|model\.safetensors\.index\.([\w-]+)\.json"
)
_SHARD = re.compile(r"model-(\d+)-of-(\d+)\.safetensors")
_PIECES = re.compile(r"global_step\d+|zero_to_fp32\.py|(pytorch_model|model)_fsdp_?\d*|zero_pp_rank_.*|.*\.distcp")
#: Endings of files of weights in other formats than safetensors, and whose they are.
_FOREIGN = {
    "tf_model.h5": "TensorFlow",
    ".msgpack": "Flax",
    ".onnx": "ONNX",
    ".tflite": "TensorFlow Lite",
    ".mlpackage": "Core ML",
    "openvino_model.bin": "OpenVINO",
    ".ot": "Rust",
    ".npz": "MLX or NumPy",
}


@dataclass(frozen=True, slots=True)
class Folder:
    """What can be seen of a folder or repository: what it is called in messages, the names at its top, its config.json
    (None where it has none), and where it lies (None on the Hub)."""

    where: str
    names: frozenset[str]
    config: Mapping[str, Any] | None = None
    path: Path | None = None

    def matching(self, pattern: re.Pattern[str]) -> list[str]:
        return sorted(name for name in self.names if pattern.fullmatch(name))

    def ending(self, *suffixes: str) -> list[str]:
        return sorted(name for name in self.names if name.endswith(suffixes))

    def says(self, file: str, key: str) -> str:
        """A text in one of its JSON files; empty where there is none."""
        try:
            found = json.loads((self.path / file).read_text("utf-8"))[key] if self.path else ""
        except (OSError, ValueError, LookupError, TypeError, RecursionError):
            return ""
        return found[:200] if isinstance(found, str) else ""


def folder_at(path: Path, config: Mapping[str, Any] | None = None) -> Folder:
    """
    Raises:
        OSError: it cannot be listed.
    """
    return Folder(str(path), frozenset(entry.name for entry in path.iterdir()), config, path)


def not_a_model(found: Folder) -> QfundError | None:
    """Why something without config.json, without an architecture in it or without weights is none that qfund opens;
    None where nothing is known of it."""
    kinds = _KINDS if found.names & {WEIGHTS, INDEX} else _KINDS + _WITHOUT_WEIGHTS
    return next((error for kind in kinds if (error := kind(found)) is not None), None)


def _gguf(found: Folder) -> QfundError | None:
    if not (files := found.ending(".gguf")):
        return None
    return UnsupportedModel(
        f"{files[0]} is a GGUF file, quantised for llama.cpp, without the checkpoint that it was made from.",
        f"Name that checkpoint, and the file beside it: qfund compare ORIGINAL --file {files[0]}; what the file holds "
        f"tells qfund audit {files[0]}.",
    )


def _adapter(found: Folder) -> QfundError | None:
    if "adapter_config.json" not in found.names and not found.ending("adapter_model.safetensors"):
        return None
    base = found.says("adapter_config.json", "base_model_name_or_path")
    of = f" of {base}" if base else ""
    return UnsupportedModel(
        f"{found.where} holds an adapter (LoRA, PEFT): changes to the weights{of or ' of another model'}, not a model.",
        "Merge it into its base model (PEFT's merge_and_unload(), then save_pretrained()) and name that folder; or "
        f"name the base model{f', {base}' if base else ''}.",
    )


def _pipeline(found: Folder) -> QfundError | None:
    if "model_index.json" not in found.names:
        return None
    return UnsupportedModel(
        f"{found.where} holds a pipeline of diffusers: several models, each in its own folder.",
        "Name the folder of one that transformers opens, such as its text_encoder.",
    )


def _pipeline_part(found: Folder) -> QfundError | None:
    kind = (found.config or {}).get("_class_name")
    if kind is None and not found.ending("diffusion_pytorch_model.safetensors"):
        return None
    return UnsupportedModel(
        f"{found.where} holds a model of diffusers{f' ({str(kind)[:100]})' if kind else ''}, which transformers does "
        "not open.",
        "Name a checkpoint of transformers, such as the text_encoder of the same pipeline.",
    )


def _hub_cache(found: Folder) -> QfundError | None:
    if "snapshots" in found.names:
        inside = (found.path / "snapshots").iterdir() if found.path else ()
        commits = sorted(entry.name for entry in inside if entry.is_dir())
        where = f"{found.path}/snapshots/{commits[-1] if commits else '<commit>'}"
        owner, _, name = str(found.path).rpartition("models--")[2].partition("--")
        hub_id = f", or the Hub id {owner}/{name}" if name else ""
        return UnsupportedModel(
            f"{found.where} is a folder of the Hub's cache; the checkpoint is one of its snapshots.",
            f"Name {where}{hub_id}.",
        )
    if models := sorted(name for name in found.names if name.startswith("models--")):
        return UnsupportedModel(
            f"{found.where} is the Hub's cache; each model in it is a folder of its own.",
            f"Name one of its snapshots: {found.where}/{models[0]}/snapshots/<commit>.",
        )
    return None


def _older_sentence_transformer(found: Folder) -> QfundError | None:
    if found.config is not None or "modules.json" not in found.names:
        return None
    inner = next(iter(sorted(name for name in found.names if name.startswith("0_"))), "0_Transformer")
    return UnsupportedModel(
        f"{found.where} is a folder of sentence-transformers whose model lies in a folder inside.",
        f"Name {found.where}/{inner}.",
    )


def _in_pieces(found: Folder) -> QfundError | None:
    if not (names := found.matching(_PIECES)):
        return None
    return UnsupportedModel(
        f"{found.where} holds a training state of DeepSpeed or FSDP ({names[0]}), its weights in pieces.",
        "Put them together first: `python zero_to_fp32.py . OUT --safe_serialization`, or `accelerate merge-weights`.",
    )


def _variant(found: Folder) -> QfundError | None:
    if not (names := found.matching(_VARIANT)):
        return None
    match = _VARIANT.fullmatch(names[0])
    variant = match and (match[1] or match[3])
    return UnsupportedModel(
        f"{found.where} holds its weights under the name of a variant: {names[0]}.",
        f"Open it with from_pretrained(…, variant={variant!r}) and save it again with save_pretrained()"
        + (f"; a single file can be given the name {WEIGHTS}." if len(names) == 1 else "."),
    )


def _shards_without_index(found: Folder) -> QfundError | None:
    if not (names := found.matching(_SHARD)):
        return None
    match = _SHARD.fullmatch(names[0])
    return CorruptCheckpoint(
        f"{found.where} holds {len(names)} of {int(match[2]) if match else '?'} shards ({names[0]}) but not their "
        f"index, {INDEX}.",
        "Download the index too, and the shards that are missing; save_pretrained() writes it.",
    )


def _other_safetensors(found: Folder) -> QfundError | None:
    if not (names := found.ending(".safetensors")):
        return None
    mistral = " It is Mistral's own layout, with other names." if names[0].startswith("consolidated") else ""
    return UnsupportedModel(
        f"{found.where} holds {names[0]}, but neither {WEIGHTS} nor {INDEX}.{mistral}",
        f"If it is the whole model as transformers names its weights, give it the name {WEIGHTS}.",
    )


def _foreign(found: Folder) -> QfundError | None:
    for ending, whose in _FOREIGN.items():
        if names := found.ending(ending):
            return UnsupportedModel(
                f"{found.where} holds weights for {whose} only ({names[0]}).", "Name a checkpoint with safetensors."
            )
    return None


def _pickled(found: Folder) -> QfundError | None:
    names = (name for name in found.ending(*_PICKLES) if not _TRAINER.fullmatch(name))
    if all(name.endswith(tuple(_FOREIGN)) for name in names):
        return None
    return UnsafeCheckpoint(
        f"{found.where} holds pickled weights only; loading them could run any code, so qfund refuses.",
        "Save the model again with save_pretrained(), which writes safetensors.",
    )


def _trainer_state(found: Folder) -> QfundError | None:
    if not (names := found.matching(_TRAINER)):
        return None
    return UnsupportedModel(
        f"{found.where} holds what a trainer keeps ({names[0]}), but no weights.",
        "Name the folder that the trainer's save_model() or save_pretrained() wrote.",
    )


def _inner_folders(found: Folder) -> QfundError | None:
    if found.config is not None or found.path is None:
        return None
    inner = sorted(str(entry.parent) for entry in found.path.glob("*/config.json"))
    if not inner:
        return None
    return ModelNotFound(
        f"{found.where} holds no config.json itself; {len(inner):,} of its folders do{'es' * (len(inner) == 1)}.",
        f"Name one of them, such as {inner[-1]}.",
    )


#: In order: the first that knows it.
_KINDS: tuple[Callable[[Folder], QfundError | None], ...] = (
    _adapter,
    _pipeline,
    _pipeline_part,
    _hub_cache,
    _older_sentence_transformer,
    _in_pieces,
)
_WITHOUT_WEIGHTS: tuple[Callable[[Folder], QfundError | None], ...] = (
    _gguf,
    _variant,
    _shards_without_index,
    _other_safetensors,
    _pickled,
    _foreign,
    _trainer_state,
    _inner_folders,
)

#: Names that torch's wrappers leave in those of weights: compile, FSDP, checkpointing. No architecture has such.
_WRAPPERS = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
_WRAPPED = re.compile(rf"(?:^|(?<=\.))({'|'.join(_WRAPPERS)})\.")
#: Of data parallelism: counts only where every name begins with it.
_PARALLEL = "module."
#: How often one wrapper may stand in one name.
_DEEPEST = 4


def without_wrapper(names: Iterable[str]) -> tuple[dict[str, str], str]:
    """Names as a model has them → as they are stored, where a wrapper of torch has left its own in them; and that one
    (``"_orig_mod."``), empty where there is none."""
    clean: dict[str, str] = {}
    wrapper = ""
    for name in names:
        short = name
        if "_" in name and (match := _WRAPPED.search(name)):
            wrapper, short = match[0], _WRAPPED.sub("", name)
        clean[short] = name
    if clean and all(short.startswith(_PARALLEL) for short in clean):
        wrapper, clean = _PARALLEL, {short.removeprefix(_PARALLEL): name for short, name in clean.items()}
    return clean, wrapper


def wrapper_sentence(wrapper: str) -> str:
    return (
        f"The names of the stored tensors carry `{wrapper}`, which a wrapper of torch has left in them; they are read "
        "without it. transformers itself would find none of them: save the model again, unwrapped."
    )


def key_mapping() -> dict[str, str]:
    """The same for ``from_pretrained``, which replaces a pattern once in each name: so it is written several times."""
    patterns = [rf"^{re.escape(_PARALLEL)}", *(rf"(?<![^.]){name}\." for name in _WRAPPERS)]
    return {f"{'(?:' * depth}{pattern}{')' * depth}": "" for pattern in patterns for depth in range(_DEEPEST)}
