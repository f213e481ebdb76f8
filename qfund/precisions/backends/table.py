"""The libraries that really store and really run low precision, and which of our precisions each one has.

One table, read without importing torch or any library: a page can say what there is and what is missing at once.
``Implementation.load`` imports the library and gives a ``qfund.precisions.backends.conversion.Converter``.
"""

import importlib.util
import logging
import os
from dataclasses import dataclass, replace
from pkgutil import resolve_name
from typing import Any

_SUFFIX = "_bf16"


@dataclass(frozen=True, slots=True)
class Implementation:
    """How one library does one precision.

    Attributes:
        backend: name of its row in ``BACKENDS``.
        precision: the precision's name; from ``implementations``, the name that was asked for, ``_bf16`` included.
        target: lazy ``"module:object"`` of the ``Converter``.
        call: what a user of the library writes to get it.
        note: where it differs from what the precision's name promises; empty if it does not.
        devices: types of device that it runs on.
        base: dtype that the rest of the model must be in; None for any.
    """

    backend: str
    precision: str
    target: str
    call: str
    note: str = ""
    devices: tuple[str, ...] = ("cpu", "cuda")
    base: str | None = None

    def load(self) -> Any:
        """The converter; imports torch and the library, which takes seconds."""
        return resolve_name(self.target)


@dataclass(frozen=True, slots=True)
class Backend:
    """One library.

    Attributes:
        package: what Python imports.
        install: the command that installs it.
        home: where it lives.
    """

    name: str
    package: str
    install: str
    home: str
    meaning: str
    rows: tuple[Implementation, ...]


_ONE_BYTE = "torchao stores every weight in a whole byte, whatever the width: the bytes are those of int8 in groups."
_PER_ROW = "One scale per output channel; an all-zero row becomes NaN."
_OUTLIERS = "LLM.int8() with its default threshold of 6: activations are int8 too, but for columns with larger values."
_FP16_INPUTS = "Weights and activations pass through fp16 on the way to int8."
_CODES = (
    "Blocks of 64, absmax in fp32. The repacking for CPUs with AVX512-BF16 is off: it corrupts a model that is saved. "
    "CPUs with AVX-512 read wrong scales where a row's length is a multiple of 16 and not of 64."
)
_MX = (
    "A prototype; activations are quantised to the same format, and products are emulated, not run in it. Stored "
    "scales are padded to tiles of 128 × 4."
)


def _torchao(precision: str, target: str, call: str, note: str = "", **more: Any) -> Implementation:
    return Implementation("torchao", precision, f"qfund.precisions.backends.torchao:{target}", call, note, **more)


def _intx(precision: str, target: str, arguments: str) -> Implementation:
    return _torchao(precision, target, f"IntxWeightOnlyConfig({arguments})", _ONE_BYTE)


def _bitsandbytes(precision: str, target: str, call: str, note: str) -> Implementation:
    return Implementation("bitsandbytes", precision, f"qfund.precisions.backends.bitsandbytes:{target}", call, note)


_TORCHAO = (
    _torchao("int8", "INT8", "Int8WeightOnlyConfig()"),
    _torchao("int8_dynamic", "INT8_DYNAMIC", "Int8DynamicActivationInt8WeightConfig()"),
    _torchao("int8_g32", "INT8_G32", "Int8WeightOnlyConfig(granularity=PerGroup(32))"),
    _intx("int6", "INT6", "torch.int6, PerGroup(32)"),
    _intx("int5", "INT5", "torch.int5, PerGroup(32)"),
    _intx("int4", "INT4", "torch.int4, PerGroup(32)"),
    _intx("int4_asym", "INT4_ASYM", "torch.int4, PerGroup(32), MappingType.ASYMMETRIC"),
    _intx("int4_g64", "INT4_G64", "torch.int4, PerGroup(64)"),
    _intx("int4_g128", "INT4_G128", "torch.int4, PerGroup(128)"),
    _intx("int3", "INT3", "torch.int3, PerGroup(32)"),
    _intx("int2", "INT2", "torch.int2, PerGroup(32)"),
    _torchao(
        "int4_dynamic",
        "INT4_DYNAMIC",
        "Int8DynamicActivationIntxWeightConfig(torch.int4, PerGroup(32))",
        f"{_ONE_BYTE} Activations: int8, asymmetric, per token; the product itself is in float.",
    ),
    _torchao("fp8_e4m3", "FP8_E4M3", "Float8WeightOnlyConfig()", _PER_ROW),
    _torchao("fp8_e5m2", "FP8_E5M2", "Float8WeightOnlyConfig(torch.float8_e5m2)", _PER_ROW),
    _torchao(
        "fp8_dynamic",
        "FP8_DYNAMIC",
        "Float8DynamicActivationFloat8WeightConfig(granularity=PerRow())",
        f"{_PER_ROW} Needs a GPU of compute capability 8.9 or higher; qfund's own tests never ran it.",
        devices=("cuda",),
    ),
    _torchao(
        "nvfp4",
        "NVFP4",
        "NVFP4WeightOnlyConfig()",
        "A prototype, weight-only: dequantised before each product. Stored scales are padded to tiles of 128 × 4.",
    ),
    _torchao("mxfp8", "MXFP8", "MXDynamicActivationMXWeightConfig(EMULATED, FLOOR)", _MX, base="bfloat16"),
    _torchao(
        "mxfp4",
        "MXFP4",
        "MXDynamicActivationMXWeightConfig(float4, EMULATED, FLOOR)",
        _MX,
        base="bfloat16",
    ),
)

