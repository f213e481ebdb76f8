"""What other hardware does at most, as its makers publish it, and what a model's speed there is at most. No torch."""

from dataclasses import dataclass

from qfund.core.errors import InvalidSpec
from qfund.features.memory.request.budgets import GPUS, gpu
from qfund.features.speed.request.bounds import step_bytes
from qfund.features.speed.request.speed import Point, Run

#: Name of ``GPUS`` → GB/s of memory, and TFLOP/s of dense products in fp16 or bf16 that are summed in fp32: data sheets
#: and architecture papers (of consumer cards the tensor cores' half rate for fp32 sums; nothing with sparsity).
#: Each was held against what its multiprocessors do a clock at the boost clock and its bus at its rate (a test has
#: these), and against a page that prints it, read in November 2026: RTX 3060, 3080, 3090 and 4090, V100 and A100 40 GB
#: the table of "Advanced AI GPU Benchmark" on the Hub; T4, V100, A100 the catalogue of gpu-runtime-predictor there;
#: 4060, 4060 Ti and 4070 guru3d and thefpsreview (bandwidth); 4080 guru3d; 5080 and 5090 sipoch, spheron (838 sparse
#: with fp16 sums: four times); L4 and L40S grokipedia and mullet.se; A10G baseten (bandwidth; the peak is AWS's and
#: NVIDIA's own 70, where that catalogue has 62.5); A6000 3dstor-shop, 6000 Ada and PRO 6000 yottalabs and hmc-tech;
#: H100 and A100 mikasenghaas's gist; H200 itkb.uw.cz; B200 hmc-tech.
PUBLISHED: dict[str, tuple[float, float]] = {
    "rtx-4060": (272, 30.2),
    "rtx-3080": (760, 59.5),
    "rtx-3060": (360, 25.5),
    "rtx-4070": (504, 58.3),
    "t4": (320, 65),
    "v100-16gb": (900, 125),
    "rtx-4060-ti-16gb": (288, 44.1),
    "rtx-4080": (717, 97.5),
    "rtx-5080": (960, 112.6),
    "l4": (300, 121),
    "a10g": (600, 70),
    "rtx-3090": (936, 71),
    "rtx-4090": (1008, 165.2),
    "rtx-5090": (1792, 209.5),
    "a100-40gb": (1555, 312),
    "l40s": (864, 362),
    "rtx-a6000": (768, 154.8),
    "rtx-6000-ada": (960, 364.2),
    "h100": (3350, 989),
    "a100-80gb": (2039, 312),
    "rtx-pro-6000": (1792, 503.8),
    "h200": (4800, 989),
    "b200": (8000, 2250),
}


@dataclass(frozen=True, slots=True)
class Estimated:
    """At most these tokens a second on a GPU, of all sequences together, by its published bandwidth (``decode``, with
    ``step_bytes`` read for each step) and peak (``prefill``, with ``flops`` for a prompt). Nothing was measured there.
    """

    gpu: str
    bandwidth: float
    peak: float
    step_bytes: int
    flops: int
    decode: float
    prefill: float


def estimated(name: str, run: Run, point: Point) -> Estimated:
    """
    Raises:
        UnknownName: no such GPU.
    """
    row = gpu(name)
    bandwidth, peak = (value * unit for value, unit in zip(PUBLISHED[row.name], (1e9, 1e12), strict=True))
    read = step_bytes(run, point)
    return Estimated(
        gpu=row.name,
        bandwidth=bandwidth,
        peak=peak,
        step_bytes=read,
        flops=point.flops,
        decode=point.batch * bandwidth / read,
        prefill=point.batch * point.depth * peak / point.flops,
    )


def per_million(price: float, tokens_per_second: float) -> float:
    """What a million tokens cost at ``price`` an hour, in its currency.

    Raises:
        InvalidSpec: a price that is none.
    """
    if not 0 < price < 1e6:
        raise InvalidSpec(f"The price of an hour is {price:g}.", "Give a number above 0.")
    return price / 3600 / tokens_per_second * 1e6


assert PUBLISHED.keys() == GPUS.keys()
