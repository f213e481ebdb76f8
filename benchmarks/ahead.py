"""Reading ahead: ``python -m benchmarks.ahead [--rounds 5] [--speed 200]``.

A streamed walk over a random Llama of 0.1 billion weights, FP32 and INT8, with weights in the page cache, not there any
more (the kernel is told to drop them), and from a disk of so many MB/s (a reader that sleeps). Each with reading ahead
allowed and not, in turns: seconds of the clock and of the processor, and how many parts were read ahead.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers

from qfund.checkpoints import checkpoint, reading
from qfund.checkpoints.checkpoint import Checkpoint
from qfund.precisions.table import PRECISIONS
from qfund.stream.streamed import Streamed
from qfund.stream.walker import Way

LAYERS, WIDTH, TOKENS = 8, 1024, 256


def make(folder: Path) -> Checkpoint:
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        hidden_size=WIDTH,
        intermediate_size=11 * WIDTH // 4,
        num_hidden_layers=LAYERS,
        num_attention_heads=16,
        num_key_value_heads=16,
        vocab_size=4096,
        tie_word_embeddings=False,
    )
    transformers.LlamaForCausalLM._from_config(config, dtype=torch.float32).save_pretrained(folder)
    os.sync()  # only clean pages are dropped
    return checkpoint.read(folder)


class Ignore:
    """A listener that takes in nothing."""

    def block(self, *_: Any) -> None: ...

    def output(self, *_: Any) -> None: ...

    def tile(self, *_: Any) -> None: ...


def walk(found: Checkpoint, before: Callable[[Path], None], ahead: bool) -> tuple[float, float, int, float]:
    """Seconds of the clock, seconds of all cores, parts that were read ahead, seconds that reading waited."""
    walked = Streamed(found, [Way(name, PRECISIONS[name]) for name in ("fp32", "int8")])
    walked.ahead.room = None if ahead else 0
    ids = torch.randint(0, 4096, (1, TOKENS), generator=torch.Generator().manual_seed(0))
    before(found.folder)
    wall, cpu = time.perf_counter(), time.process_time()
    walked.run([{"input_ids": ids}], Ignore())
    return time.perf_counter() - wall, time.process_time() - cpu, walked.ahead.ahead, walked.ahead.waited


def warm(folder: Path) -> None:
    for path in folder.glob("*.safetensors"):
        path.read_bytes()


def cold(folder: Path) -> None:
    for path in folder.glob("*.safetensors"):
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--speed", type=float, default=200, help="of the slow disk, MB/s")
    given = parser.parse_args()
    os.environ["QFUND_CACHE_GIB"] = "0"
    fill: Any = reading.fill

    def slowly(memory: memoryview, *place: Any) -> None:
        time.sleep(len(memory) / given.speed / 1e6)
        fill(memory, *place)

    print("| weights | seconds, not ahead | ahead | ratio | of the processor | parts ahead | waited, not ahead |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    with tempfile.TemporaryDirectory() as name:
        found = make(Path(name))
        places = {"in the page cache": (warm, fill), "not in it": (cold, fill), "a slow disk": (warm, slowly)}
        for where, (before, filling) in places.items():
            vars(reading)["fill"] = filling
            run = partial(walk, found, before)
            run(False)
            pairs = [(run(False), run(True)) for _ in range(given.rounds)]
            middle = [statistics.median(one[part][key] for one in pairs) for part in (0, 1) for key in (0, 1, 2, 3)]
            ratios = [statistics.median(ahead[key] / without[key] for without, ahead in pairs) for key in (0, 1)]
            print(
                f"| {where} | {middle[0]:.2f} | {middle[4]:.2f} | {ratios[0]:.2f} | {ratios[1]:.2f} | "
                f"{middle[6]:.0f} of {LAYERS} | {middle[3]:.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
