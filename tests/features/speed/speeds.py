"""A result made by hand: a reference, and runs that are slower for a reason each."""

from dataclasses import replace
from typing import Any

from qfund.core.environment import Environment
from qfund.core.estimate import Spread
from qfund.features.speed.request.speed import Bounds, Point, Run, Speed, SpeedRequest


def around(value: float, wide: float = 0.01) -> Spread:
    return Spread(value, value * (1 - wide), value * (1 + wide))


def point(decode: float, prefill: float, batch: int = 1, depth: int = 10, **more: Any) -> Point:
    """Speeds in tokens a second; the reference's are 100 and 1,000 a sequence."""
    made = Point(
        batch=batch,
        depth=depth,
        prefill=around(prefill),
        first=around(batch * depth / prefill),
        decode=around(decode),
        prefill_ratio=around(prefill / 1000),
        decode_ratio=around(decode / 100 / batch),
        rounds=6,
        cache_bytes=1000 * batch,
        flops=10_000 * batch,
    )
    return replace(made, **more)


def run(precision: str, backend: str, *points: Point, **more: Any) -> Run:
    made = Run(precision, backend, load_seconds=0.5, stored_bytes=20_000, read_bytes=9_000, points=points)
    return replace(made, **more)


def make_speed(*runs: Run) -> Speed:
    """The reference and those."""
    reference = run("fp32", "torch", point(100, 1000), point(400, 1000, batch=4))
    peaks = {"float32": 4e6, "bfloat16": 8e6, "float16": 1e6}
    return Speed(
        request=SpeedRequest("pydoc-llama", depths=(10,), batches=(1, 4)),
        qfund="0",
        created="2026-01-02T03:04:05+00:00",
        environment=Environment({}, "3.11", "Linux", "cpu", "A CPU", 2, "sha256:0"),
        architecture="LlamaForCausalLM",
        bounds=Bounds(bandwidth=4e6, bandwidth_bytes=2**28, peaks=peaks, load=0.5, cores=2),
        runs=(reference, *runs),
        refused={"int8 by torchao": "torchao is not installed. Install it with: pip install torchao"},
        energy="Energy is not measured here: there is no counter.",
        seconds=1.0,
    )
