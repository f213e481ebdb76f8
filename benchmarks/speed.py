"""What the page Speed says, held against changing it:
OMP_WAIT_POLICY=passive python -m benchmarks.speed [MODEL] [FILE.gguf LLAMA_BENCH]

Each cause of a slow run is taken away, in turns with the run itself, and the step that is left is printed as a ratio to
the reference's. Then qfund's time of writing beside that of transformers' own ``generate``, the spread of the
reference's speed over five runs, and of a GGUF file qfund's speeds through llama-cpp-python beside those that
llama.cpp's own ``llama-bench`` (its path is given) prints, in turns.
"""

import copy
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from qfund.checkpoints import catalog, checkpoint
from qfund.checkpoints.wild.table import open_file
from qfund.core.estimate import quickest
from qfund.features.speed.measure.gguf import GgufWriter
from qfund.features.speed.measure.turns import turns
from qfund.features.speed.measure.writing import ModelWriter
from qfund.models.loading import load, read
from qfund.precisions import backends
from qfund.precisions.table import PRECISIONS

_DEPTH, _NEW, _ROUNDS = 64, 16, 7


def main() -> None:
    backends.quiet()
    source = catalog.locate(sys.argv[1] if len(sys.argv) > 1 else catalog.EXAMPLE, None)
    assert source.folder is not None
    found = checkpoint.read(source.folder)
    vocabulary = read(found, "float32").config.get_text_config(decoder=True).vocab_size

    def writer(model: Any, precision: str = "fp32") -> ModelWriter:
        return ModelWriter(model, PRECISIONS[precision], vocabulary)

    plain, coded = read(found, "float32"), load(found, PRECISIONS["int4"])
    decoded = read(found, "float32")
    for name in coded.converted:
        decoded.get_submodule(name).weight = torch.nn.Parameter(coded.model.get_submodule(name).weight)
    _steps(
        "dequantised at every use: int4, and the same weights decoded once",
        {"fp32": writer(plain), "int4": writer(coded.model, "int4"), "int4 decoded once": writer(decoded)},
    )
    half, widened = read(found, "float16"), read(found, "float16").float()
    _steps(
        "no native arithmetic: fp16, and the same weights widened to fp32 (a prompt)",
        {"fp32": writer(plain), "fp16": writer(half, "fp16"), "fp16 widened": writer(widened)},
        prompt=True,
    )
    narrow = _narrowed(plain)
    _steps(
        "bound by launches: the same layers, an eighth as wide",
        {"fp32": writer(plain), "an eighth": ModelWriter(narrow, PRECISIONS["fp32"], vocabulary)},
    )
    _beside_generate(plain, writer(plain))
    if len(sys.argv) > 3:
        _beside_llama_bench(Path(sys.argv[2]), sys.argv[3])
    every = [_taken({"fp32": writer(plain)})["fp32"] for _ in range(5)]
    for what, speeds in (
        ("the faster half", [quickest(taken).median for taken in every]),
        ("all rounds", [statistics.median(taken) for taken in every]),
    ):
        print(f"five runs, {what}: step {1000 * statistics.median(speeds):.2f} ms, {_spread(speeds):.1%} end to end")


def _beside_llama_bench(path: Path, bench: str) -> None:
    """Ratios of tokens a second, qfund's over llama-bench's, of a prompt and of writing after it."""
    writer, threads = GgufWriter(path, open_file(path), torch.get_num_threads()), str(torch.get_num_threads())
    line = [bench, "-m", str(path), "-t", threads, "-o", "json", "-r", "5"]
    ratios: dict[str, list[float]] = {"a prompt": [], "writing": []}
    for _ in range(_ROUNDS):
        own = turns({"": writer}, [(1, _DEPTH)], _NEW, 5, 60.0).taken[""][1, _DEPTH]
        theirs = [
            float(json.loads(subprocess.run([*line, *what], capture_output=True, check=True).stdout)[0]["avg_ts"])
            for what in (["-p", str(_DEPTH), "-n", "0"], ["-p", "0", "-n", str(_NEW), "-d", str(_DEPTH)])
        ]
        ratios["a prompt"].append(_DEPTH / quickest(own.prefill).median / theirs[0])
        ratios["writing"].append(1 / quickest(own.step).median / theirs[1])
    for name, found in ratios.items():
        print(f"qfund over llama-bench, {name}: {statistics.median(found):.3f} ({min(found):.3f} to {max(found):.3f})")


def _taken(writers: dict[str, ModelWriter], prompt: bool = False) -> dict[str, list[float]]:
    found = turns(writers, [(1, _DEPTH)], _NEW, _ROUNDS, 60.0)
    return {
        name: places[1, _DEPTH].prefill if prompt else places[1, _DEPTH].step for name, places in found.taken.items()
    }


def _steps(title: str, writers: dict[str, ModelWriter], prompt: bool = False) -> None:
    taken = _taken(writers, prompt)
    first = next(iter(taken.values()))
    print(title)
    for name, seconds in taken.items():
        ratios = [one / other for one, other in zip(seconds, first, strict=True)]
        print(f"  {name:18} {1000 * statistics.median(seconds):7.2f} ms  {statistics.median(ratios):5.2f} x the first")


def _narrowed(model: Any) -> Any:
    config = copy.deepcopy(model.config)
    config.hidden_size, config.intermediate_size = config.hidden_size // 8, config.intermediate_size // 8
    config.head_dim = max(2, config.head_dim // 8)
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()


def _beside_generate(model: Any, writer: ModelWriter) -> None:
    ids = torch.randint(100, (1, _DEPTH))
    options: dict[str, Any] = {"do_sample": False, "max_new_tokens": _NEW + 1, "eos_token_id": None}

    def own() -> None:
        writer.begin(1, _DEPTH)
        for _ in range(_NEW):
            writer.step()

    def theirs() -> None:
        with torch.inference_mode():
            model.generate(ids, attention_mask=torch.ones_like(ids), **options)

    ratios = [_seconds(own) / _seconds(theirs) for _ in range(_ROUNDS + 1)][1:]
    print(
        f"qfund's writing over transformers' generate: {statistics.median(ratios):.3f} ({_spread(ratios):.1%} spread)"
    )


def _seconds(call: Callable[[], None]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def _spread(values: list[float]) -> float:
    return (max(values) - min(values)) / statistics.median(values)


if __name__ == "__main__":
    main()
