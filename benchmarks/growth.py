"""How the cost of a comparison grows: ``python -m benchmarks.growth [--table blocks …] [--rounds 3]``.

Random Llamas, each beside the first of its table: blocks, width, tokens, precisions, vocabulary. A comparison in one
walk over the checkpoint, FP32 against some precisions with all statistics, each in a fresh process. What theory says is
counted here and not measured: multiply-adds (those of weights and of attention, and of statistics as many as they take
passes over the logits), bytes read, and the memory of the largest part with its forms, hidden states and logits.
*Measured / theory* is of the growth from the first row: 1 says that nothing else grows.
"""

import argparse
import math
import statistics
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
import transformers

from benchmarks import peak
from benchmarks.stream import CHUNK
from qfund.stream import head
from qfund.stream.groups import SMALL

#: Passes over the logits that the statistics of a candidate take, each worth about so many multiply-adds a number.
STATISTICS = 60
NAMES = ("bf16", "int8", "int4", "fp16")
#: Bytes of a weight of a block in each, with scales.
FORMS = (2.0, 1.01, 0.625, 2.0)
#: Above the rows of a table, as in docs/performance.md.
HEAD = """| | processor | × first, theory: ratio | memory | × first, theory: ratio | read | foretold |
| --- | ---: | --- | ---: | --- | ---: | ---: |"""


