"""Which statistic of a step's time is the same from run to run:
OMP_WAIT_POLICY=passive python -m benchmarks.spread [SECONDS] [RUNS]

Processes one after the other write with the shipped model in FP32, a prompt of 192 tokens and 16 steps a turn, each
for so many seconds (20), and every statistic of their steps is printed with its spread over the runs, (largest −
smallest) over the median. The last ones leave out what else ran: processor time, steps during which no thread waited
for a core, and steps beside a sum over 64 MiB of the same turn.
"""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

import torch

from qfund.checkpoints import catalog, checkpoint
from qfund.features.speed.measure.others import Others
from qfund.features.speed.measure.writing import ModelWriter
from qfund.models.loading import read
from qfund.precisions import backends
from qfund.precisions.table import PRECISIONS

#: Seconds, processor seconds, share of them that threads waited, and seconds of the sum, of one step.
Step = tuple[float, float, float, float]


def once(seconds: float) -> list[Step]:
    """The steps of one process."""
    backends.quiet()
    folder = catalog.locate(catalog.EXAMPLE, None).folder
    assert folder is not None
    model = read(checkpoint.read(folder), "float32")
    writer, block = ModelWriter(model, PRECISIONS["fp32"], model.config.vocab_size), torch.ones(16 * 1024**2)
    found, end = list[Step](), time.perf_counter() + seconds
    writer.begin(1, 192)
    while time.perf_counter() < end:
        began = time.perf_counter()
        block.sum()
        summed = time.perf_counter() - began
        writer.begin(1, 192)
        for _ in range(16):
            with Others() as others:
                began, ran = time.perf_counter(), time.process_time()
                writer.step()
                taken, ran = time.perf_counter() - began, time.process_time() - ran
            found.append((taken, ran, others.shares[0] or 0.0, summed))
    return found


def _quantile(values: Sequence[float], share: float) -> float:
    return sorted(values)[int(share * (len(values) - 1))]


def _alone(steps: Sequence[Step]) -> list[float]:
    """All of them where none was."""
    return [step[0] for step in steps if step[2] < 0.02] or [step[0] for step in steps]


STATISTICS: dict[str, Callable[[Sequence[Step]], float]] = {
    "median": lambda steps: statistics.median(step[0] for step in steps),
    "median of the faster half": lambda steps: _quantile([step[0] for step in steps], 0.25),
    "fastest tenth": lambda steps: _quantile([step[0] for step in steps], 0.1),
    "fastest hundredth": lambda steps: _quantile([step[0] for step in steps], 0.01),
    "fastest": lambda steps: min(step[0] for step in steps),
    "processor time, median": lambda steps: statistics.median(step[1] for step in steps),
    "processor time, fastest tenth": lambda steps: _quantile([step[1] for step in steps], 0.1),
    "no thread waited, median": lambda steps: statistics.median(_alone(steps)),
    # Thousandths of itself, so that it is printed as a ratio.
    "over a sum of the same turn (no ms)": lambda steps: statistics.median(step[0] / step[3] for step in steps) / 1000,
}


def main() -> None:
    if sys.argv[1:2] == ["--once"]:
        print(json.dumps(once(float(sys.argv[2]))))
        return
    seconds, runs = (sys.argv[1:] + ["20", "5"][len(sys.argv) - 1 :])[:2]
    line = [sys.executable, "-m", "benchmarks.spread", "--once", seconds]
    every: list[list[Step]] = []
    for _ in range(int(runs)):
        put = subprocess.run(line, capture_output=True, check=True, text=True).stdout
        every.append([tuple(step) for step in json.loads(put.splitlines()[-1])])
    waited = [statistics.mean(step[2] for step in steps) for steps in every]
    print(
        f"{runs} runs of {seconds} s, {[len(steps) for steps in every]} steps; threads waited {max(waited):.0%} at most"
    )
    for name, of in STATISTICS.items():
        values = [1000 * of(steps) for steps in every]
        wide = (max(values) - min(values)) / statistics.median(values)
        print(f"  {name:36} {statistics.median(values):8.3f} ms  {wide:6.1%}")


if __name__ == "__main__":
    main()
