"""How a checkpoint is quantised already, as its config.json says. No torch."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from qfund.checkpoints.headers import StoredTensor, shortened
from qfund.core.errors import CorruptCheckpoint, UnsupportedModel

#: What methods call the list of modules that they leave alone.
_KEPT = ("modules_to_not_convert", "llm_int8_skip_modules", "modules_in_block_to_not_quantize", "ignore")


#: What stands beside codes in the formats that transformers reads.
_SCALES = re.compile(r"scale|zero|g_idx|absmax|quant_map|quant_state|SCB|codebook|offset|meta")
_FACTS = re.compile(r"shape|format")


def beside_codes(name: str) -> str | None:
    """What a tensor of a quantised module is by its name: ``"scale"``, ``"buffer"`` for a fact such as the shape; None
    for weights, as codes or as numbers."""
    return "scale" if _SCALES.search(name) else "buffer" if _FACTS.search(name) else None


@dataclass(frozen=True, slots=True)
class Quantization:
    """The quantised form that a checkpoint comes in.

    Attributes:
        method: transformers' name: ``"bitsandbytes"``, ``"gptq"``.
        label: in a few words: ``"bitsandbytes nf4"``, ``"GPTQ 4 bits"``.
        description: ``label`` and what else the config says of it.
        kept: modules that the config leaves as they were; names, parts of names, or patterns.
        settings: all of it, as transformers reads it.
    """

    method: str
    label: str
    description: str
    kept: tuple[str, ...]
    settings: Mapping[str, Any]


def find(config: Mapping[str, Any]) -> Quantization | None:
    """What a config.json says; None where it speaks of no quantisation.

    Raises:
        CorruptCheckpoint: it says something that makes no sense.
    """
    entry = entry_of(config)
    return None if entry is None else _read(entry[1], entry[0])


def of_checkpoint(name: str, config: Mapping[str, Any], tensors: Mapping[str, StoredTensor]) -> Quantization | None:
    """``find``, held against the tensors that are there.

    Raises:
        CorruptCheckpoint: as ``find``, or every tensor is float.
        UnsupportedModel: it is quantised for MLX.
    """
    entry = entry_of(config)
    coded = next((key for key, tensor in tensors.items() if tensor.is_coded and not key.endswith("bias")), None)
    if coded is None:
        if entry is None:
            return None
        try:
            label = f" ({_read(entry[1], entry[0]).label})"
        except CorruptCheckpoint:
            label = ""
        raise CorruptCheckpoint(
            f"config.json says that {name} is quantised{label}, but every tensor is float: {entry[0]} is left over, as "
            "where somebody has merged or unpacked the weights.",
            f"Take {entry[0]} out of config.json if these are the original weights.",
        )
    if for_mlx(config, entry[1] if entry else None):
        raise UnsupportedModel(
            f"{name} is quantised for MLX, which packs weights for Apple's processors ({shortened(coded)} in "
            f"{tensors[coded].dtype}); transformers does not read that.",
            "Name the checkpoint that it was made from; beside that this one can be compared (--file).",
        )
    return None if entry is None else _read(entry[1], entry[0])


def entry_of(config: Mapping[str, Any]) -> tuple[str, Any] | None:
    """The part of a config.json that speaks of it, and its key. A model of several parts may say it in the part's."""
    parts = [part for part in config.values() if isinstance(part, dict)]
    entries = (
        (key, part.get(key)) for part in (config, *parts) for key in ("quantization_config", "compression_config")
    )
    return next(((key, value) for key, value in entries if value is not None), None)


def for_mlx(config: Mapping[str, Any], entry: Any) -> bool:
    """Whether a config, and what ``entry_of`` found in it, is of MLX. That writes ``quantization``, and since 2024 the
    same as ``quantization_config`` without a method."""
    settings = config.get("quantization")
    named = isinstance(entry, dict) and ("quant_method" in entry or "load_in_4bit" in entry or "load_in_8bit" in entry)
    return not named and any(
        isinstance(one, dict) and "bits" in one and "group_size" in one for one in (settings, entry)
    )


def _read(settings: Any, key: str) -> Quantization:
    if not isinstance(settings, dict):
        raise _corrupt(f"{key} is no JSON object")
    method = settings.get("quant_method")
    if method is None and (settings.get("load_in_4bit") or settings.get("load_in_8bit")):
        method = "bitsandbytes"  # as its first versions wrote it
    if not isinstance(method, str) or not method:
        raise _corrupt(f"{key} names no quant_method")
    format_ = _FORMATS.get(method, _Format(method))
    given = _Settings(settings, key)
    short, more = format_.describe(given)
    label = f"{format_.name} {short}".strip()
    kept = next((given.names(name) for name in _KEPT if settings.get(name)), ())
    return Quantization(method, label, ", ".join([label, *more]), kept, settings)


def _corrupt(what: str) -> CorruptCheckpoint:
    return CorruptCheckpoint(
        f"config.json says that the checkpoint is quantised, but not how: {what}.", "Download the checkpoint again."
    )


