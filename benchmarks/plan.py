"""``qfund plan`` beside accelerate's ``estimate-memory``: byte errors, times and memory, each a ratio from one run.

``estimate-memory`` reads no local folder, so its own functions are called with the question to the Hub answered by
hand. ``--table`` prints the page docs/plan.md instead: every tiny architecture of the tests, with our byte error.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

from benchmarks.side_by_side import in_turn, show

ROUNDS = 5
#: accelerate's names of what it sizes.
THEIR_NAMES = {"fp32": "float32", "fp16": "float16", "int8": "int8", "int4": "int4"}
LLAMA_70B = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "dtype": "bfloat16",
    "vocab_size": 128256,
    "hidden_size": 8192,
    "intermediate_size": 28672,
    "num_hidden_layers": 80,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "max_position_embeddings": 131072,
    "tie_word_embeddings": False,
}

THEIRS = """
import sys
from argparse import Namespace
from types import SimpleNamespace
from accelerate.commands import estimate
estimate.verify_on_hub = lambda *_: SimpleNamespace(config={}, library_name="transformers")
estimate.estimate_command(Namespace(
    model_name=sys.argv[1], library_name="transformers", trust_remote_code=False,
    dtypes=["float32", "float16", "int8", "int4"],
))
"""
#: Runs the command line and then says on standard error how much memory it took at most.
OURS = """
import atexit, sys
from pathlib import Path
from qfund.cli import main
peak = lambda: next(row.split()[1] for row in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in row)
atexit.register(lambda: print("peak", peak(), file=sys.stderr))
main(sys.argv[1:])
"""


def seventy_billion(folder: Path, shards: int = 30) -> Path:
    """A checkpoint of Llama 3's 70 billion parameters in BF16: headers and holes, no data."""
    width, inner, keys = 8192, 28672, 1024
    shapes: dict[str, list[int]] = {"model.embed_tokens.weight": [128256, width]}
    for layer in range(80):
        block = f"model.layers.{layer}."
        for name in ("input_layernorm", "post_attention_layernorm"):
            shapes[f"{block}{name}.weight"] = [width]
        for name, rows in (("q", width), ("k", keys), ("v", keys), ("o", width)):
            shapes[f"{block}self_attn.{name}_proj.weight"] = [rows, width]
        for name, shape in (("gate", [inner, width]), ("up", [inner, width]), ("down", [width, inner])):
            shapes[f"{block}mlp.{name}_proj.weight"] = shape
    shapes |= {"model.norm.weight": [width], "lm_head.weight": [128256, width]}
    names = list(shapes)
    files: dict[str, str] = {}
    for shard in range(shards):
        file = f"model-{shard + 1:05}-of-{shards:05}.safetensors"
        place, header = 0, {}
        for name in names[shard::shards]:
            size = 2 * shapes[name][0] * (shapes[name][1] if len(shapes[name]) > 1 else 1)
            header[name] = {"dtype": "BF16", "shape": shapes[name], "data_offsets": [place, place + size]}
            place, files[name] = place + size, file
        raw = json.dumps(header).encode()
        with (folder / file).open("wb") as target:
            target.write(len(raw).to_bytes(8, "little") + raw)
            target.truncate(8 + len(raw) + place)
    (folder / "config.json").write_text(json.dumps(LLAMA_70B))
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": files}))
    return folder


def _quietly() -> None:
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()


def errors(name: str) -> dict[str, tuple[int, int]]:
    """Precision → bytes that are stored, and those predicted."""
    from qfund.features.memory.measure.plan import plan
    from qfund.features.memory.request.plan import PlanRequest
    from tests.tiny import planned

    asked = PlanRequest(str(planned.folder(name)), (*planned.CASTS, *planned.QUANTIZED))
    found = plan(asked, lambda *_: None)
    return {
        entry.precision: (planned.loaded_bytes(name, entry.precision), entry.predicted_bytes) for entry in found.entries
    }


def their_bytes(folder: Path) -> dict[str, float]:
    """accelerate's total sizes by our names."""
    from accelerate.commands import estimate  # type: ignore[import-untyped]

    estimate.verify_on_hub = lambda *_: SimpleNamespace(config={}, library_name="transformers")
    asked = Namespace(
        model_name=str(folder),
        library_name="transformers",
        trust_remote_code=False,
        dtypes=list(THEIR_NAMES.values()),
    )
    sizes = {row[0]: row[2] for row in estimate.gather_data(asked)}
    return {ours: sizes[theirs] for ours, theirs in THEIR_NAMES.items()}


