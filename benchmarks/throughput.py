"""How fast the shipped model is compared: ``python -m benchmarks.throughput``.

In turns, on the same 16,384 tokens: the plain transformers FP32 forward, and whole comparisons of FP32 with one
candidate (both models' forwards, every statistic, drift along the blocks). *Candidate* is the rate of what the
candidate adds, statistics included, as a ratio to the plain forward; *both* counts the tokens of both models over the
whole time.
llama-perplexity, which runs the candidate alone against stored 16-bit logits, reached 0.86 (F32) and 1.08 (BF16) of the
plain forward where the notes were measured.
"""

import argparse
import statistics
import time

from qfund.checkpoints import catalog, checkpoint
from qfund.features.compare.measure.rounds import Rounds
from qfund.features.compare.measure.streamed import measure_streamed
from qfund.features.compare.measure.whole import forward
from qfund.features.compare.request.spec import Spec
from qfund.models import inputs, tasks
from qfund.models.loading import load
from qfund.precisions.table import PRECISIONS


def timed(work: object) -> tuple[float, float]:
    """Wall and processor seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()  # type: ignore[operator]
    return time.perf_counter() - wall, time.process_time() - cpu


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--precisions", nargs="+", default=["fp32", "bf16", "int8", "int4"])
    given = parser.parse_args()
    source = catalog.locate("pydoc-llama")
    assert source.folder is not None
    found = checkpoint.read(source.folder)
    task = tasks.task_of(found)
    prepared = inputs.prepare(Spec("pydoc-llama"), source, found, task)
    tokens = sum(batch.arguments["input_ids"].numel() for batch in prepared.batches)
    model = load(found, PRECISIONS["fp32"]).model

    def plain() -> None:
        for batch in prepared.batches:
            forward(model, batch, PRECISIONS["fp32"])

    def compared(name: str) -> None:
        spec = Spec("pydoc-llama", precisions=(name,))
        rounds = Rounds(prepared.batches, spec.precisions)
        measure_streamed(spec, found, {}, task, rounds, (), 1 << 40, lambda phase, share: None)

    print(f"{tokens:,} tokens, {given.rounds} rounds in turns; medians of ratios to the plain FP32 forward")
    for name in given.precisions:
        compared(name)  # kernels, and quantised blocks on disk
        rounds = [(timed(plain), timed(lambda name=name: compared(name))) for _ in range(given.rounds)]
        for which, place in (("wall", 0), ("cpu", 1)):
            alone = statistics.median(one[place] / max(both[place] - one[place], 1e-9) for one, both in rounds)
            both_ = statistics.median(2 * one[place] / both[place] for one, both in rounds)
            rate = tokens / statistics.median(one[place] for one, _ in rounds)
            print(f"{name:6} {which:4}  candidate {alone:.2f}  both {both_:.2f}  (plain: {rate:,.0f} tokens/s)")


if __name__ == "__main__":
    main()
