"""The one table of precisions. A row is all that a further one needs; every list elsewhere iterates this table."""

from dataclasses import replace

from qfund.core.errors import UnavailablePrecision
from qfund.core.names import look_up
from qfund.precisions import gguf_rows
from qfund.precisions.precision import BASES, CAST, CODEBOOK, FLOAT, GGUF, INTEGER, MEANING, STORED, Precision

_DEQUANTIZED = "weights are dequantised before each multiplication, which runs in {base}"
_INTEGERS = "qfund.precisions.quantizers.integer:"
_FLOATS = "qfund.precisions.quantizers.float8:"
_MICRO = "qfund.precisions.quantizers.microscaling:"
_CODES = "qfund.precisions.quantizers.codebook:"
_PRODUCTS = "qfund.precisions.quantizers.activations:"
_CASTS = "qfund.precisions.quantizers.cast:"


def _cast(name: str, label: str, bits: int, dtype: str, meaning: str, floor: float) -> Precision:
    low = label.lower()
    return Precision(
        name=name,
        label=label,
        family=CAST,
        bits=bits,
        dtype=dtype,
        meaning=meaning,
        arithmetic=f"whole model in {low}: weights, activations and logits",
        sqnr_floor=floor,
    )


def _integers(name: str, label: str, bits: int, object_: str, group: int | None, floor: float) -> Precision:
    """A symmetric, weight-only integer format on fp32."""
    per = "output channel" if group is None else f"group of {group}"
    packed = {8: "a byte each", 4: "two a byte", 2: "four a byte", 6: "4 + 2 bits, packed", 5: "4 + 1 bits, packed"}
    return Precision(
        name=name,
        label=label,
        family=INTEGER,
        bits=bits,
        dtype="float32",
        meaning=f"{bits}-bit integers, symmetric around zero, one scale per {per}.",
        arithmetic=_DEQUANTIZED,
        sqnr_floor=floor,
        quantizer=_INTEGERS + object_,
        granularity=f"per {per}, in {'the base' if bits < 8 else 'FP32'}",
        group=group,
        storage=packed.get(bits, "2 + 1 bits, packed"),
        scale_bits=32 / group if group else 0.0,
        scales_in_base=bits < 8,
    )


def _meanings(cast: str, dtype: str, floor: float) -> tuple[Precision, ...]:
    """What else is called by the name of a 16-bit cast, beside the whole model in it."""
    label = cast.upper()
    weights = Precision(
        name=f"{cast}_weights",
        label=f"{label} weights",
        family=MEANING,
        bits=16,
        dtype="float32",
        meaning=f"Weights stored in {label}, all that they meet in FP32: what rounding the weights alone costs.",
        arithmetic="weights are widened before each multiplication, which runs in fp32",
        sqnr_floor=floor,
        quantizer=_CASTS + label,
        storage=f"as {label}",
        every_matrix=True,
    )
    inputs = replace(
        weights,
        name=f"{cast}_inputs",
        label=f"{label} weights and inputs",
        meaning=f"As llama.cpp runs {label}: linear layers round their inputs to {label} too, and sum in FP32.",
        arithmetic=f"weights and inputs of linear layers are rounded to {cast}, their products summed in fp32; "
        "norms, attention and logits in fp32",
        product=_PRODUCTS + f"{label}_INPUTS",
    )
    autocast = Precision(
        name=f"{cast}_autocast",
        label=f"{label} autocast",
        family=MEANING,
        bits=32,
        dtype="float32",
        meaning=f"torch.autocast: FP32 weights, each rounded to {label} whenever it is multiplied. No smaller.",
        arithmetic=f"what torch.autocast chooses: multiplications in {cast}, norms and softmax in fp32",
        sqnr_floor=200.0,
        autocast=dtype,
    )
    head = Precision(
        name=f"{cast}_fp32_head",
        label=f"{label} with FP32 head",
        family=MEANING,
        bits=16,
        dtype=dtype,
        meaning=f"The whole model in {label}, but the output head multiplies in FP32, so that logits are not rounded.",
        arithmetic=f"whole model in {cast}; the output head's weights and inputs are widened, multiplied and summed in "
        "fp32",
        sqnr_floor=floor,
        head="float32",
    )
    return weights, inputs, autocast, head


