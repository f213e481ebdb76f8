"""``Precision``: one row of the table of precisions."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

CAST, INTEGER, FLOAT, CODEBOOK, STORED = "float cast", "integer", "float quantised", "codebook", "as stored"
MEANING = "16-bit meanings"
GGUF = "GGUF files"
FILE = "quantised file"


@dataclass(frozen=True, slots=True)
class Precision:
    """One way to hold a model's weights.

    Attributes:
        name: stable identifier, used on the command line and in links.
        family: one of ``FAMILIES``.
        bits: per quantised weight, scales not counted.
        dtype: torch's name of the dtype that the checkpoint is loaded in: the *base*, in which stays whatever a
            quantiser leaves alone.
        meaning: what it is, in one line.
        arithmetic: what the multiplications run in, so that nobody has to guess what "bf16" means here.
        sqnr_floor: dB of signal to quantisation noise that well-behaved (normal) weights must reach in tests.
        quantizer: lazy ``"module:object"`` of a ``quantizers.quantizer.Quantizer`` (of a recipe, the object itself), or
            None for a cast.
        product: lazy ``"module:object"`` of a ``quantizers.quantizer.Product`` where activations are quantised too, as
            they come; None where the weights are dequantised before the multiplication.
        granularity: which weights share one scale, and the dtype of the scales.
        group: how many weights of a row share one, where that is less than the row.
        storage: how the codes lie in memory.
        scale_bits: of scales, and ``zero_point_bits`` of zero-points, for each weight of a large matrix.
        scales_in_base: whether the scales have the base's dtype (torchao's integers in groups), and so weigh less on a
            16-bit base.
        emulated: what hardware made for the format would do otherwise; None where nothing is emulated.
        device: the only kind of device that runs it; None for all.
        variant_of: the row of which this one is the variant on another base, or with its inputs rounded too.
        every_matrix: whether the quantiser takes every weight of two or more dimensions, output head and embeddings
            too, and ``product`` only rounds the inputs of the layers among them where these are within reach.
        kept: lazy ``"module:object"`` of what says which matrices stay all the same (``quantizers.plan.Kept``).
        autocast: torch's name of the dtype that ``torch.autocast`` multiplies in; None runs as the weights are.
        head: torch's name of the dtype that the output head multiplies in, whatever it is stored in; None for its own.
    """

    name: str
    label: str
    family: str
    bits: int
    dtype: str
    meaning: str
    arithmetic: str
    sqnr_floor: float
    quantizer: str | Any | None = None
    product: str | None = None
    granularity: str = "no scales"
    group: int | None = None
    storage: str = "as they are"
    scale_bits: float = 0.0
    zero_point_bits: float = 0.0
    scales_in_base: bool = False
    emulated: str | None = None
    device: str | None = None
    variant_of: str | None = None
    every_matrix: bool = False
    kept: str | Callable[..., str | None] | None = None
    autocast: str | None = None
    head: str | None = None

    @property
    def base(self) -> str:
        """What people call the base: ``FP32``."""
        return BASES[self.dtype]

    @property
    def effective_bits(self) -> float:
        """Per weight of a large matrix, scales and zero-points included."""
        return self.bits + self.scale_bits + self.zero_point_bits

    @property
    def runs_on(self) -> str:
        return "CUDA" if self.device == "cuda" else "CPU, CUDA"

    @property
    def weights_only(self) -> bool:
        return self.product is None

    @property
    def as_run(self) -> bool:
        """Whether it is another row's file as kernels run it: no other bytes, and nothing else to download."""
        return self.family == GGUF and self.product is not None

    @property
    def treatment(self) -> str:
        """What becomes of the kinds of modules, in one line."""
        if self.family == STORED:
            return "as whoever quantised the checkpoint chose"
        if self.autocast:
            return "no weight: they are stored in fp32 and rounded as they are multiplied"
        if self.quantizer is None:
            return "every weight; modules that transformers keeps in fp32 stay there"
        if self.kept:
            return (
                "linear layers, embeddings, output head and stacked experts, as llama-quantize does; what it keeps "
                "(routers, positions, convolutions), norms and biases stay"
            )
        if self.every_matrix:
            return "every weight of two or more dimensions, output head and embeddings too; norms and biases stay"
        if self.product:
            return "linear layers; output head, embeddings, convolutions, stacked experts, norms and biases stay"
        return (
            "linear layers, convolutions and stacked experts; output head and embeddings only when asked for; norms "
            "and biases stay"
        )


BASES = {"float64": "FP64", "float32": "FP32", "bfloat16": "BF16", "float16": "FP16", "auto": "as stored"}

#: Families in the order in which they are shown, and what each has in common.
FAMILIES = {
    CAST: "Every weight is rounded to a smaller float. No scales, nothing to choose.",
    INTEGER: "Weights become whole numbers times a scale that a channel or a group shares.",
    FLOAT: "Weights become very small floats times a scale: finer near zero, coarser far from it.",
    CODEBOOK: "Weights become the nearest of 16 values times a scale; the values suit weights that are normal.",
    MEANING: "What else people call BF16 or FP16: only weights rounded, or inputs too, autocast, a wider output head.",
    GGUF: "What llama-quantize makes: its types, and mixes of them by tensor; the file alone, or as llama.cpp runs it.",
    STORED: "The checkpoint brings its own.",
    FILE: "A quantised file beside its original, as its publisher made it.",
}
