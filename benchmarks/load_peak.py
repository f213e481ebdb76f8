"""The load peak of every way on a random Llama of 334 M parameters, how it repeats, and what the sampler costs.

Aims: peaks of five runs within 3 % of their median, and the sampler below 2 % of the time of a load. The check beside
each need is the peak of private bytes where weights are read into private memory in place of a mapped file: a second,
independent measurement of the same thing.

    python -m benchmarks.load_peak [--runs 5] [--pairs 8]
"""

import argparse
import os
import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch
import transformers

from qfund.features.memory.measure.loading.messages import Job
from qfund.features.memory.measure.loading.summary import summarize_load
from qfund.features.memory.measure.loading.watch import INTERVAL, Run, run, watcher
from qfund.features.memory.request.load_peak import Sampled
from qfund.precisions import backends

#: Precision and way, and the need that shared/notes/memory.md found on another model (268 M parameters).
WAYS = {
    ("fp32", "direct"): 1.00,
    ("bf16", "direct"): 0.50,
    ("bf16", "cast"): 1.00,
    ("bf16", "deepcopy"): 2.07,
    ("int8", "torchao-direct"): 0.44,
    ("int8_bf16", "torchao-direct"): 0.34,
    ("int8", "torchao-after"): 1.00,
    ("int8", "quantised-direct"): None,
    ("int8_bf16", "quantised-direct"): None,
}


def write(folder: Path) -> int:
    """The checkpoint, and the bytes of its weights in fp32."""
    config = transformers.LlamaConfig(
        hidden_size=1024,
        intermediate_size=4096,
        num_hidden_layers=16,
        num_attention_heads=16,
        num_key_value_heads=16,
        vocab_size=32_000,
        tie_word_embeddings=False,
    )
    torch.manual_seed(0)
    model = transformers.LlamaForCausalLM._from_config(config, dtype=torch.float32)
    model.save_pretrained(folder)
    return sum(parameter.nbytes for parameter in model.parameters())


def sampled(found: Run, weights: int) -> Sampled:
    result = summarize_load(found.loaded.borders, found.samples, weights, found.loaded.moments)
    assert result is not None, "not sampled on this system"
    return result


def ways(folder: Path, weights: int, runs: int) -> float:
    """Print a line for each way; the largest spread of needs, as a share."""
    print("precision  way               need  check  notes  settled  private   RSS  footprint    time  gap    spread")
    worst = 0.0
    for (precision, way), noted in WAYS.items():
        job = Job(str(folder), precision, way)
        found = [run(job) for _ in range(runs)]
        results = [sampled(one, weights) for one in found]
        needs = [one.need for one in results]
        spread = max(abs(need / statistics.median(needs) - 1) for need in needs)
        worst = max(worst, spread)
        check = sampled(run(Job(str(folder), precision, way, private=True)), weights).multiples["private_peak"]
        middle = {name: statistics.median(one.multiples[name] for one in results) for name in results[0].multiples}
        print(
            f"{precision:10} {way:16} {middle['need']:5.3f}  {check:5.3f}  {noted or float('nan'):5.2f}  "
            f"{middle['settled']:7.3f}  {middle['private_peak']:7.3f}  {middle['rss_peak']:4.2f}  "
            f"{found[0].loaded.footprint_bytes / weights:9.3f}  "
            f"{statistics.median(one.loaded.seconds for one in found):5.2f}s  "
            f"{max(one.largest_gap for one in results) * 1e3:3.0f}ms  {spread:.2%}",
            flush=True,
        )
    return worst


def sampler_seconds(length: float) -> float:
    """Processor time of a sampler that watches this process for so many seconds."""

    def spent() -> float:
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime

    before = spent()
    with watcher(os.getpid()) as seen:
        time.sleep(length)
        seen()
    return spent() - before


def overhead(folder: Path, pairs: int) -> tuple[float, float, float]:
    """As shares: the sampler's processor time of one core, and by how much it makes a load longer and costlier."""
    share = (sampler_seconds(10.1) - sampler_seconds(0.1)) / 10  # it has started before the load begins
    wall: list[float] = []
    processor: list[float] = []
    job = Job(str(folder), "bf16", "direct")
    for number in range(pairs):
        order: tuple[float | None, ...] = (INTERVAL, None) if number % 2 else (None, INTERVAL)
        found = {interval: run(job, interval=interval).loaded for interval in order}
        wall.append(found[INTERVAL].seconds / found[None].seconds - 1)
        processor.append(found[INTERVAL].processor_seconds / found[None].processor_seconds - 1)
    print(f"pairs of loads with and without: wall {_listed(wall)}; processor {_listed(processor)}")
    return share, statistics.median(wall), statistics.median(processor)


def _listed(shares: list[float]) -> str:
    return " ".join(f"{share:+.1%}" for share in shares)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--pairs", type=int, default=8)
    options = parser.parse_args()
    backends.quiet()
    with tempfile.TemporaryDirectory(prefix="qfund-load-peak-") as name:
        folder = Path(name) / "llama"
        weights = write(folder)
        print(f"W = {weights:,} bytes of fp32 weights; figures are multiples of W, medians of {options.runs} runs")
        worst = ways(folder, weights, options.runs)
        share, wall, processor = overhead(folder, options.pairs)
    print(f"largest distance from the median need: {worst:.2%} (aim 3 %)")
    print(f"the sampler takes {share:.2%} of one core (aim 2 %)")
    print(f"loads with it beside loads without, medians: {wall:+.1%} wall time, {processor:+.1%} processor time")
    sys.exit(worst > 0.03 or share > 0.02)


if __name__ == "__main__":
    main()
