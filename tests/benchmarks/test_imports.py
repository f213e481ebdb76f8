"""Benchmarks and training are run seldom: what they import is there all the same."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_every_benchmark_and_training_module_can_be_imported() -> None:
    names = [
        f"{path.parent.name}.{path.stem}" for room in ("benchmarks", "training") for path in (ROOT / room).glob("*.py")
    ]
    assert len(names) > 20
    script = "import importlib, sys\nfor name in sys.argv[1:]: importlib.import_module(name)"
    done = subprocess.run([sys.executable, "-c", script, *names], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