_ROWS = (
    _cast(
        "fp64",
        "FP64",
        64,
        "float64",
        "Double precision: 11 exponent and 52 fraction bits. The yardstick for what fp32 itself rounds away.",
        200.0,
    ),
    _cast(
        "fp32",
        "FP32",
        32,
        "float32",
        "IEEE single precision: 8 exponent and 23 fraction bits. The usual reference.",
        200.0,
    ),
    Precision(
        name="tf32",
        label="TF32",
        family=CAST,
        bits=32,
        dtype="float32",
        meaning="fp32 in memory; the tensor cores round what they multiply to 10 fraction bits. Faster, no smaller.",
        arithmetic="weights stored in fp32, rounded to 10 fraction bits in each multiplication, summed in fp32",
        sqnr_floor=200.0,
        device="cuda",
    ),
    _cast(
        "bf16",
        "BF16",
        16,
        "bfloat16",
        "fp32's range with 7 fraction bits: nothing overflows, two to three digits remain.",
        55.0,
    ),
    _cast(
        "fp16",
        "FP16",
        16,
        "float16",
        "IEEE half precision: 10 fraction bits, but values beyond 65504 overflow.",
        73.0,
    ),
    _integers("int8", "INT8 weight-only", 8, "INT8_PER_CHANNEL", None, 41.0),
    replace(
        _integers("int8_dynamic", "INT8 dynamic", 8, "INT8_PER_CHANNEL", None, 41.0),
        meaning="W8A8: weights as int8; activations become 8-bit integers too, token by token, as they come.",
        arithmetic="8-bit integers are multiplied with 8-bit integers and summed exactly in 32 bits, then scaled",
        product=_PRODUCTS + "INT8_DYNAMIC",
    ),
    _integers("int8_g32", "INT8 g32", 8, "INT8_G32", 32, 44.0),
    _integers("int6", "INT6 g32", 6, "INT6_G32", 32, 32.0),
    _integers("int5", "INT5 g32", 5, "INT5_G32", 32, 26.0),
    _integers("int4", "INT4 g32", 4, "INT4_G32", 32, 20.0),
    replace(
        _integers("int4_asym", "INT4 g32 asym", 4, "INT4_G32_ASYM", 32, 21.0),
        meaning="4-bit integers from the smallest to the largest weight of a group of 32: a scale and a zero-point.",
        zero_point_bits=8 / 32,
    ),
    _integers("int4_g64", "INT4 g64", 4, "INT4_G64", 64, 19.0),
    _integers("int4_g128", "INT4 g128", 4, "INT4_G128", 128, 18.0),
    replace(
        _integers("int4_dynamic", "INT4 dynamic", 4, "INT4_G32", 32, 20.0),
        meaning="W4A8: weights as int4 in groups of 32; activations are rounded to 8-bit integers, token by token.",
        arithmetic="activations are rounded to 8 bits, weights dequantised, and both multiplied in {base}",
        product=_PRODUCTS + "INT4_DYNAMIC",
        emulated="Kernels made for it multiply the integers themselves; only the rounding of sums differs.",
    ),
    _integers("int3", "INT3 g32", 3, "INT3_G32", 32, 13.0),
    _integers("int2", "INT2 g32", 2, "INT2_G32", 32, 6.0),
    Precision(
        name="fp8_e4m3",
        label="FP8 E4M3",
        family=FLOAT,
        bits=8,
        dtype="float32",
        meaning="8-bit floats with 3 fraction bits, one scale per output channel so that nothing passes 448.",
        arithmetic=_DEQUANTIZED,
        sqnr_floor=31.0,
        quantizer=_FLOATS + "FP8_E4M3",
        granularity="per output channel, in FP32",
        storage="a byte each",
    ),
    Precision(
        name="fp8_e5m2",
        label="FP8 E5M2",
        family=FLOAT,
        bits=8,
        dtype="float32",
        meaning="8-bit floats with 2 fraction bits and a wider range, one scale per output channel.",
        arithmetic=_DEQUANTIZED,
        sqnr_floor=25.0,
        quantizer=_FLOATS + "FP8_E5M2",
        granularity="per output channel, in FP32",
        storage="a byte each",
    ),
    Precision(
        name="fp8_dynamic",
        label="FP8 dynamic",
        family=FLOAT,
        bits=8,
        dtype="float32",
        meaning="Weights as FP8 E4M3; activations become FP8 too, token by token, as they come.",
        arithmetic="activations and weights are rounded to 8-bit floats and multiplied in {base}",
        sqnr_floor=31.0,
        quantizer=_FLOATS + "FP8_E4M3",
        product=_PRODUCTS + "FP8_DYNAMIC",
        granularity="per output channel, in FP32",
        storage="a byte each",
        emulated="GPUs of compute capability 8.9 or newer multiply FP8 themselves; only the rounding of sums differs.",
    ),
    Precision(
        name="mxfp8",
        label="MXFP8",
        family=FLOAT,
        bits=8,
        dtype="float32",
        meaning="OCP microscaling: FP8 E4M3 values, 32 of which share one power of two.",
        arithmetic=_DEQUANTIZED,
        sqnr_floor=30.0,
        quantizer=_MICRO + "MXFP8",
        granularity="per block of 32, powers of two",
        group=32,
        storage="a byte each",
        scale_bits=8 / 32,
        emulated="GPUs made for it multiply MXFP8 themselves and round activations to it too; here only weights are.",
    ),
    Precision(
        name="mxfp4",
        label="MXFP4",
        family=FLOAT,
        bits=4,
        dtype="float32",
        meaning="OCP microscaling: 4-bit floats (0 to 6 in eight steps), 32 of which share one power of two.",
        arithmetic=_DEQUANTIZED,
        sqnr_floor=18.0,
        quantizer=_MICRO + "MXFP4",
        granularity="per block of 32, powers of two",
        group=32,
        storage="two a byte",
        scale_bits=8 / 32,
        emulated="GPUs made for it multiply MXFP4 themselves and round activations to it too; here only weights are.",
    ),
    Precision(
        name="nvfp4",
        label="NVFP4",
        family=FLOAT,
        bits=4,
        dtype="float32",
        meaning="NVIDIA's 4-bit floats: 16 share an FP8 scale, and all of a matrix one FP32 scale.",
        arithmetic=_DEQUANTIZED,
        sqnr_floor=20.0,
        quantizer=_MICRO + "NVFP4",
        granularity="per block of 16 in FP8, per matrix in FP32",
        group=16,
        storage="two a byte",
        scale_bits=8 / 16,
        emulated="GPUs made for it multiply NVFP4 themselves and round activations to it too; here only weights are.",
    ),
    Precision(
        name="nf4",
        label="NF4",
        family=CODEBOOK,
        bits=4,
        dtype="float32",
        meaning="QLoRA's 16 values, at equal shares of a normal distribution, scaled per block of 64.",
        arithmetic=_DEQUANTIZED,
        sqnr_floor=20.0,
        quantizer=_CODES + "NF4",
        granularity="per block of 64, in FP32",
        storage="two a byte",
        scale_bits=32 / 64,
    ),
    Precision(
        name="fp4",
        label="FP4",
        family=CODEBOOK,
        bits=4,
        dtype="float32",
        meaning="bitsandbytes' 4-bit floats as a table of 16 values, scaled per block of 64.",
        arithmetic=_DEQUANTIZED,
        sqnr_floor=18.0,
        quantizer=_CODES + "FP4",
        granularity="per block of 64, in FP32",
        storage="two a byte",
        scale_bits=32 / 64,
    ),
    *_meanings("bf16", "bfloat16", 55.0),
    *_meanings("fp16", "float16", 73.0),
    *gguf_rows.rows(),
    Precision(
        name="stored",
        label="As stored",
        family=STORED,
        bits=0,
        dtype="auto",
        meaning="A checkpoint that is already quantised, as transformers reads it on this device.",
        arithmetic="what the library that quantised it does on this device",
        sqnr_floor=0.0,
    ),
)


