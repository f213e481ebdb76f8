"""The streamed pass beside whole models: ``python -m benchmarks.stream [--tokens 512 2048] [--layers 22]``.

On a randomly initialised Llama of 1.1 billion parameters (4.4 GB in FP32, made on the way), FP32 against BF16, FP16,
INT8 and INT4. Each road runs in a process of its own, on the same tokens, with the same statistics:

- ``at once``: all models loaded, then run in turn (the notebook's way);
- ``in turn``: one model after another, the reference's logits kept;
- ``streamed``, and ``kept`` with the quantised blocks of the run before on disk.

Memory is *needed*: private bytes plus live weights that alias a mapped file (notes of the load peaks). Of the walk it
is all that the process has beyond its imports, also pages of the checkpoint that are mapped at that moment: of a layer
at a time. The lower bound is the time to read the checkpoint once from the page cache plus all multiply-adds of the
blocks and the head at this machine's measured matrix peak of each precision.
"""

import argparse
import json
import os
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

from qfund.checkpoints import checkpoint
from qfund.engine.worker import settle
from qfund.features.compare.measure.gathered import REFERENCE, Gathered
from qfund.features.compare.measure.rounds import Rounds
from qfund.features.compare.measure.streamed import measure_streamed
from qfund.features.compare.measure.whole import forward
from qfund.features.compare.request.spec import Spec
from qfund.features.memory.measure.loading import sampler
from qfund.models import tasks
from qfund.models.environment import torch_device
from qfund.models.inputs import Batch
from qfund.models.loading import load
from qfund.precisions.table import PRECISIONS

PRECISIONS_ASKED = ("bf16", "fp16", "int8", "int4")
WIDTH, INNER, HEADS, SHARED, VOCABULARY = 2048, 5632, 32, 4, 32_000
CHUNK = 512


def make(folder: Path, layers: int) -> Path:
    """A Llama with random weights, in shards."""
    from transformers import LlamaConfig, LlamaForCausalLM

    if (folder / "config.json").is_file():
        return folder
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        intermediate_size=INNER,
        num_hidden_layers=layers,
        num_attention_heads=HEADS,
        num_key_value_heads=SHARED,
        max_position_embeddings=2048,
        tie_word_embeddings=False,
    )
    LlamaForCausalLM(config).save_pretrained(folder, max_shard_size="1GB")
    return folder


