"""What qfund does before it does anything: ``python -m benchmarks.startup``.

Processor time (user and system) of whole processes, in turns, beside what any of them must at least import. Aims: help
0.15 s, a plan from headers 0.3 s; a comparison of the smallest model, its imports alone, and a worker that is ready for
one, each at most 1.25 times ``import torch`` with transformers' Auto classes. Byte code is kept between the processes,
as wherever qfund is installed, also where the environment forbids it: to compile qfund's own code at each start would
be a tenth of what is measured.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable

from benchmarks.side_by_side import in_turn, show
from qfund.engine import messages

ROUNDS = 5
LEAST = "torch, AutoModelForCausalLM"
WORKER = [sys.executable, "-m", "qfund.engine.worker"]
COMMANDS = {
    LEAST: [sys.executable, "-c", "import torch; from transformers import AutoModelForCausalLM"],
    "qfund --help": [sys.executable, "-m", "qfund", "--help"],
    "qfund plan --headers": [sys.executable, "-m", "qfund", "plan", "pydoc-llama", "--headers"],
    "imports of a comparison": [sys.executable, "-c", "import qfund.cli, qfund.features.compare.measure.compare"],
    "a worker, warm": WORKER,
    "qfund compare dummy": [sys.executable, "-m", "qfund", "compare", "dummy", "--no-store"],
    "… and the store": [sys.executable, "-m", "qfund", "compare", "dummy", "--fresh"],
}


def processor_seconds(command: list[str]) -> Callable[[], float]:
    """Of one process and its children, from its start to its end."""

    def once() -> float:
        child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert child.stdin is not None and child.stdout is not None
        if command == WORKER:  # which takes one message after another, and ends when there is nobody to send any
            child.stdin.write(messages.line(messages.Warm()) + b"no message\n")
            child.stdin.flush()
            for _ in ("ready", "failed"):
                child.stdout.readline()
        child.stdin.close()
        child.stdout.read()
        _, status, usage = os.wait4(child.pid, 0)
        if status:
            raise SystemExit(f"{command} failed with status {status}")
        return usage.ru_utime + usage.ru_stime

    return once


def main() -> None:
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    with tempfile.TemporaryDirectory() as os.environ["PYTHONPYCACHEPREFIX"]:  # filled by the round that is not counted
        found = in_turn({name: processor_seconds(command) for name, command in COMMANDS.items()}, ROUNDS)
    show("processor time", found, LEAST, "ms", 1000)


if __name__ == "__main__":
    main()
