"""The ONE table of formats that quantised models are published in."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from qfund.checkpoints.wild.packed.method import method_of
from qfund.checkpoints.wild.quantized_file import QuantizedFile
from qfund.core.errors import ModelNotFound, UnsupportedModel
from qfund.core.feature import lazily


@dataclass(frozen=True, slots=True)
class Format:
    """A row.

    Attributes:
        recognized: whether a path (a file or a folder) is of this format; reads no more than a config or a header.
        open: lazy ``"module:function"``: path → ``QuantizedFile``; headers only, no weight is read.
        reference: the library whose decoding ours equals bit for bit.
        inputs: what its kernels round besides weights, in words; None for nothing.
    """

    name: str
    label: str
    recognized: Callable[[Path], bool]
    open: str
    reference: str
    inputs: str | None = None


def _is_gguf(path: Path) -> bool:
    return path.is_file() and path.suffix == ".gguf"


def _says(method: str) -> Callable[[Path], bool]:
    return lambda path: path.is_dir() and method_of(path) == method


def _folder(method: str, label: str, reference: str, inputs: str | None = None) -> Format:
    """Of a folder whose config names a method."""
    return Format(method, label, _says(method), "qfund.checkpoints.wild.packed.opening:open_folder", reference, inputs)


_FP8 = "FP8 kernels round inputs to E4M3"
_ROWS = (
    Format(
        "gguf",
        "GGUF",
        _is_gguf,
        "qfund.checkpoints.wild.gguf.opening:open_gguf",
        "gguf",
        "llama.cpp rounds inputs of quantised products to 8 bits, in blocks of 32 or 256",
    ),
    _folder("gptq", "GPTQ", "its description; as GPTQModel multiplies, in the scales' dtype (float16)"),
    _folder("awq", "AWQ", "its description; as AutoAWQ multiplies, in the scales' dtype (float16)"),
    _folder(
        "compressed-tensors",
        "compressed-tensors",
        "compressed-tensors; in the scales' dtype, of 4-bit floats in bfloat16",
        "where the config has input_activations, kernels round inputs so (int8, FP8, NVFP4)",
    ),
    _folder("fp8", "FP8", "transformers; in float32, cast to the model's dtype", _FP8 + " in groups of 128"),
    _folder("fbgemm_fp8", "FBGEMM FP8", "its description; in float32, cast to the model's dtype", _FP8 + " by token"),
    _folder("mxfp4", "MXFP4", "transformers; in bfloat16"),
    _folder(
        "bitsandbytes",
        "bitsandbytes",
        "bitsandbytes; 4 bits cast to the dtype of their state, 8 bits in float32",
        "its kernels of 8 bits round inputs to int8, but for columns of outliers",
    ),
    _folder(
        "torchao",
        "torchao",
        "torchao; in the dtype that each tensor had",
        "where a tensor says so (act_quant_kwargs), kernels round inputs",
    ),
    _folder("modelopt", "ModelOpt", "its description; in float32", _FP8 + ", NVFP4's to NVFP4; W4A16 ones none"),
    _folder("hqq", "HQQ", "its description; in the compute dtype that each layer says"),
    _folder("mlx", "MLX", "its description; in the scales' dtype"),
)

#: By name, in the order in which a path is held against them.
FORMATS = {row.name: row for row in _ROWS}


def open_file(path: Path) -> QuantizedFile:
    """A quantised file or folder, its headers read and checked.

    Raises:
        ModelNotFound: there is nothing.
        UnsupportedModel: it is of no format of the table.
        CorruptCheckpoint: it is truncated, malformed, or says what cannot be.
    """
    if not path.exists():
        raise ModelNotFound(f"There is no file or folder {path}.", "Check the path.")
    for row in FORMATS.values():
        if row.recognized(path):
            found: QuantizedFile = lazily(row.open)(path)
            return found
    if path.is_dir():
        lazily("qfund.checkpoints.wild.packed.opening:open_folder")(path)  # which says by name why not
    raise UnsupportedModel(
        f"{path} is no quantised file that qfund knows.",
        f"Name a file or folder of one of these formats: {', '.join(row.label for row in FORMATS.values())}.",
    )