def batches(tokens: int) -> list[Batch]:
    """Chunks of random tokens, two at a time."""
    ids = torch.randint(
        0, VOCABULARY, (max(1, tokens // CHUNK), min(tokens, CHUNK)), generator=torch.Generator().manual_seed(0)
    )
    found, first = [], 0
    for part in ids.split(2):
        targets = torch.cat([part[:, 1:], torch.full_like(part[:, :1], -100)], 1)
        found.append(Batch({"input_ids": part}, targets, chunks=torch.arange(first, first + len(part))))
        first += len(part)
    return found


def mapped(models: Iterable[Any]) -> int:
    """Bytes of the checkpoint that live weights alias, each once however many models map it."""
    ranges = []
    for line in Path("/proc/self/maps").read_text().splitlines():
        place, _, offset, *_, name = line.split(maxsplit=5) if line.count("/") else ["0-0", "", "0", ""]
        if name.endswith(".safetensors"):
            start, end = (int(part, 16) for part in place.split("-"))
            ranges.append((start, end, int(offset, 16), name))
    found: dict[tuple[str, int], int] = {}
    for model in models:
        for tensor in (*model.parameters(), *model.buffers()):
            for start, end, first, name in ranges:
                if start <= tensor.data_ptr() < end:
                    found[name, tensor.data_ptr() - start + first] = tensor.nbytes
    return sum(found.values())


def at_once(folder: Path, names: Sequence[str], given: list[Batch]) -> tuple[Gathered, int]:
    found = checkpoint.read(folder)
    gathered = Gathered(tasks.task_of(found), given, names)
    models = {REFERENCE: load(found, PRECISIONS["fp32"]).model}
    models |= {name: load(found, PRECISIONS[name]).model for name in names}
    for number, batch in enumerate(given):
        outputs = {
            name: forward(model, batch, PRECISIONS["fp32" if name == REFERENCE else name])
            for name, model in models.items()
        }
        gathered.output(number, outputs)
    return gathered, mapped(models.values())


def in_turn(folder: Path, names: Sequence[str], given: list[Batch]) -> tuple[Gathered, int]:
    found = checkpoint.read(folder)
    task = tasks.task_of(found)
    gathered = Gathered(task, given, names)
    held: list[Any] = []
    kept = 0
    for name in (REFERENCE, *names):
        row = PRECISIONS["fp32" if name == REFERENCE else name]
        model = load(found, row).model
        kept = max(kept, mapped([model]))
        one = Gathered(task, given, [name])
        for number, batch in enumerate(given):
            output = forward(model, batch, row)
            if name == REFERENCE:
                held.append(output)
            else:
                one.output(number, {REFERENCE: held[number], name: output})
        if name != REFERENCE:
            gathered.comparison.candidates[name] = one.comparison.candidates[name]
        del model
    return gathered, kept


def streamed(folder: Path, names: Sequence[str], given: list[Batch]) -> tuple[Gathered, int]:
    found = checkpoint.read(folder)
    spec = Spec(str(folder), precisions=tuple(names))
    rounds = Rounds(given, spec.precisions)
    outcome = measure_streamed(spec, found, {}, tasks.task_of(found), rounds, (), 1 << 40, lambda phase, share: None)
    assert outcome.gathered.comparison.seen == sum(batch.arguments["input_ids"].numel() for batch in given)
    return outcome.gathered, 0


ROADS = {"at once": at_once, "in turn": in_turn, "streamed": streamed, "kept": streamed}


def child(road: str, folder: Path, names: Sequence[str], tokens: int) -> None:
    """One road, in this process: its figures to standard output, memory above what is there after the imports."""
    settle()
    given = batches(tokens)
    with torch.inference_mode():  # threads and kernels are there before it counts
        torch.randn(64, 64) @ torch.randn(64, 64)
    watcher = subprocess.Popen(
        [sys.executable, "-I", "-S", sampler.__file__, str(os.getpid()), "0.004"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert watcher.stdin and watcher.stdout
    watcher.stdout.readline()
    _, resident, library, _ = map(int, Path("/proc/self/statm").read_text().split()[:4])
    page = os.sysconf("SC_PAGE_SIZE")
    before, libraries = (resident - library) * page, library * page
    wall, cpu = time.perf_counter(), time.process_time()
    gathered, kept = ROADS[road](folder, names, given)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    samples = list(struct.iter_unpack(sampler.RECORD.format, watcher.communicate()[0]))
    private = max(resident - shared for _, resident, shared in samples) - before
    most = max(resident for _, resident, _ in samples)
    kl = {name: one.vector("kl") for name, one in gathered.comparison.candidates.items()}
    json.dump(
        {
            "need": most - before - libraries if ROADS[road] is streamed else private + kept,
            "private": private,
            "rss": most,
            "wall": wall,
            "cpu": cpu,
            "kl": {name: float(values.mean()) for name, values in kl.items() if values is not None},
        },
        sys.stdout,
    )


def run(road: str, folder: Path, names: Sequence[str], tokens: int, home: Path, disk: bool) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.stream", "--child", road, "--folder", str(folder)]
    command += ["--tokens", str(tokens), "--precisions", *names]
    environment = os.environ | {"QFUND_HOME": str(home), "QFUND_CACHE_GIB": "20" if disk else "0"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def peaks(names: Sequence[str]) -> dict[str, float]:
    """Floating-point operations a second of a large product, best of five, as each precision multiplies."""
    found = {}
    for name in ("fp32", *names):
        row = PRECISIONS[name]
        x = torch.randn(CHUNK, WIDTH).to(getattr(torch, row.dtype))
        weight = torch.randn(INNER, WIDTH).to(x.dtype)
        best = float("inf")
        with torch.inference_mode():
            for _ in range(5):
                started = time.perf_counter()
                torch.nn.functional.linear(x, weight)
                best = min(best, time.perf_counter() - started)
        found[name] = 2 * CHUNK * WIDTH * INNER / best
    return found


def bandwidth(folder: Path) -> float:
    """Bytes a second of reading the checkpoint from the page cache into memory that is there, best of two."""
    room = memoryview(bytearray(64 << 20))
    best = float("inf")
    for _ in range(2):
        started, total = time.perf_counter(), 0
        for path in sorted(folder.glob("*.safetensors")):
            with path.open("rb", buffering=0) as file:
                while got := file.readinto(room):
                    total += got
        best = min(best, (time.perf_counter() - started) / total)
    return 1 / best


def bound(folder: Path, layers: int, names: Sequence[str], tokens: int) -> float:
    """Seconds that no way of computing this can do without, on these cores."""
    block = WIDTH * (2 * WIDTH + 2 * WIDTH * SHARED // HEADS) + 3 * WIDTH * INNER
    weights = layers * block + VOCABULARY * WIDTH
    speed = peaks(names)
    size = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    return size / bandwidth(folder) + sum(2 * weights * tokens / speed[name] for name in ("fp32", *names))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, nargs="+", default=[512, 2048])
    parser.add_argument("--layers", type=int, default=22)
    parser.add_argument("--precisions", nargs="+", default=list(PRECISIONS_ASKED))
    parser.add_argument("--roads", nargs="+", default=list(ROADS), choices=ROADS)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "qfund-benchmark-llama")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        child(given.child, given.folder, given.precisions, given.tokens[0])
        return
    folder = make(given.folder.with_name(f"{given.folder.name}-{given.layers}"), given.layers)
    size = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    print(f"{folder}: {size / 1e9:.2f} GB; fp32 against {', '.join(given.precisions)}", flush=True)
    for tokens in given.tokens:
        results: dict[str, dict[str, Any]] = {}
        with tempfile.TemporaryDirectory() as home:
            for road in given.roads:
                if road == "kept":  # whatever is not there yet is made by a run that does not count
                    run(road, folder, given.precisions, CHUNK, Path(home), True)
                results[road] = run(road, folder, given.precisions, tokens, Path(home), road == "kept")
                found = results[road]
                print(
                    f"{tokens:5} tokens  {road:9}  need {found['need'] / 1e9:6.2f} GB  "
                    f"private {found['private'] / 1e9:6.2f}  rss {found['rss'] / 1e9:6.2f}  "
                    f"wall {found['wall']:6.1f} s  cpu {found['cpu']:6.1f} s  "
                    f"KL {', '.join(f'{kl:.6g}' for kl in found['kl'].values())}",
                    flush=True,
                )
        least = bound(folder, given.layers, given.precisions, tokens)
        one = results.get("streamed")
        if one is None:
            continue
        for other in ("at once", "in turn"):
            if other in results:
                print(
                    f"       streamed / {other}: need 1/{results[other]['need'] / one['need']:.1f}, "
                    f"cpu {one['cpu'] / results[other]['cpu']:.2f}, wall {one['wall'] / results[other]['wall']:.2f}"
                )
        if "kept" in results and "in turn" in results:
            print(f"       kept / in turn: cpu {results['kept']['cpu'] / results['in turn']['cpu']:.2f}")
        device = torch_device()
        if device.type == "cpu":
            print("       no GPU here: what is reached of the transfer limit and of the matrix peak was not measured")
        else:
            from benchmarks.device import Sizes, shares

            for line in shares(device, size // 4, given.precisions, tokens, one["wall"], Sizes()):
                print(f"       {line}")
        for road in ("streamed", "kept"):
            if road in results:
                print(
                    f"       lower bound {least:.1f} s: {road} reaches {least / results[road]['wall']:.0%} of it",
                    flush=True,
                )


if __name__ == "__main__":
    main()
