"""The one table of precisions. A row is all that a further cast needs; every list elsewhere iterates this table."""

from dataclasses import dataclass

from qfund.names import look_up


@dataclass(frozen=True, slots=True)
class Precision:
    """One way to hold a model's weights.

    Attributes:
        name: stable identifier, used on the command line and in links.
        family: ``"float cast"`` or ``"integer"``.
        bits: per quantised weight, scales not counted.
        dtype: torch's name of the dtype that the checkpoint is loaded in; what a quantiser leaves alone stays in it.
        quantizer: lazy ``"module:object"`` of a ``qfund.quantizers.walk.Quantizer``, or None for a cast.
        arithmetic: what the multiplications run in, so that nobody has to guess what "bf16" means here.
        sqnr_floor: dB of signal to quantisation noise that well-behaved (normal) weights must reach in tests.
    """

    name: str
    label: str
    family: str
    bits: int
    dtype: str
    meaning: str
    arithmetic: str
    sqnr_floor: float
    quantizer: str | None = None
    granularity: str = "per tensor"


_ROWS = (
    Precision(
        name="fp32",
        label="FP32",
        family="float cast",
        bits=32,
        dtype="float32",
        meaning="IEEE single precision: 8 exponent and 23 fraction bits. The usual reference.",
        arithmetic="weights, activations and arithmetic in fp32",
        sqnr_floor=200.0,
    ),
    Precision(
        name="bf16",
        label="BF16",
        family="float cast",
        bits=16,
        dtype="bfloat16",
        meaning="fp32's range with 7 fraction bits: nothing overflows, two to three digits remain.",
        arithmetic="whole model in bf16: weights, activations and logits",
        sqnr_floor=50.0,
    ),
    Precision(
        name="fp16",
        label="FP16",
        family="float cast",
        bits=16,
        dtype="float16",
        meaning="IEEE half precision: 10 fraction bits, but values beyond 65504 overflow.",
        arithmetic="whole model in fp16: weights, activations and logits",
        sqnr_floor=65.0,
    ),
    Precision(
        name="int8",
        label="INT8 weight-only",
        family="integer",
        bits=8,
        dtype="float32",
        meaning="Linear weights as 8-bit integers, symmetric, one fp32 scale per output channel; the rest in fp32.",
        arithmetic="weights stored in int8 and dequantised before each multiplication in fp32",
        sqnr_floor=40.0,
        quantizer="qfund.quantizers.integer:INT8_PER_CHANNEL",
        granularity="per output channel",
    ),
)

PRECISIONS: dict[str, Precision] = {row.name: row for row in _ROWS}


def precision(name: str) -> Precision:
    """The row of that name.

    Raises:
        UnknownName: with the closest name and all there are.
    """
    return look_up(PRECISIONS, name, "precision")