def _on_base(row: Precision, dtype: str) -> Precision:
    """The row with its arithmetic said for its base."""
    base = BASES[dtype].lower()
    return replace(row, dtype=dtype, arithmetic=row.arithmetic.format(base=base))


def _on_bf16(row: Precision) -> Precision:
    return replace(
        _on_base(row, "bfloat16"),
        name=f"{row.name}_bf16",
        label=f"{row.label.removesuffix(' weight-only')} (rest BF16)",
        meaning=f"{row.meaning} The rest of the model in BF16.",
        scale_bits=row.scale_bits / 2 if row.scales_in_base else row.scale_bits,
        variant_of=row.name,
    )


def _table() -> dict[str, Precision]:
    table = {row.name: row if row.quantizer is None else _on_base(row, row.dtype) for row in _ROWS}
    return table | {
        f"{row.name}_bf16": _on_bf16(row) for row in _ROWS if row.quantizer and row.family not in (MEANING, GGUF)
    }


PRECISIONS: dict[str, Precision] = _table()


def precision(name: str) -> Precision:
    """The row of that name.

    Raises:
        UnknownName: with the closest name and all there are.
    """
    return look_up(PRECISIONS, name, "precision")


def unavailable(row: Precision, device: str) -> str | None:
    """Why a row cannot run on a torch device (``"cpu"``, ``"cuda:1"``), or None if it can."""
    if row.device is not None and not device.startswith(row.device):
        return f"{row.label} needs an NVIDIA GPU of compute capability 8.0 or newer; this process uses the CPU."
    return None


def require(row: Precision, device: str) -> None:
    """Refuse a row that cannot run on a device.

    Raises:
        UnavailablePrecision: with the reason.
    """
    if reason := unavailable(row, device):
        raise UnavailablePrecision(reason, "Choose another precision, or set QFUND_DEVICE=cuda on a machine with one.")