class _Settings:
    """Values of a ``quantization_config``, each of the kind it has to be."""

    def __init__(self, values: Mapping[str, Any], path: str) -> None:
        self.values, self.path = values, path

    def _get(self, kind: type, names: tuple[str, ...]) -> Any:
        for name in names:
            value = self.values.get(name)
            if value is not None:
                if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
                    raise _corrupt(f"{self.path}.{name} is {value!r}")
                return value
        return None

    def whole(self, *names: str) -> int | None:
        """The first of these that is given."""
        found: int | None = self._get(int, names)
        return found

    def text(self, name: str) -> str | None:
        found: str | None = self._get(str, (name,))
        return found

    def flag(self, name: str) -> bool:
        return bool(self._get(bool, (name,)))

    def part(self, name: str) -> "_Settings":
        return _Settings(self._get(dict, (name,)) or {}, f"{self.path}.{name}")

    def names(self, name: str) -> tuple[str, ...]:
        return tuple(map(str, self._get(list, (name,)) or ()))


_Words = tuple[str, list[str]]


def _bitsandbytes(given: _Settings) -> _Words:
    if given.flag("load_in_8bit"):
        threshold = given.values.get("llm_int8_threshold", 6.0)
        return "int8", [f"activation columns beyond {threshold} multiplied in 16 bits"] if threshold else []
    more = ["double-quantised"] if given.flag("bnb_4bit_use_double_quant") else []
    if dtype := given.text("bnb_4bit_compute_dtype"):
        more.append(f"multiplied in {dtype}")
    return given.text("bnb_4bit_quant_type") or "fp4", more


def _bits(given: _Settings) -> str:
    bits = given.whole("bits", "w_bit", "nbits")
    return f"{bits} bits" if bits else ""


def _groups(given: _Settings) -> list[str]:
    size = given.whole("group_size", "q_group_size")
    return [] if size is None else [f"groups of {size}"] if size > 0 else ["one scale a row"]


def _gptq(given: _Settings) -> _Words:
    more = _groups(given)
    if given.values.get("sym") is False or given.values.get("zero_point") is True:
        more.append("asymmetric")
    if given.values.get("desc_act") is True:
        more.append("columns by activation order")
    return _bits(given), more


def _hqq(given: _Settings) -> _Words:
    weights = given.part("quant_config").part("weight_quant_params")
    return _bits(weights), _groups(weights)


def _fp8(given: _Settings) -> _Words:
    block = given.values.get("weight_block_size")
    more = [f"blocks of {'×'.join(map(str, block))}"] if isinstance(block, list) else []
    if scheme := given.text("activation_scheme"):
        more.append(f"activations too ({scheme} scales)")
    return given.text("fmt") or "", more


def _mxfp4(given: _Settings) -> _Words:
    return "", ["blocks of 32"]


def _torchao(given: _Settings) -> _Words:
    if isinstance(given.values.get("quant_type"), str):
        return given.text("quant_type") or "", []
    default = given.part("quant_type").part("default")
    return (default.text("_type") or "").removesuffix("Config"), _groups(default.part("_data"))


def _compressed_tensors(given: _Settings) -> _Words:
    more = []
    groups = given.part("config_groups")
    for name in groups.values:
        group = groups.part(name)
        parts = (("weights", group.part("weights")), ("activations", group.part("input_activations")))
        if words := [f"{what} {_compressed(part)}" for what, part in parts if part.values]:
            more.append(" and ".join(words))
    return given.text("format") or "", more


def _compressed(part: _Settings) -> str:
    size, strategy = part.whole("group_size"), part.text("strategy")
    scales = f" in groups of {size}" if size and size > 0 else f" per {strategy}" if strategy else ""
    return f"{part.text('type') or ''}{part.whole('num_bits') or ''}{scales}"


def _modelopt(given: _Settings) -> _Words:
    return given.text("quant_algo") or "", _groups(given)


def _quanto(given: _Settings) -> _Words:
    return given.text("weights") or "", []


def _others(given: _Settings) -> _Words:
    return _bits(given), _groups(given)


@dataclass(frozen=True, slots=True)
class _Format:
    """A published format: what people call it, and what its settings say in a few words, and in more."""

    name: str
    describe: Callable[[_Settings], _Words] = _others


#: By transformers' name of the method.
_FORMATS = {
    "aqlm": _Format("AQLM"),
    "auto-round": _Format("AutoRound"),
    "awq": _Format("AWQ", _gptq),
    "bitnet": _Format("BitNet"),
    "bitsandbytes": _Format("bitsandbytes", _bitsandbytes),
    "compressed-tensors": _Format("compressed-tensors", _compressed_tensors),
    "eetq": _Format("EETQ"),
    "fbgemm_fp8": _Format("FBGEMM FP8"),
    "fp8": _Format("FP8", _fp8),
    "fp_quant": _Format("FP-Quant"),
    "gptq": _Format("GPTQ", _gptq),
    "higgs": _Format("HIGGS"),
    "hqq": _Format("HQQ", _hqq),
    "modelopt": _Format("ModelOpt", _modelopt),
    "mxfp4": _Format("MXFP4", _mxfp4),
    "mxfp8": _Format("MXFP8"),
    "nvfp4": _Format("NVFP4"),
    "quanto": _Format("Quanto", _quanto),
    "quark": _Format("Quark"),
    "spqr": _Format("SpQR"),
    "torchao": _Format("torchao", _torchao),
    "vptq": _Format("VPTQ"),
}
