"""``qfund compare`` beside the notebook way: wall time and peak memory of whole processes.

The notebook way is the lesson's: load fp32, deepcopy, cast (or round to int8 by hand), run both, subtract; it gives
mean and largest |difference| of the logits and nothing else. qfund gives every statistic, footprints and the token map.
"""

import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.side_by_side import in_turn, show

ROUNDS = 5
FOLDER = Path(__file__).resolve().parent.parent / "models" / "pydoc-llama"

NOTEBOOK = """
import copy, sys, torch
from transformers import AutoModelForCausalLM, AutoTokenizer
folder, text = sys.argv[1], open(sys.argv[2]).read()
ids = AutoTokenizer.from_pretrained(folder)(text, verbose=False)["input_ids"][:16384]
ids = torch.tensor(ids).view(-1, 256)
model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
bf16 = copy.deepcopy(model).to(torch.bfloat16)
int8 = copy.deepcopy(model)
for module in int8.model.modules():
    if isinstance(module, torch.nn.Linear):
        scale = module.weight.abs().amax(1, keepdim=True) / 127.5
        module.weight.data = (module.weight / scale).round().clamp(-128, 127) * scale
with torch.no_grad():
    for other in (bf16, int8):
        differences = (model(ids).logits - other(ids).logits.float()).abs()
        print(differences.mean().item(), differences.max().item())
"""


def notebook(text: Path) -> list[str]:
    return [sys.executable, "-c", NOTEBOOK, str(FOLDER), str(text)]


def in_batches(text: Path) -> list[str]:
    """The same, a batch of 16 chunks at a time, as someone short of memory would write it."""
    loop = NOTEBOOK.replace(
        "        differences = (model(ids).logits - other(ids).logits.float()).abs()\n"
        "        print(differences.mean().item(), differences.max().item())\n",
        "        parts = [(model(part).logits - other(part).logits.float()).abs() for part in ids.split(16)]\n"
        "        print(sum(p.mean() for p in parts).item() / len(parts), max(p.max() for p in parts).item())\n",
    )
    assert loop != NOTEBOOK
    return [sys.executable, "-c", loop, str(FOLDER), str(text)]


def qfund(_: Path) -> list[str]:
    command = [sys.executable, "-m", "qfund", "compare", "pydoc-llama", "--precision", "bf16", "int8"]
    return [*command, "--no-store", "--json"]


def imports(_: Path) -> list[str]:
    """What any of them must at least do: import the libraries."""
    return [sys.executable, "-c", "import torch; from transformers import AutoTokenizer, LlamaForCausalLM"]


WAYS: dict[str, Callable[[Path], list[str]]] = {
    "qfund compare": qfund,
    "notebook": notebook,
    "notebook, in batches": in_batches,
    "imports alone": imports,
}


def measured(command: list[str]) -> tuple[float, float]:
    """Wall seconds and peak resident bytes of one process."""
    started = time.perf_counter()
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    if status:
        raise SystemExit(f"{command[:4]} failed with status {status}")
    return time.perf_counter() - started, usage.ru_maxrss * 1024


def main() -> None:
    import tempfile

    from qfund.checkpoints import catalog
    from qfund.inputs import evaluation

    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 200 * 1024, "a child starts with its parent's peak"
    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder) / "text.txt"
        text.write_text(evaluation.evaluation_text(catalog.locate("pydoc-llama"))[0], "utf-8")
        peaks: dict[str, list[float]] = {name: [] for name in WAYS}

        def timed(name: str, command: list[str]) -> Callable[[], float]:
            def once() -> float:
                seconds, peak = measured(command)
                peaks[name].append(peak)
                return seconds

            return once

        seconds = in_turn({name: timed(name, way(text)) for name, way in WAYS.items()}, ROUNDS)
    show("wall time", seconds, "notebook", "s")
    peaks = {name: values[1:] for name, values in peaks.items()}
    show("peak resident memory", peaks, "notebook", "MiB", 1 / 1024**2)


if __name__ == "__main__":
    main()