def table() -> Iterator[str]:
    """docs/plan.md."""
    from tests.tiny import planned

    _quietly()
    yield "# Predicted and stored bytes"
    yield ""
    yield "`qfund plan` beside models that were really loaded: the difference in bytes, made by"
    yield "`python -m benchmarks.plan --table`. Casts are compared with transformers' `get_memory_footprint()`,"
    yield "quantised models with a count of every tensor that they hold. The models are small and random"
    yield "(`tests/tiny/planned.py`); a dash stands where a precision would convert nothing."
    yield ""
    columns = (*planned.CASTS, *planned.QUANTIZED)
    yield f"| model | architecture | fp32 bytes | {' | '.join(columns)} |"
    yield f"|---|---|---:|{'---:|' * len(columns)}"
    for name in planned.NAMES:
        found = errors(name)
        cells = [str(found[column][1] - found[column][0]) if column in found else "–" for column in columns]
        yield f"| {name} | {planned.architecture(name)} | {found['fp32'][0]:,} | {' | '.join(cells)} |"
    yield ""
    for name, words in planned.AWKWARD.items():
        yield f"- *{name}*: {words}."


def byte_errors() -> None:
    """Ours and accelerate's over the table, in percent of what is stored."""
    from tests.tiny import planned

    _quietly()
    ours: list[float] = []
    theirs: dict[str, list[float]] = {name: [] for name in THEIR_NAMES}
    failed = []
    sys.stdout, out = sys.stderr, sys.stdout  # accelerate prints
    for name in planned.NAMES:
        found = errors(name)
        ours += [abs(predicted - stored) / stored for stored, predicted in found.values()]
        try:
            sizes = their_bytes(planned.folder(name))
        except Exception as error:
            failed.append(f"{name} ({type(error).__name__})")
            continue
        for precision, size in sizes.items():
            theirs[precision].append(abs(size - found[precision][0]) / found[precision][0])
    sys.stdout = out
    exact = sum(error == 0 for error in ours)
    print(
        f"qfund: {exact} of {len(ours)} footprints exact, largest error {max(ours):.2%} ({len(planned.NAMES)} models)"
    )
    for precision, found_ in theirs.items():
        exact, middle = sum(error == 0 for error in found_), statistics.median(found_)
        print(
            f"accelerate, {THEIR_NAMES[precision]}: {exact} of {len(found_)} exact, median error {middle:.1%}, "
            f"largest {max(found_):.0%}"
        )
    print(f"accelerate fails on {', '.join(failed) or 'none'}")


def _run(command: list[str], environment: dict[str, str]) -> int:
    """Peak memory in bytes, where the command says so."""
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{command[:4]}: {done.stderr[-2000:]}")
    said = [line.split()[1] for line in done.stderr.splitlines() if line.startswith("peak ")]
    return 1024 * int(said[0]) if said else 0


def processes(folder: Path) -> None:
    """Whole processes in turns, then the exact step in one that is warm."""
    environment = os.environ | {"OMP_WAIT_POLICY": "passive", "HF_HUB_OFFLINE": "1"}
    commands = {
        "headers": [sys.executable, "-c", OURS, "plan", str(folder), "--headers", "--json"],
        "exact": [sys.executable, "-c", OURS, "plan", str(folder), "--json", "--precision", *THEIR_NAMES],
        "exact, every precision": [sys.executable, "-c", OURS, "plan", str(folder), "--json"],
        "accelerate": [sys.executable, "-c", THEIRS, str(folder)],
    }
    peaks: dict[str, int] = {}

    def timed(name: str, command: list[str]) -> Callable[[], float]:
        def run() -> float:
            start = time.perf_counter()
            peaks[name] = _run(command, environment)
            return time.perf_counter() - start

        return run

    found = in_turn({name: timed(name, command) for name, command in commands.items()}, ROUNDS)
    show("whole process", found, "accelerate", "s")
    for name in commands.keys() - {"accelerate"}:
        print(f"  {name}: peak {peaks[name] / 1e6:.0f} MB")


def warm(folder: Path) -> None:
    """The exact step where everything is imported, as a worker answers it."""
    from qfund.features.memory.measure.plan import plan
    from qfund.features.memory.request.plan import PlanRequest

    for precisions in (tuple(THEIR_NAMES), ()):
        seconds = []
        for _ in range(ROUNDS + 1):
            start = time.perf_counter()
            found = plan(PlanRequest(str(folder), precisions), lambda *_: None)
            seconds.append(time.perf_counter() - start)
        print(
            f"exact, warm, {len(found.entries)} precisions: {statistics.median(seconds[1:]):.3f} s "
            f"(the first time {seconds[0]:.3f} s)"
        )


def main() -> None:
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    if "--table" in sys.argv:
        print("\n".join(table()))
        return
    byte_errors()
    with tempfile.TemporaryDirectory() as folder:
        print("\nLlama of 70 billion parameters, 723 tensors in 30 files without data")
        made = seventy_billion(Path(folder))
        processes(made)
        warm(made)


if __name__ == "__main__":
    main()
