"""The most memory that a comparison of the shipped model takes, as the kernel counts it:
``python -m benchmarks.resident``.

Whole processes of the command line, imports and all, by the length of the text and the number of candidates. Aim: 400
MiB whatever these are. Pages of files are counted too, which others share and the system can take back.
"""

import os
import subprocess
import sys

#: So many of these are compared.
CANDIDATES = ["bf16_inputs", "int8", "int4", "bf16", "fp16", "int6", "nf4", "fp8_e4m3", "int5", "int8_dynamic"]
COUNTS = (1, 3, 10)
TEXTS = {"4,096 tokens": ["--max-tokens", "4096"], "43,512 tokens": ["--like-llama-cpp"]}


def most(arguments: list[str]) -> int:
    """Bytes that a command held at most. This process holds little: a child's mark begins with its parent's."""
    child = subprocess.Popen([sys.executable, "-m", "qfund", *arguments], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    if status:
        raise SystemExit(f"{arguments} failed with status {status}")
    return usage.ru_maxrss * 1024


def main() -> None:
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    for text, options in TEXTS.items():
        for count in COUNTS:
            found = most(
                ["compare", "pydoc-llama", "--precision", *CANDIDATES[:count], *options, "--no-store", "--quiet"]
            )
            print(f"{text}, candidates: {count:2}  {found / 1024**2:.0f} MiB", flush=True)


if __name__ == "__main__":
    main()
