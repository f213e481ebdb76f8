"""How many tokens in a batch are the right number: ``python -m benchmarks.batches``.

Processor and wall time a token of plain forwards in FP32 and in quantised precisions, whose weights are decoded once a
batch, with chunks of up to 256 tokens that are 256, 512 … tokens together; in turns, the fastest of some rounds. Of the
shipped models, and of each folder that is named. The last columns say how far 1,024 tokens are from the best.

``--together`` runs the precisions as a comparison does, side by side where they stay in memory, in the sizes that it
tries, and says which it would keep.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.side_by_side import in_turn
from qfund.checkpoints import catalog, checkpoint
from qfund.checkpoints.checkpoint import Checkpoint
from qfund.features.compare.measure.batches import Sizes
from qfund.features.compare.measure.streamed import HELD
from qfund.models import tasks
from qfund.models.forward import run
from qfund.models.inputs.batch import Batch
from qfund.models.inputs.regrouping import regrouped
from qfund.models.loading import load
from qfund.precisions.precision import Precision
from qfund.precisions.table import PRECISIONS
from qfund.stream.streamed import Streamed
from qfund.stream.walker import Way

CONTEXT, OURS = 256, 1024
SIZES = (256, 512, 1024, 2048, 4096, 8192)  # tokens


def batches(task: tasks.Task, vocabulary: int, size: int, chunks: int, context: int) -> list[Batch]:
    """Random tokens, all chunks, so many at once."""
    ids = torch.randint(0, vocabulary, (chunks, context), generator=torch.Generator().manual_seed(0))
    return [
        Batch(
            {"input_ids": part} | ({} if task.gives == "tokens" else {"attention_mask": torch.ones_like(part)}),
            chunks=torch.arange(len(part)),
        )
        for part in ids.split(max(1, size // context))
    ]


def measured(model: Any, row: Precision, given: list[Batch]) -> float:
    """Processor seconds; wall seconds are kept beside them by ``table``."""
    started = time.process_time()
    for batch in given:
        run(model, batch, row)
    return time.process_time() - started


def table(name: str, found: Checkpoint, precision: str, rounds: int, tokens: int) -> None:
    """Print a line of the table."""
    row = PRECISIONS[precision]
    task, model = tasks.task_of(found), load(found, row).model
    config = model.config.get_text_config()
    context = min(CONTEXT, getattr(config, "max_position_embeddings", CONTEXT))
    walls: dict[int, list[float]] = {}

    def turn(size: int) -> float:
        given, started = batches(task, config.vocab_size, size, tokens // context, context), time.perf_counter()
        spent = measured(model, row, given)
        walls.setdefault(size, []).append(time.perf_counter() - started)
        return spent

    sizes = [size for size in SIZES if size <= tokens]
    spent = in_turn({str(size): (lambda size=size: turn(size)) for size in sizes}, rounds)  # type: ignore[misc]
    tokens = tokens // context * context
    cpu = {size: min(spent[str(size)]) / tokens * 1e6 for size in sizes}
    wall = {size: min(walls[size][1:]) / tokens * 1e6 for size in sizes}
    lines = [f"{name:18} {precision:5} {context:4}"]
    for values in (cpu, wall):
        lines.append(" ".join(f"{values[size]:8.1f}" for size in sizes))
        lines.append(f"{values[OURS] / min(values.values()):5.2f}")
    print(" | ".join(lines), flush=True)


def together(name: str, found: Checkpoint, precisions: list[str], rounds: int, tokens: int) -> None:
    """Print processor and wall time a token of a comparison's forwards in each size, and the one that it chooses."""
    task = tasks.task_of(found)
    walk = Streamed(found, [Way(precision, PRECISIONS[precision]) for precision in precisions])
    walk.hold_where_small(HELD)
    config = walk.walkers[0].frame.model.config.get_text_config()
    context = min(CONTEXT, getattr(config, "max_position_embeddings", CONTEXT))
    every = batches(task, config.vocab_size, OURS, tokens // context, context)
    sizes = Sizes(walk, found, task, every, None, False)
    walls: dict[float, list[float]] = {}

    def turn(times: float) -> float:
        given, started, wall = regrouped(every, times), time.process_time(), time.perf_counter()
        walk.run([batch.arguments for batch in given], Ignored())
        walls.setdefault(times, []).append(time.perf_counter() - wall)
        return time.process_time() - started

    cpu = in_turn({str(times): (lambda times=times: turn(times)) for times in sizes.tried}, rounds)  # type: ignore[misc]
    for part in sizes.parts(every, 0):
        walk.run([batch.arguments for batch in part], Ignored())
    for times in sizes.tried:
        count = max(len(batch.chunks) for batch in regrouped(every[:2], times))
        spent, wall = (1e6 * min(row) / tokens for row in (cpu[str(times)], walls[times][1:]))
        mark = "usual" * (times == sizes.usual), "chosen" * (sizes.chosen == times)
        print(
            f"{name:18} {count:4} chunks of {context:4} cpu {spent:8.1f} wall {wall:8.1f} {' '.join(mark)}", flush=True
        )


class Ignored:
    """A listener that takes in nothing."""

    def block(self, *_: Any) -> None: ...

    def output(self, *_: Any) -> None: ...

    def tile(self, *_: Any) -> None: ...


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=SIZES[-1])
    parser.add_argument("--precisions", nargs="+", default=["fp32", "int8", "int4"])
    parser.add_argument("--together", action="store_true")
    given = parser.parse_args()
    shipped = {name: catalog.CATALOG[name].folder for name in ("pydoc-llama", "docstring-vectors", "dummy")}
    if given.together:
        print(f"microseconds a token of {', '.join(given.precisions)}, {given.tokens:,} tokens", flush=True)
        for name, folder in (shipped | {folder.name: folder for folder in given.folders}).items():
            together(name, checkpoint.read(folder), given.precisions, given.rounds, given.tokens)
        return
    print(f"microseconds a token, {given.tokens:,} tokens, {SIZES} at once: cpu, {OURS:,} over the best;")
    print("then wall, the same", flush=True)
    for name, folder in (shipped | {folder.name: folder for folder in given.folders}).items():
        for precision in given.precisions:
            table(name, checkpoint.read(folder), precision, given.rounds, given.tokens)


if __name__ == "__main__":
    main()