_BITSANDBYTES = (
    _bitsandbytes("int8", "INT8", "Linear8bitLt(threshold=6.0)", f"{_OUTLIERS} {_FP16_INPUTS}"),
    _bitsandbytes("int8_dynamic", "INT8_DYNAMIC", "Linear8bitLt(threshold=0.0)", _FP16_INPUTS),
    _bitsandbytes("nf4", "NF4", 'Linear4bit(quant_type="nf4", compress_statistics=False)', _CODES),
    _bitsandbytes("fp4", "FP4", 'Linear4bit(quant_type="fp4", compress_statistics=False)', _CODES),
)

BACKENDS: dict[str, Backend] = {
    backend.name: backend
    for backend in (
        Backend(
            name="torchao",
            package="torchao",
            install="pip install torchao",
            home="https://github.com/pytorch/ao",
            meaning="PyTorch's own library: a quantised weight is a tensor subclass in an ordinary Linear.",
            rows=_TORCHAO,
        ),
        Backend(
            name="bitsandbytes",
            package="bitsandbytes",
            install="pip install bitsandbytes",
            home="https://github.com/bitsandbytes-foundation/bitsandbytes",
            meaning="LLM.int8() and QLoRA's 4-bit formats: each Linear is replaced by a class of its own.",
            rows=_BITSANDBYTES,
        ),
    )
}

#: Libraries that were tried and are not in the table, with the reason.
NOT_INCLUDED: dict[str, str] = {
    "optimum-quanto": "in maintenance only; nothing here that torchao lacks",
    "hqq": "hardly maintained, and transformers' HqqConfig does not work in this release",
    "FBGEMM, EETQ, HIGGS, GPTQ, AWQ, FineGrainedFP8": "refuse to run without a GPU or packages of their own",
    "torch.ao.quantization": "deprecated; per tensor; hides its weights from every count of bytes",
}


def quiet() -> None:
    """Keep the libraries from telling everybody what they lack when they are imported.

    To be called before transformers is imported, which imports torchao wherever it is installed. torchao's compiled
    kernels are for GPUs, and nothing in the table uses them.
    """
    os.environ.setdefault("TORCHAO_FORCE_SKIP_LOADING_SO_FILES", "1")
    for name in ("torchao", "torch.utils._pytree", "bitsandbytes"):
        logging.getLogger(name).setLevel(logging.ERROR)


def implementations(precision: str) -> tuple[Implementation, ...]:
    """All libraries' implementations of a precision; ``int8_bf16`` has those of ``int8``."""
    base = precision.removesuffix(_SUFFIX)
    return tuple(
        replace(row, precision=precision)
        for backend in BACKENDS.values()
        for row in backend.rows
        if row.precision == base
    )


def unavailable(implementation: Implementation, device: str) -> str | None:
    """None if it can run here on that device (``"cpu"``, ``"cuda:0"``), else why not and what to do about it."""
    backend = BACKENDS[implementation.backend]
    if implementation.base == "bfloat16" and not implementation.precision.endswith(_SUFFIX):
        better = implementation.precision + _SUFFIX
        return f"{backend.name} does {implementation.precision} in bf16 models only. Choose {better}."
    if device.partition(":")[0] not in implementation.devices:
        where = " or ".join(implementation.devices)
        return f"{backend.name} has no {implementation.precision} for {device}. It needs a device of type {where}."
    if importlib.util.find_spec(backend.package) is None:
        return f"{backend.name} is not installed. Install it with: {backend.install}"
    return None
