"""How fast the shipped model is compared: ``python -m benchmarks.throughput``.

In turns, on the same tokens (16,384): the plain transformers FP32 forward, and whole comparisons of FP32 with one
candidate (both models' forwards, every statistic, drift along the blocks). *Candidate* is the rate of what the
candidate adds, statistics included, as a ratio to the plain forward; *both* counts the tokens of both models over the
whole time.
With ``--parts``, in turns: what a comparison may do without (``qfund compare --without``), in processor seconds of the
whole comparison, and in no more than its metrics.
llama-perplexity, which runs the candidate alone against stored 16-bit logits, reached 0.86 (F32) and 1.08 (BF16) of the
plain forward where the notes were measured.
"""

import argparse
import statistics
import time
from dataclasses import replace

from benchmarks.side_by_side import in_turn, show
from qfund.checkpoints import catalog, checkpoint
from qfund.features.compare.measure.compare import compare
from qfund.features.compare.measure.rounds import Rounds
from qfund.features.compare.measure.streamed import measure_streamed
from qfund.features.compare.measure.whole import forward
from qfund.features.compare.request.spec import DEFAULT_TOKENS, PARTS, Spec
from qfund.models import inputs, tasks
from qfund.models.loading import load
from qfund.precisions.table import PRECISIONS


def timed(work: object) -> tuple[float, float]:
    """Wall and processor seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()  # type: ignore[operator]
    return time.perf_counter() - wall, time.process_time() - cpu


def parts(rounds: int, tokens: int, precisions: list[str]) -> None:
    """What each part that may be left out adds to a comparison of all of these."""
    whole = Spec("pydoc-llama", precisions=tuple(precisions), max_tokens=tokens)
    left_out = {"everything": (), **{f"without {name}": (name,) for name in PARTS}, "without all three": tuple(PARTS)}

    def measured(without: tuple[str, ...]) -> float:
        return timed(lambda: compare(replace(whole, without=without)))[1]

    turns = {name: (lambda without=without: measured(without)) for name, without in left_out.items()}
    show(f"{whole.max_tokens:,} tokens, {' '.join(precisions)}", in_turn(turns, rounds), "everything", "CPU s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=DEFAULT_TOKENS)
    parser.add_argument("--parts", action="store_true", help="what drift, token map and noise cost")
    parser.add_argument("--precisions", nargs="+", default=["fp32", "bf16", "int8", "int4"])
    given = parser.parse_args()
    if given.parts:
        parts(given.rounds, given.tokens, [name for name in given.precisions if name != "fp32"])
        return
    source = catalog.locate("pydoc-llama")
    assert source.folder is not None
    found = checkpoint.read(source.folder)
    task = tasks.task_of(found)
    prepared = inputs.prepare(Spec("pydoc-llama", max_tokens=given.tokens), source, found, task)
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
