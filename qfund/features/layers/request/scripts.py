"""A recipe in the words of other tools: what one writes there to have the same, or the nearest that they know."""

import json
import re
from collections.abc import Mapping

from qfund.features.layers.request.exports import integers
from qfund.precisions.backends.table import BACKENDS
from qfund.precisions.gguf_names import gguf_name
from qfund.precisions.precision import CODEBOOK, STORED
from qfund.precisions.precision import GGUF as GGUF_TYPES
from qfund.precisions.table import PRECISIONS

#: llama.cpp's type of a tensor that is nearest to a row, by codes and weights that share a scale.
GGUF = {
    "fp32": "f32",
    "fp16": "f16",
    "bf16": "bf16",
    "int8": "q8_0",
    "int8_g32": "q8_0",
    "int6": "q6_K",
    "int5": "q5_0",
    "int4": "q4_0",
    "int4_asym": "q4_1",
    "int4_g64": "q4_0",
    "int4_g128": "q4_0",
    "int3": "q3_K",
    "int2": "q2_K",
    "nf4": "iq4_nl",
    "fp4": "iq4_nl",
    "mxfp4": "mxfp4",
}
#: Stacked experts are several tensors of a GGUF file.
_STACKED = ("gate_proj", "up_proj", "down_proj")


#: ModelOpt's formats of floats in blocks: (exponent, mantissa) bits of a number and of a block's scale.
_MODELOPT = {
    "fp8_e4m3": '{"num_bits": (4, 3), "axis": None}',
    "mxfp8": '{"num_bits": (4, 3), "block_sizes": {-1: 32, "type": "dynamic", "scale_bits": (8, 0)}}',
    "mxfp4": '{"num_bits": (2, 1), "block_sizes": {-1: 32, "type": "dynamic", "scale_bits": (8, 0)}}',
    "nvfp4": '{"num_bits": (2, 1), "block_sizes": {-1: 16, "type": "dynamic", "scale_bits": (4, 3)}}',
}


def grouped(modules: Mapping[str, str], reference: str) -> dict[str, list[str]]:
    """Row → its modules, without those that stay in the reference."""
    found: dict[str, list[str]] = {}
    for name, row in modules.items():
        if row != reference:
            found.setdefault(row, []).append(name)
    return found


def llama_quantize(modules: Mapping[str, str], reference: str) -> str:
    """A command line for llama.cpp, each tensor in its type or the nearest, and all others as wide as the reference;
    '' where no module has a name that it knows."""
    options, same = [], True
    for name, row in modules.items():
        given = row if PRECISIONS[row].family == GGUF_TYPES else GGUF.get(_base(row), "")
        same &= row in (given, reference)
        options += [
            f"  --tensor-type '{tensor.replace('.', chr(92) + '.')}={given}' \\" for tensor in _tensors(name) if given
        ]
    if not options:
        return ""
    told = "are those that were measured here" if same else "have other scales, and so numbers, than were measured here"
    wide = GGUF[_base(reference)]
    return "\n".join(
        [
            f"# llama.cpp's types {told}; of rows that its blocks do not fill it takes others, and says so.",
            f"llama-quantize --token-embedding-type {wide} --output-tensor-type {wide} \\",
            *options,
            "  model-f32.gguf model-recipe.gguf Q8_0",
        ]
    )


def _tensors(module: str) -> list[str]:
    """What llama.cpp calls the weights of a module: ``["blk.0.attn_q.weight"]``."""
    names = [f"{module}.{part}" for part in _STACKED] if module.endswith("experts") else [f"{module}.weight"]
    return [found for name in names if (found := gguf_name(name))]


def llm_compressor(modules: Mapping[str, str], reference: str) -> str:
    """A recipe of llm-compressor (YAML); '' where it holds none of the rows. A name in quotes is JSON, and so YAML."""
    lines = []
    for number, (row, names) in enumerate(grouped(modules, reference).items()):
        if (held := integers(PRECISIONS[row])) is None:
            continue
        lines += [
            f"        group_{number}:",
            "          targets:",
            *(f"            - {json.dumps(name)}" for name in names),
        ]
        lines += [
            "          weights:",
            *(f"            {key}: {json.dumps(value)}" for key, value in held.settings.items()),
        ]
    if not lines:
        return ""
    kept = [name for name, row in modules.items() if row == reference]
    return "\n".join(
        [
            "quant_stage:",
            "  quant_modifiers:",
            "    QuantizationModifier:",
            f"      ignore: {json.dumps(['lm_head', *kept])}",
            "      config_groups:",
            *lines,
        ]
    )


