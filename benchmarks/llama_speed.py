"""How long a comparison takes beside what somebody would run instead: ``python -m benchmarks.llama_speed``.

The shipped model in FP32 against BF16 with rounded inputs, INT8 and INT4, on the tokens that llama-perplexity scores of
its evaluation text: ``qfund compare … --like-llama-cpp`` as a whole process. Beside it, in turns, where the peer is
there (``llama-perplexity`` on the path, or ``LLAMA_PERPLEXITY``; ``--gguf`` names a folder that holds the model as
``f32.gguf``, ``bf16.gguf``, ``q8_0.gguf`` and ``q4_0.gguf``): its four runs, FP32 as the base and each of the others
against that. Where it is not, what no comparison of these four models can be faster than with these kernels: as many
plain forwards in FP32, in batches of the size that is the fastest here. Aim: 1.3 times the peer's wall time.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from benchmarks.side_by_side import in_turn, show
from qfund.checkpoints import catalog, checkpoint
from qfund.inputs import evaluation
from qfund.models.inputs import open_tokenizer
from qfund.models.loading import load
from qfund.precisions.table import PRECISIONS

CONTEXT, MODEL = 256, "pydoc-llama"
BASE, OTHERS = "f32.gguf", ("bf16.gguf", "q8_0.gguf", "q4_0.gguf")
QFUND = ["compare", MODEL, "--precision", "bf16_inputs", "int8", "int4", "--like-llama-cpp", "--no-store", "--quiet"]


def taken(commands: list[list[str]]) -> float:
    """Wall seconds of these, one after the other, once what others have written (the peer's logits) is on the disk."""
    os.sync()
    started = time.perf_counter()
    for command in commands:
        subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    return time.perf_counter() - started


def peer(binary: str, folder: Path, text: Path, base: Path) -> list[list[str]]:
    """Its commands: the logits of FP32 are written, and each of the others is compared with those."""
    common = [binary, "-f", str(text), "-c", str(CONTEXT), "-t", str(torch.get_num_threads())]
    first = [*common, "-m", str(folder / BASE), "--kl-divergence-base", str(base)]
    return [first, *([*first[:-3], str(folder / name), *first[-2:], "--kl-divergence"] for name in OTHERS)]


@torch.inference_mode()
def forwards(chunks: torch.Tensor) -> tuple[int, float]:
    """The fastest number of chunks in a batch here, and seconds of one pass over all of them."""
    folder = catalog.CATALOG[MODEL].folder
    model = load(checkpoint.read(folder), PRECISIONS["fp32"]).model
    few = chunks[:32]

    def seconds(size: int, part: torch.Tensor) -> float:
        started = time.perf_counter()
        for batch in part.split(size):
            model(batch, use_cache=False)
        return time.perf_counter() - started

    best = min((1, 2, 4, 8, 16, 32), key=lambda size: statistics.median(seconds(size, few) for _ in range(4)))
    return best, seconds(best, chunks)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gguf", type=Path, metavar="FOLDER")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    text, _ = evaluation.evaluation_text(catalog.locate(MODEL))
    binary = os.environ.get("LLAMA_PERPLEXITY") or shutil.which("llama-perplexity")
    ours = [[sys.executable, "-m", "qfund", *QFUND]]
    if binary and given.gguf:
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "text.txt").write_text(text, "utf-8")
            theirs = peer(binary, given.gguf, Path(folder) / "text.txt", Path(folder) / "base")
            runs = {"qfund": lambda: taken(ours), "llama-perplexity": lambda: taken(theirs)}
            show("wall time", in_turn(runs, given.rounds), "llama-perplexity", "s")
    else:
        why = "no llama-perplexity on the path" if not binary else "no --gguf FOLDER"
        ids = open_tokenizer(checkpoint.read(catalog.CATALOG[MODEL].folder))(text, verbose=False)["input_ids"]
        count = len(ids) // CONTEXT
        best, once = forwards(torch.tensor(ids[: count * CONTEXT]).view(count, CONTEXT))
        print(f"{why}: beside four plain forwards over {count * CONTEXT:,} tokens, {best} chunks at once")
        runs = {"qfund": lambda: taken(ours), "four forwards": lambda: 4 * once}
        show("wall time", in_turn(runs, given.rounds), "four forwards", "s")


if __name__ == "__main__":
    main()