@dataclass(frozen=True)
class Case:
    blocks: int = 4
    width: int = 256
    tokens: int = 512
    precisions: int = 2
    vocabulary: int = 4096

    @property
    def block(self) -> int:
        """Weights of a block: four square matrices, and three of 11/4 of that."""
        return self.width**2 * 4 + 3 * self.width * (11 * self.width // 4)

    @property
    def weights(self) -> int:
        return self.blocks * self.block + 2 * self.vocabulary * self.width

    @property
    def work(self) -> int:
        """Multiply-adds: a forward of the reference and of each candidate, and statistics."""
        attention = 2 * self.blocks * self.width * min(self.tokens, CHUNK)
        forward = self.tokens * (self.blocks * self.block + attention + self.vocabulary * self.width)
        return (1 + self.precisions) * forward + self.precisions * STATISTICS * self.tokens * self.vocabulary

    @property
    def read(self) -> int:
        """Bytes: blocks once for each group of precisions, where they are large (FP32, which is mapped, with integers;
        BF16); of large embeddings the rows that are looked up; and the first part of a large head twice."""
        every = sum(FORMS[: self.precisions])
        groups = 1 if (4 + every) * self.block <= SMALL else 1 + math.ceil(every / 4)
        tried = head.TILE if self.vocabulary * self.width > head.WHOLE else 0
        rows = self.vocabulary
        if rows * self.width > 1024**2:  # a smaller table is read whole; of random tokens some are the same
            rows = round(rows * (1 - (1 - 1 / rows) ** self.tokens))
        norms = (2 * self.blocks + 1) * self.width
        return 4 * (groups * self.blocks * self.block + (self.vocabulary + rows) * self.width + norms + tried)

    @property
    def memory(self) -> int:
        """Bytes: a block in every form where that is little, else in BF16 and a layer in FP32; hidden states of every
        precision and the reference's copy, the inner states of a batch, and logits of a batch in every precision."""
        every = (4 + sum(FORMS[: self.precisions])) * self.block
        layer = self.width * (11 * self.width // 4)
        block = int(every) if every <= SMALL else 2 * self.block + 4 * layer
        batch = min(self.tokens, 2 * CHUNK)
        hidden = 4 * self.width * self.tokens * (2 + self.precisions) + 4 * batch * 4 * (11 * self.width // 4)
        whole = self.vocabulary * self.width <= 16 * 1024**2
        logits_head = (6 if whole else 0) * self.vocabulary * self.width
        logits = batch * min(self.vocabulary, 4 * 1024**2 // self.width if not whole else self.vocabulary)
        return max(block, logits_head) + hidden + 4 * (1 + self.precisions) * logits


def rows(name: str) -> list[Case]:
    """A table: one thing grows, all else stays."""
    values: Mapping[str, tuple[int, ...]] = {
        "blocks": (2, 4, 8, 16),
        "width": (128, 256, 512, 1024),
        "tokens": (256, 512, 1024, 2048),
        "precisions": (1, 2, 4),
        "vocabulary": (2048, 8192, 32_768, 131_072),
    }
    return [replace(Case(), **{name: value}) for value in values[name]]


def make(case: Case, folder: Path) -> None:
    config = transformers.LlamaConfig(
        hidden_size=case.width,
        intermediate_size=11 * case.width // 4,
        num_hidden_layers=case.blocks,
        num_attention_heads=8,
        num_key_value_heads=8,
        vocab_size=case.vocabulary,
        tie_word_embeddings=False,
    )
    torch.manual_seed(0)
    transformers.LlamaForCausalLM._from_config(config, dtype=torch.float32).save_pretrained(folder)


def cost(folder: str, case: Case) -> tuple[float, int, int]:
    """Of one comparison, in this process: seconds of all cores, bytes by which private memory grew, bytes read."""
    import os
    import time

    os.environ["QFUND_CACHE_GIB"] = "0"
    from qfund.checkpoints import checkpoint
    from qfund.features.compare.measure import streamed
    from qfund.features.compare.measure.rounds import Rounds
    from qfund.features.compare.request.spec import Spec
    from qfund.models import tasks
    from qfund.models.inputs import Batch
    from qfund.stream.streamed import Streamed

    read: list[Any] = []

    class Counted(Streamed):
        def __init__(self, *given: Any, **named: Any) -> None:
            super().__init__(*given, **named)
            read.append(self)

    vars(streamed)["Streamed"], vars(streamed)["HELD"] = Counted, 0
    found = checkpoint.read(Path(folder))
    names = NAMES[: case.precisions]
    ids = torch.randint(0, case.vocabulary, (max(1, case.tokens // CHUNK), min(case.tokens, CHUNK)))
    batches = [
        Batch({"input_ids": part}, torch.cat([part[:, 1:], torch.full_like(part[:, :1], -100)], 1), chunks=chunks)
        for part, chunks in zip(ids.split(2), torch.arange(len(ids)).split(2), strict=True)
    ]

    def run(given: list[Batch]) -> None:
        rounds, spec = Rounds(given, names), Spec(folder, precisions=names)
        limit = 1 << 40
        streamed.measure_streamed(spec, found, {}, tasks.task_of(found), rounds, (), limit, lambda phase, share: None)

    run([Batch({"input_ids": ids[:1, :8]}, ids[:1, :8], chunks=torch.zeros(1, dtype=torch.long))])
    before = peak._rested() - peak._status("RssFile")
    started = time.process_time()
    run(batches)
    return time.process_time() - started, peak._private_peak() - before, read[-1].reader.bytes_read


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    every = [field.name for field in fields(Case)]
    parser.add_argument("--table", nargs="+", default=every, choices=every)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    transformers.utils.logging.set_verbosity_error()
    print(HEAD, flush=True)
    for name in given.table:
        cases = rows(name)
        with peak.fresh_processes() as processes, tempfile.TemporaryDirectory() as folder:
            for case in cases:
                make(case, Path(folder) / str(getattr(case, name)))
            found = [
                [processes.apply(cost, (str(Path(folder) / str(getattr(case, name))), case)) for case in cases]
                for _ in range(given.rounds)
            ]
        middle = [[statistics.median(one[row][key] for one in found) for key in (0, 1, 2)] for row in range(len(cases))]
        first = cases[0]
        for case, (seconds, memory, read) in zip(cases, middle, strict=True):
            work, room = case.work / first.work, case.memory / first.memory
            spent, taken = seconds / middle[0][0], memory / middle[0][1]
            print(
                f"| {name}: {getattr(case, name):,} | {seconds:.1f} s | {spent:.2f}, {work:.2f}: {spent / work:.2f} | "
                f"{memory / 1e6:.0f} MB | {taken:.2f}, {room:.2f}: {taken / room:.2f} | "
                f"{read / 1e6:.1f} MB | {case.read / 1e6:.1f} MB |",
                flush=True,
            )


if __name__ == "__main__":
    main()
