"""The types of GGUF files as rows of the table: what llama-quantize makes without an importance matrix."""

from dataclasses import replace

from qfund.precisions.precision import GGUF, Precision

_BLOCKS = "qfund.precisions.quantizers.ggml.blocks:"
_MIXES = "qfund.precisions.quantizers.ggml.mixes:"
_INPUTS = "qfund.precisions.quantizers.ggml.inputs:INPUTS"

#: Label, bits of a code, bits of what turns codes into numbers for each weight, weights of a block, what these share,
#: and the SQNR in dB that normal weights reach.
_TYPES = (
    ("Q8_0", 8, 16 / 32, 32, "a scale in FP16 per 32", 45.0),
    ("Q6_K", 6, 144 / 256, 256, "scales of 8 bits per 16, one in FP16 per 256", 35.0),
    ("Q5_K", 5, 128 / 256, 256, "scales and minima of 6 bits per 32, two in FP16 per 256", 28.0),
    ("Q5_1", 5, 32 / 32, 32, "a scale and a minimum in FP16 per 32", 28.0),
    ("Q5_0", 5, 16 / 32, 32, "a scale in FP16 per 32", 27.0),
    ("Q4_K", 4, 128 / 256, 256, "scales and minima of 6 bits per 32, two in FP16 per 256", 22.0),
    ("Q4_1", 4, 32 / 32, 32, "a scale and a minimum in FP16 per 32", 22.0),
    ("Q4_0", 4, 16 / 32, 32, "a scale in FP16 per 32", 21.0),
    ("IQ4_NL", 4, 16 / 32, 32, "a scale in FP16 per 32", 22.0),
    ("IQ4_XS", 4, 64 / 256, 256, "scales of 6 bits per 32, one in FP16 per 256", 22.0),
    ("Q3_K", 3, 112 / 256, 256, "scales of 6 bits per 16, one in FP16 per 256", 16.0),
    ("Q2_K", 2, 160 / 256, 256, "scales and minima of 4 bits per 16, two in FP16 per 256", 10.0),
)
#: Object, label, the type of most tensors, what else the file holds.
_FILES = (
    ("Q5_K_M", "Q5_K_M", "Q5_K", "Q6_K for the head and for half of the values and of what leads down"),
    ("Q5_K_S", "Q5_K_S", "Q5_K", "Q6_K for the head"),
    ("Q4_K_M", "Q4_K_M", "Q4_K", "Q6_K for the head and for half of the values and of what leads down"),
    (
        "Q4_K_S",
        "Q4_K_S",
        "Q4_K",
        "Q6_K for the head, Q5_K for the first values and what leads down in the first layers",
    ),
    ("Q4_0_MIX", "Q4_0 mix", "Q4_0", "Q6_K for the head"),
    ("IQ4_XS_MIX", "IQ4_XS mix", "IQ4_XS", "Q6_K for the head, Q5_K for shared values and first layers"),
    ("Q3_K_M", "Q3_K_M", "Q3_K", "Q6_K for the head, Q4_K or Q5_K for values, attention outputs and what leads down"),
    (
        "Q2_K_MIX",
        "Q2_K mix",
        "Q2_K",
        "Q6_K for the head, Q3_K or Q4_K for values, attention outputs and what leads down",
    ),
)


def _pure(label: str, bits: int, more: float, size: int, shared: str, floor: float) -> Precision:
    return Precision(
        name=label.lower(),
        label=label,
        family=GGUF,
        bits=bits,
        dtype="float32",
        meaning=f"Every matrix of a GGUF file as {label} (llama-quantize --pure): what the file costs by itself.",
        arithmetic="weights are dequantised before each multiplication, which runs in fp32",
        sqnr_floor=floor,
        quantizer=_BLOCKS + label,
        granularity=shared,
        group=size,
        storage="the bytes of a GGUF file",
        scale_bits=more,
        every_matrix=True,
        kept="qfund.precisions.quantizers.ggml.names:kept",
    )


def _mixed(object_: str, label: str, base: Precision, others: str) -> Precision:
    return replace(
        base,
        name=object_.lower(),
        label=label,
        meaning=f"A {label.removesuffix(' mix')} file as llama-quantize makes it: most tensors {base.label}, {others}.",
        quantizer=_MIXES + object_,
    )


def _run(row: Precision) -> Precision:
    """The file as llama.cpp's kernels run it."""
    return replace(
        row,
        name=f"{row.name}_inputs",
        label=f"{row.label} weights and inputs",
        meaning=f"As llama.cpp runs a {row.label} file: inputs of linear layers are rounded to 8 bits too.",
        arithmetic="inputs of linear layers are rounded to 8 bits in blocks of 32 or 256 and multiplied with "
        "dequantised weights in fp32; norms, attention and logits in fp32",
        product=_INPUTS,
        variant_of=row.name,
        emulated="llama.cpp multiplies the integers of a block themselves; only the rounding of sums differs.",
    )


def rows() -> tuple[Precision, ...]:
    """Files, each followed by the same as it is run."""
    pure = {kind[0]: _pure(*kind) for kind in _TYPES}
    mixed = [_mixed(object_, label, pure[base], others) for object_, label, base, others in _FILES]
    return tuple(row for file in (*pure.values(), *mixed) for row in (file, _run(file)))
