"""What is published of GPUs, held against what their parts come to."""

import pytest

from qfund.features.speed.request.gpus import PUBLISHED

#: Multiprocessors, multiply-adds of one in a clock (fp16, summed in fp32), boost clock (GHz); bits of the bus, and
#: Gbit/s of each: NVIDIA's architecture papers from Volta to Blackwell.
PARTS = {
    "rtx-4060": (24, 256, 2.46, 128, 17),
    "rtx-3080": (68, 256, 1.71, 320, 19),
    "rtx-3060": (28, 256, 1.777, 192, 15),
    "rtx-4070": (46, 256, 2.475, 192, 21),
    "t4": (40, 512, 1.59, 256, 10),
    "v100-16gb": (80, 512, 1.53, 4096, 1.758),
    "rtx-4060-ti-16gb": (34, 256, 2.535, 128, 18),
    "rtx-4080": (76, 256, 2.505, 256, 22.4),
    "rtx-5080": (84, 256, 2.617, 256, 30),
    "l4": (58, 512, 2.04, 192, 12.5),
    "a10g": (80, 256, 1.71, 384, 12.5),
    "rtx-3090": (82, 256, 1.695, 384, 19.5),
    "rtx-4090": (128, 256, 2.52, 384, 21),
    "rtx-5090": (170, 256, 2.407, 512, 28),
    "a100-40gb": (108, 1024, 1.41, 5120, 2.43),
    "l40s": (142, 512, 2.52, 384, 18),
    "rtx-a6000": (84, 512, 1.8, 384, 16),
    "rtx-6000-ada": (142, 512, 2.505, 384, 20),
    "h100": (132, 2048, 1.83, 5120, 5.24),
    "a100-80gb": (108, 1024, 1.41, 5120, 3.186),
    "rtx-pro-6000": (188, 512, 2.617, 512, 28),
    "h200": (132, 2048, 1.83, 6144, 6.25),
    "b200": (148, 4096, 1.85, 8192, 7.8),
}


def test_every_gpu_is_held_against_its_parts() -> None:
    assert PARTS.keys() == PUBLISHED.keys()


@pytest.mark.parametrize("name", PARTS)
def test_bandwidth_and_peak_are_what_its_parts_come_to(name: str) -> None:
    units, per_clock, clock, bits, rate = PARTS[name]
    bandwidth, peak = PUBLISHED[name]
    assert peak == pytest.approx(units * per_clock * 2 * clock / 1000, rel=0.02)
    assert bandwidth == pytest.approx(bits / 8 * rate, rel=0.02)
