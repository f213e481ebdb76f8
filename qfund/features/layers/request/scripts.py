"""A recipe in the words of other tools: what one writes there to have the same, or the nearest that they know."""

import json
import re
from collections.abc import Mapping

from qfund.features.layers.request.exports import integers
from qfund.precisions.backends.table import BACKENDS
from qfund.precisions.precision import CODEBOOK, STORED
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
#: Kinds of modules of Llama and those named like it → llama.cpp's.
TENSORS = {
    "q_proj": "attn_q",
    "k_proj": "attn_k",
    "v_proj": "attn_v",
    "o_proj": "attn_output",
    "gate_proj": "ffn_gate",
    "up_proj": "ffn_up",
    "down_proj": "ffn_down",
}


def grouped(modules: Mapping[str, str], reference: str) -> dict[str, list[str]]:
    """Row → its modules, without those that stay in the reference."""
    found: dict[str, list[str]] = {}
    for name, row in modules.items():
        if row != reference:
            found.setdefault(row, []).append(name)
    return found


def llama_quantize(modules: Mapping[str, str]) -> str:
    """A command line for llama.cpp, each tensor in its nearest type; '' where no module has a name that it knows."""
    options = []
    for name, row in modules.items():
        parts = name.split(".")
        number = next((part for part in parts if part.isdigit()), None)
        given = GGUF.get(_base(row))
        if number is not None and parts[-1] in TENSORS and given:
            options.append(f"  --tensor-type 'blk\\.{number}\\.{TENSORS[parts[-1]]}={given}' \\")
    if not options:
        return ""
    return "\n".join(
        [
            "# llama.cpp's nearest types: their scales, and so the numbers, are not those that were measured here.",
            "llama-quantize \\",
            *options,
            "  model-f32.gguf model-recipe.gguf Q8_0",
        ]
    )


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
        "llama-quantize.sh": ("llama.cpp", llama_quantize(modules)),
        "llm-compressor.yaml": ("llm-compressor", llm_compressor(modules, reference)),
        "torchao_config.py": ("torchao", torchao(modules, reference)),
        "bitsandbytes_config.py": ("bitsandbytes", bitsandbytes(modules, reference)),
    }
    return {name: pair for name, pair in found.items() if pair[1]}


def _base(row: str) -> str:
    """``int4`` of ``int4_bf16``, its variant on another base."""
    found = PRECISIONS[row]
    assert found.family != STORED
    return found.variant_of or row