def torchao(modules: Mapping[str, str], reference: str) -> str:
    """Python for torchao's configuration by module; '' where it has none of the rows."""
    calls = {row.precision: row.call for row in BACKENDS["torchao"].rows}
    groups = {row: names for row, names in grouped(modules, reference).items() if _base(row) in calls}
    if not groups:
        return ""
    used = {word for row in groups for word in re.findall(r"(?<![.\w])[A-Z]\w+", calls[_base(row)])}
    named = ", ".join([*sorted({"FqnToConfig", *used}), "quantize_"])
    lines = ["import torch", f"from torchao.quantization import {named}", ""]
    lines += [f"{row} = {calls[_base(row)]}" for row in groups]
    lines += ["", "config = FqnToConfig({"]
    lines += [f"    {json.dumps(name)}: {row}," for row, names in groups.items() for name in names]
    return "\n".join([*lines, "})", "quantize_(model, config, filter_fn=None)"])


def modelopt(modules: Mapping[str, str], reference: str) -> str:
    """Python for NVIDIA's ModelOpt, weights alone; '' where it has none of the rows."""
    groups = {
        row: names
        for row, names in grouped(modules, reference).items()
        if _base(row) in _MODELOPT or integers(PRECISIONS[row])
    }
    if not groups:
        return ""
    lines = []
    for row, names in groups.items():
        held = integers(PRECISIONS[row])
        shared = '"axis": 0' if held and held.group is None else f'"block_sizes": {{-1: {held.group}}}' if held else ""
        given = _MODELOPT.get(_base(row)) or f'{{"num_bits": {held.bits if held else 0}, {shared}}}'
        lines.append(f"{row} = {given}")
        lines.append(f"quantizers += [(name, {row}) for name in [")
        lines += [f"    {json.dumps(name)}," for name in names]
        lines.append("]]")
    return "\n".join(
        [
            "import modelopt.torch.quantization as mtq",
            "",
            "quantizers = []",
            *lines,
            "",
            "config = {",
            '    "quant_cfg": [',
            '        {"quantizer_name": "*", "enable": False},',
            '        *({"quantizer_name": f"{name}.weight_quantizer", "cfg": cfg} for name, cfg in quantizers),',
            "    ],",
            '    "algorithm": "max",',
            "}",
            "model = mtq.quantize(model, config)",
        ]
    )


def bitsandbytes(modules: Mapping[str, str], reference: str) -> str:
    """Python for the row of 4-bit codes that most modules have, and what it shall leave alone; '' where none has."""
    groups = grouped(modules, reference)
    coded = {row: names for row, names in groups.items() if PRECISIONS[row].family == CODEBOOK}
    if not coded:
        return ""
    row = max(coded, key=lambda name: len(coded[name]))
    skipped = [name for name, other in modules.items() if other != row]
    dtype = PRECISIONS[reference].dtype
    return "\n".join(
        [
            "import torch",
            "from transformers import BitsAndBytesConfig",
            "",
            f"# Everything that is not {PRECISIONS[row].label} stays in {PRECISIONS[reference].label}.",
            "config = BitsAndBytesConfig(",
            "    load_in_4bit=True,",
            f'    bnb_4bit_quant_type="{_base(row)}",',
            f"    bnb_4bit_compute_dtype=torch.{dtype},",
            "    llm_int8_skip_modules=[",
            *(f"        {json.dumps(name)}," for name in ["lm_head", *skipped]),
            "    ],",
            ")",
        ]
    )


def every(modules: Mapping[str, str], reference: str) -> dict[str, tuple[str, str]]:
    """Name of a file → (the tool, what is written for it), of the tools that know some of the rows."""
    found = {
        "llama-quantize.sh": ("llama.cpp", llama_quantize(modules, reference)),
        "llm-compressor.yaml": ("llm-compressor", llm_compressor(modules, reference)),
        "modelopt_config.py": ("ModelOpt", modelopt(modules, reference)),
        "torchao_config.py": ("torchao", torchao(modules, reference)),
        "bitsandbytes_config.py": ("bitsandbytes", bitsandbytes(modules, reference)),
    }
    return {name: pair for name, pair in found.items() if pair[1]}


def _base(row: str) -> str:
    """``int4`` of ``int4_bf16``, its variant on another base."""
    found = PRECISIONS[row]
    assert found.family != STORED
    return found.variant_of or row
