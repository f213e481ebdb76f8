"""Corrupted checkpoints through commands, hostile links through pages: how many end in a traceback. The aim is 0.

    python -m benchmarks.fuzz 500          # so many checkpoints, each through every command
    python -m benchmarks.fuzz 500 7        # from another seed

Everything is drawn from a seed. ``tests/features/test_fuzz.py`` runs a few of the same.
"""

import contextlib
import io
import json
import shutil
import sys
import tempfile
import traceback
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

TEXT = "The fox and the dog. One two three four five six seven eight nine ten."
#: Values that nobody means.
ODD: tuple[Any, ...] = (None, -1, 0, 1e308, 2**70, "q", "", True, [], {}, [None], "../../x", "\0", "é" * 300, {"a": {}})
#: What stands where a model's name should.
NAMES = (
    *("x" * 300, "~nosuch/x", "a/" * 400, "\0", "./" + "y" * 5000, "~", "/", "..", "owner/", "/dev/null", "http://a/b"),
    *("pydoc-llama\n", "=1+1", "<script>", "%00", "a" * 97 + "/b", "\ud7ff\u202e", "-", " ", "models--a--b"),
)
CHEAP = (("plan",), ("plan", "--headers"), ("fits", "--budget", "1GiB", "--precision", "bf16", "--context", "16"))
COMMANDS = (
    *CHEAP,
    ("compare", "--precision", "bf16", "int8", "--text", TEXT, "--no-store", "--quiet"),
    ("generate", "--precision", "bf16", "--prompt", TEXT, "--no-store", "--quiet"),
)


def corrupt(folder: Path, random: Random) -> str:
    """Do one thing to a checkpoint, and say which."""
    ways = (_header_bytes, _header_entry, _truncated, _config, _config, _json_file, _gone)
    return random.choice(ways)(folder, random)


def _weights(folder: Path) -> tuple[Path, bytes, int]:
    path = folder / "model.safetensors"
    raw = path.read_bytes()
    return path, raw, int.from_bytes(raw[:8], "little")


def _header_bytes(folder: Path, random: Random) -> str:
    path, raw, length = _weights(folder)
    changed = bytearray(raw)
    places = [random.randrange(8 + length) for _ in range(random.randint(1, 4))]
    for place in places:
        changed[place] = random.randrange(256)
    path.write_bytes(changed)
    return f"bytes {places} of the header"


def _header_entry(folder: Path, random: Random) -> str:
    path, raw, length = _weights(folder)
    rows = json.loads(raw[8 : 8 + length])
    name = random.choice([name for name in rows if name != "__metadata__"])
    what = random.choice(("dtype", "shape", "data_offsets", "name"))
    if what == "name":
        rows[random.choice(("", "a." * 500, "\u202e", "lm_head.weight", "module." + name))] = rows.pop(name)
    elif what == "dtype":
        rows[name]["dtype"] = random.choice(("I64", "C64", "BOOL", "F16", "I32", "F8_E4M3", "F4", "X"))
    else:
        rows[name][what] = random.choice(ODD)
    made = json.dumps(rows).encode()
    path.write_bytes(len(made).to_bytes(8, "little") + made + raw[8 + length :])
    return f"{what} of {name}"


def _truncated(folder: Path, random: Random) -> str:
    path = random.choice(sorted(folder.iterdir()))
    size = random.randrange(path.stat().st_size)
    path.write_bytes(path.read_bytes()[:size])
    return f"{path.name} cut to {size} bytes"


def _json_file(folder: Path, random: Random) -> str:
    path = random.choice(sorted(folder.glob("*.json")))
    found = json.loads(path.read_text())
    key = random.choice(list(found) or ["a"])
    found[key] = random.choice(ODD)
    path.write_text(json.dumps(found))
    return f"{path.name}: {key} = {str(found[key])[:30]!r}"


def _config(folder: Path, random: Random) -> str:
    path = folder / random.choice(("config.json", "config.json", "generation_config.json"))
    found = json.loads(path.read_text()) if path.is_file() else {}
    more = ("num_beams", "eos_token_id", "temperature", "rope_scaling", "quantization_config", "dtype", "pad_token_id")
    key = random.choice((*found, *more))
    found[key] = random.choice(ODD)
    path.write_text(json.dumps(found))
    return f"{path.name}: {key} = {str(found[key])[:30]!r}"


def _gone(folder: Path, random: Random) -> str:
    path = random.choice(sorted(folder.iterdir()))
    path.unlink()
    return f"{path.name} is gone"


def run(arguments: list[str]) -> str | None:
    """The traceback with which a command ends; None where it ends as it should."""
    from qfund import cli

    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as said:
        try:
            cli.main(arguments)
        except SystemExit:
            return said.getvalue() if "Traceback" in said.getvalue() else None
        except Exception:
            return traceback.format_exc()
    return None


def link(random: Random) -> dict[str, str]:
    """A query that somebody made up."""
    names = (
        "model",
        "p",
        "ref",
        "text",
        "tokens",
        "context",
        "batch",
        "kv",
        "budget",
        "section",
        "load",
        "rev",
        "also",
    )
    chosen = {name: str(random.choice((*ODD, *NAMES, "bf16", "1", "9" * 400))) for name in random.sample(names, 4)}
    return chosen | {"model": random.choice((*NAMES, "pydoc-llama", "dummy"))}


def corrupted(model: Path, count: int, seed: int) -> Iterator[tuple[str, Path]]:
    """So many broken copies of a checkpoint, each gone when the next is asked for."""
    random = Random(seed)
    with tempfile.TemporaryDirectory(prefix="qfund-fuzz-") as room:
        for number in range(count):
            folder = Path(room) / f"model{number}"
            shutil.copytree(model, folder)
            yield corrupt(folder, random), folder
            shutil.rmtree(folder)


def main() -> None:
    from tests.tiny import checkpoints

    words = sys.argv[1:]
    count, seed = int(words[0]) if words else 100, int(words[1]) if len(words) > 1 else 1
    found = 0
    for what, folder in corrupted(checkpoints.folder("llama"), count, seed):
        for command, *options in COMMANDS:
            if (error := run([command, str(folder), *options])) is not None:
                found += 1
                print(f"{what}: qfund {command}: {error.strip().splitlines()[-1]}", flush=True)
    print(f"{count} checkpoints × {len(COMMANDS)} commands: {found} tracebacks")


if __name__ == "__main__":
    main()
