"""A checkpoint that is quantised already: read by transformers as it is, or refused by name; never quantised again."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from transformers.quantizers.auto import AutoHfQuantizer
from transformers.utils.import_utils import is_accelerate_available

from qfund.checkpoints.checkpoint import Checkpoint
from qfund.core.errors import CorruptCheckpoint, UnsupportedModel
from qfund.core.tensors import LeftModule
from qfund.models.tasks import model_class, named

# Every product of every int8 layer logs that its inputs are cast to fp16.
logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)

_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
#: Modules of these packages hold quantised weights, and nothing else.
_LIBRARIES = ("bitsandbytes.", "gptqmodel.", "hqq.", "optimum.quanto.", "transformers.integrations.")


@dataclass(frozen=True, slots=True)
class StoredModel:
    """A model as its quantised checkpoint holds it.

    Attributes:
        converted: names of the modules whose weights are codes.
        left: modules with weights of two or more dimensions that are still floats.
        note: a sentence about how it runs, where the weights that are stored are not those that run.
    """

    model: Any
    converted: tuple[str, ...]
    left: tuple[LeftModule, ...]
    note: str | None


def check(checkpoint: Checkpoint, as_stored: bool, label: str) -> None:
    """Refuse a precision (``label``) that does not go with the checkpoint: ``as_stored`` goes with quantised ones only.

    Raises:
        UnsupportedModel: by the checkpoint's name.
    """
    name, found = checkpoint.folder.name, checkpoint.quantization
    if found is None and as_stored:
        raise UnsupportedModel(
            f"{name} is not quantised, so there is no quantised form to show as it is stored.",
            "Choose another precision.",
        )
    if found is not None and not as_stored:
        raise UnsupportedModel(
            f"{name} is already quantised ({found.label}): {label} would start from weights that are gone.",
            "Choose `stored` as the only precision and as its own reference, or name the original checkpoint.",
        )


def readable(checkpoint: Checkpoint, device: torch.device) -> None:
    """Ask transformers whether it can read the checkpoint on this device, before a weight is loaded.

    Raises:
        UnsupportedModel: by name, with transformers' reason.
    """
    found = checkpoint.quantization
    assert found is not None
    settings = dict(found.settings)
    with _quietly():
        if not AutoHfQuantizer.supports_quant_method({"quant_method": found.method, **settings}):
            raise _refused(checkpoint, "it knows no such method, and would load the codes as if they were weights")
        try:
            quantizer: Any = AutoHfQuantizer.from_config(settings, pre_quantized=True)
            quantizer.validate_environment(device_map={"": str(device)}, weights_only=True)
        except Exception as error:  # ImportError, ValueError, RuntimeError and others, as each method sees fit
            reason = str(error).strip().partition("\n")[0].rstrip(".")
            missing = isinstance(error, ImportError)
            raise _refused(checkpoint, reason, "Install what is missing" if missing else "") from error
    if getattr(quantizer.quantization_config, "dequantize", False):
        reason = (
            f"on {device} it would unpack the weights to floats, of another size and arithmetic than what is stored"
        )
        raise _refused(checkpoint, reason, "Use a GPU that has kernels for it, with the libraries that they need")


def _refused(checkpoint: Checkpoint, reason: str, remedy: str = "") -> UnsupportedModel:
    assert checkpoint.quantization is not None
    otherwise = "ame the original checkpoint, or one that is quantised otherwise."
    return UnsupportedModel(
        f"{checkpoint.folder.name} is already quantised ({checkpoint.quantization.label}), and transformers "
        f"{transformers.__version__} cannot run that here: {reason}.",
        f"{remedy}; or n{otherwise}" if remedy else f"N{otherwise}",
    )


def load_stored(checkpoint: Checkpoint, device: torch.device) -> StoredModel:
    """Read a quantised checkpoint as it is, in the dtype that its config names.

    Raises:
        UnsupportedModel: transformers cannot read it here.
        CorruptCheckpoint: the weights are not what the config promises, so transformers would fill in or quantise some.
    """
    readable(checkpoint, device)
    # Without accelerate, transformers takes no device_map; methods that pick a device by themselves need accelerate.
    where: dict[str, Any] = {"device_map": {"": str(device)}} if is_accelerate_available() else {}
    try:
        with _quietly():
            model, info = model_class(checkpoint).from_pretrained(
                checkpoint.folder,
                dtype="auto",
                use_safetensors=True,
                trust_remote_code=False,
                local_files_only=True,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
                **where,
                **named(checkpoint),
            )
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # transformers and the method's library raise whatever comes to hand
        raise CorruptCheckpoint(
            f"transformers could not load {checkpoint.folder.name}: {type(error).__name__}: {error}",
            "Check that config.json and the weights belong together.",
        ) from error
    if not where:
        model.to(device)
    _must_be_complete(checkpoint, info)
    model.eval().requires_grad_(False)
    for module in model.modules():
        # On CPUs with AVX512-BF16 bitsandbytes would repack 4-bit weights in the first forward: other bytes, and an
        # error where rows are shorter than a block.
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    converted, left = _modules(checkpoint, model)
    for name in converted:
        _must_unpack(checkpoint, name, model.get_submodule(name))
    return StoredModel(model, converted, left, _note(checkpoint, model))


@contextmanager
def _quietly() -> Iterator[None]:
    """transformers logs what is said here by an error, or in words of its own."""
    level = transformers.utils.logging.get_verbosity()
    transformers.utils.logging.set_verbosity(logging.CRITICAL)
    try:
        yield
    finally:
        transformers.utils.logging.set_verbosity(level)


def _must_be_complete(checkpoint: Checkpoint, info: dict[str, Any]) -> None:
    mismatched = {str(key[0]) for key in info["mismatched_keys"]}
    unread = {
        key
        for key in info["unexpected_keys"]
        if "scale" in key or ((tensor := checkpoint.tensors.get(key)) and tensor.is_coded)
    }
    for names, what in (
        (set(info["missing_keys"]), "lacks"),
        (mismatched, "has other shapes than its config for"),
        (unread, "holds what transformers does not read:"),
    ):
        if names:
            raise CorruptCheckpoint(
                f"{checkpoint.folder.name} {what} {', '.join(sorted(names)[:3])}{' …' * (len(names) > 3)}.",
                "Download the checkpoint again; config.json and weights must belong together.",
            )


def _modules(checkpoint: Checkpoint, model: nn.Module) -> tuple[tuple[str, ...], tuple[LeftModule, ...]]:
    """The modules that are quantised, and those that are not; each quantised one from codes that were stored."""
    found = checkpoint.quantization
    assert found is not None
    converted: list[str] = []
    left: list[LeftModule] = []
    for name, module in model.named_modules():
        matrix = next((tensor for tensor in module.parameters(recurse=False) if tensor.dim() >= 2), None)
        if _holds_codes(module):
            converted.append(name)
            stored = checkpoint.tensors.get(f"{name}.weight")
            broken = stored is not None and not stored.is_coded
        else:
            broken = matrix is not None and type(module).__module__.startswith(_LIBRARIES)
            if matrix is not None:
                why = _why(name, matrix, found.kept)
                left.append(LeftModule(name or "(the model itself)", type(module).__name__, why))
        if broken:
            raise CorruptCheckpoint(
                f"config.json says that {checkpoint.folder.name} is quantised ({found.label}), but {name}.weight is "
                "stored as float: it would be quantised anew.",
                "Download the checkpoint again; config.json and weights must belong together.",
            )
    if not converted:
        raise CorruptCheckpoint(
            f"{checkpoint.folder.name} should be quantised ({found.label}), but no module was read as quantised.",
            "Name the original checkpoint.",
        )
    return tuple(converted), tuple(left)


def _must_unpack(checkpoint: Checkpoint, name: str, module: Any) -> None:
    """bitsandbytes quantises a weight as one row of blocks; its CPU kernel (0.50) begins a new block with each row.

    Where a row is no multiple of a block, other weights come out, without a word.
    """
    weight = getattr(module, "weight", None)
    state: Any = getattr(weight, "quant_state", None)
    if weight is None or state is None or state.shape[-1] % state.blocksize == 0:
        return
    from bitsandbytes.functional import dequantize_4bit

    flat = copy(state)
    flat.shape = torch.Size([state.shape.numel()])
    if not torch.equal(dequantize_4bit(weight.data, state), dequantize_4bit(weight.data, flat).view(state.shape)):
        raise _refused(
            checkpoint,
            f"on {weight.device.type}, bitsandbytes unpacks {name} wrongly, since its rows of {state.shape[-1]} are no "
            f"multiple of its blocks of {state.blocksize}",
            "Use a GPU",
        )


def _holds_codes(module: nn.Module) -> bool:
    for tensor in module.parameters(recurse=False):
        if hasattr(tensor, "__tensor_flatten__") or tensor.dtype not in _FLOATS:
            return True
    return any("weight" in key and tensor.dtype not in _FLOATS for key, tensor in module.named_buffers(recurse=False))


def _why(name: str, tensor: Tensor, kept: tuple[str, ...]) -> str:
    dtype = str(tensor.dtype).removeprefix("torch.")
    named = any(part == name or part in name.split(".") for part in kept)
    return f"the checkpoint holds it in {dtype}{', as its config says' if named else ''}"


def _note(checkpoint: Checkpoint, model: Any) -> str | None:
    assert checkpoint.quantization is not None
    if checkpoint.quantization.method != "compressed-tensors":
        return None
    dtype = str(model.dtype).removeprefix("torch.")
    return (
        f"The first forward unpacks the weights to {dtype} (compressed-tensors): the bytes are those before it, the "
        "outputs those of the values that the codes stand for."
    )
