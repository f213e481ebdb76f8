"""Quantised files among what may fit: in a runtime that keeps their codes, with the model's cache and activations."""

from collections.abc import Mapping, Sequence
from typing import Any

from qfund.checkpoints.checkpoint import Checkpoint
from qfund.checkpoints.wild import against
from qfund.checkpoints.wild.filling import filled
from qfund.checkpoints.wild.gguf.architectures import ARCHITECTURES
from qfund.checkpoints.wild.locating import fetched
from qfund.checkpoints.wild.packed_tensor import PackedTensor
from qfund.checkpoints.wild.quantized_file import QuantizedFile
from qfund.checkpoints.wild.table import open_file
from qfund.core.errors import UnsupportedModel
from qfund.core.progress import Progress
from qfund.features.memory.request.fits import FitsRequest, Shape, Weights
from qfund.features.memory.request.kv_cache import cache_of
from qfund.features.memory.request.sizing import formula
from qfund.models.cache import model_cache
from qfund.precisions.files import file_names, label_of
from qfund.precisions.recipes import is_recipe

_BESIDE = "Name its original as the model and the file beside it: qfund fits ORIGINAL --file FILE."
#: Words of config.json that are whole numbers, one for all layers.
_NUMBERS = (
    *("hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim"),
    *("intermediate_size", "vocab_size"),
)


def of_files(request: FitsRequest, original: Checkpoint, progress: Progress) -> tuple[list[Weights], list[str]]:
    """What each file takes, and what is to be said of them.

    Raises:
        QfundError: one is not there, cannot be read, or is no quantised form of the original.
    """
    weights, notes = list[Weights](), list[str]()
    for name, file in _opened(request.files, progress).items():
        packed = filled(original, file).packed
        lent = sum(tensor.bytes for key, tensor in original.tensors.items() if key not in packed)
        weights.append(_weights(name, packed, lent))
        notes += [f"{label_of(name)}: {note}" for note in (*file.notes, *against.notes(original, file))]
    return weights, notes + ([KEPT_NOTE] if weights else [])


KEPT_NOTE = (
    "Files count as they are: a runtime that multiplies by their codes (llama.cpp, vLLM) keeps them so, and caches and "
    "computes in 16 bits. transformers decodes GGUF files to wide floats: that is the row of the cast."
)


def alone(file: QuantizedFile, request: FitsRequest) -> tuple[str, Shape, Weights]:
    """Architecture, shape and weights of a GGUF file by what its head says of the model.

    Raises:
        UnsupportedModel: it does not say enough for its cache to be known.
    """
    facts = file.facts
    architecture = str(facts.get("architecture", ""))
    row = ARCHITECTURES.get(architecture)
    odd = [name for name in _NUMBERS if not isinstance(facts.get(name, 1), int)]
    if row is None or odd or facts.get("sliding_window") or architecture == "mamba":
        why = (
            "layers that differ" if odd else "sliding windows or states" if row else "an architecture that is not read"
        )
        raise UnsupportedModel(f"{file.path.name} is of a model with {why}: its head does not tell the cache.", _BESIDE)
    config: dict[str, Any] = {"model_type": row.models[0], **{name: facts[name] for name in _NUMBERS if name in facts}}
    config.setdefault("vocab_size", _tokens(file.tensors))
    cache, states = cache_of(config)
    shape = Shape(cache, states, (formula(config, "bfloat16"),), facts.get("max_position_embeddings"), False)
    (name,) = file_names((request.model,))
    return architecture, shape, _weights(name, file.tensors, 0)


def _tokens(tensors: Mapping[str, PackedTensor]) -> int:
    found = tensors.get("output.weight") or tensors.get("token_embd.weight")
    return found.shape[0] if found and found.shape else 1


def _opened(files: Sequence[str], progress: Progress) -> dict[str, QuantizedFile]:
    found = {}
    for name, given in file_names(files).items():
        progress(f"reading {given}", 0.0)
        path = fetched(given, model_cache().budget, progress)
        if is_recipe(path):
            raise UnsupportedModel(f"{label_of(name)} is a recipe.", "qfund recipe says what it takes.")
        found[name] = open_file(path)
    return found


def _weights(name: str, tensors: Mapping[str, PackedTensor], lent: int) -> Weights:
    """One row: what is held in two places counts once; ``lent`` bytes are of the original's own tensors."""
    once = {tensor.parts or (key,): tensor for key, tensor in tensors.items()}
    held = sum(tensor.bytes for tensor in once.values())
    elements = sum(tensor.elements for tensor in once.values())
    return Weights(name, held + lent, {"weights": held + lent}, bits=8 * held / max(1, elements))
