"""How much memory there is: an amount that somebody typed, this machine's, or that of a GPU from a list. No torch."""

import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from qfund.core.errors import InvalidSpec, UnknownName

MACHINE = "machine"  # what is free here
SMALLEST = 2**20
LARGEST = 2**50


@dataclass(frozen=True, slots=True)
class Gpu:
    """``bytes`` is the total that the driver lets a process see, not what is printed on the box."""

    name: str
    title: str
    bytes: int


# GiB, rounded down, as PyTorch's out-of-memory messages give it ("GPU 0 has a total capacity of 23.64 GiB"):
# cudaDeviceProp.totalGlobalMem, which is what nvidia-smi shows less what the driver keeps. It differs by some tens of
# MiB between drivers, and is lower with ECC on. Read in public issue reports: 4090 23.64 (Nightmare-n/DepthAnyVideo 9
# and VGen 104), 5090 31.37 (Wan-Video/Wan2.1 465), T4 14.56-14.75 (CatVTON 133, Open-Sora 697), L40S 44.53 (Wan2.1
# 205), RTX 6000 Ada 44.43 with ECC (MTVCrafter 21), A100 40 GB 39.50 (CoSeR 10) and 80 GB 79.25 (Vad-R1 11), H100 79.11
# (vllm 27508), B200 178.35 (pytorch/ao 4002), RTX 3060 and 4070 11.75 (dreambooth-gui 78, StyleGaussian), RTX 3080 9.78
# (CogVideo 34), A10 23.70 without ECC (stanford_alpaca 76). Those marked "total" are what nvidia-smi lists as the
# total (modal-client 2797 for L4 23034 and A10G 23028 MiB; the others as NVIDIA sells them), less 3 %: where both are
# known, CUDA offers 0.7 % (H100) to 2.9 % (T4) less. The H200's 139 GiB are those of the one that this project borrows.
_TOTAL = 0.97
_GIB = 1024**3


def _capacity(name: str, title: str, gib: float) -> Gpu:
    return Gpu(name, title, int(gib * _GIB))


def _total(name: str, title: str, gib: float) -> Gpu:
    return _capacity(name, title, gib * _TOTAL)


GPUS: dict[str, Gpu] = {
    gpu.name: gpu
    for gpu in (
        _total("rtx-4060", "GeForce RTX 4060, 8 GB", 8),
        _capacity("rtx-3080", "GeForce RTX 3080, 10 GB", 9.78),
        _capacity("rtx-3060", "GeForce RTX 3060, 12 GB", 11.75),
        _capacity("rtx-4070", "GeForce RTX 4070, 12 GB", 11.75),
        _capacity("t4", "Tesla T4, 16 GB", 14.56),
        _total("v100-16gb", "Tesla V100, 16 GB", 16),
        _total("rtx-4060-ti-16gb", "GeForce RTX 4060 Ti, 16 GB", 16),
        _total("rtx-4080", "GeForce RTX 4080, 16 GB", 16),
        _total("rtx-5080", "GeForce RTX 5080, 16 GB", 16),
        _total("l4", "L4, 24 GB", 23034 / 1024),
        _total("a10g", "A10G, 24 GB", 23028 / 1024),
        _total("rtx-3090", "GeForce RTX 3090, 24 GB", 24),
        _capacity("rtx-4090", "GeForce RTX 4090, 24 GB", 23.52),
        _capacity("rtx-5090", "GeForce RTX 5090, 32 GB", 31.37),
        _capacity("a100-40gb", "A100, 40 GB", 39.50),
        _capacity("l40s", "L40S, 48 GB", 44.40),
        _total("rtx-a6000", "RTX A6000, 48 GB", 48),
        _capacity("rtx-6000-ada", "RTX 6000 Ada, 48 GB", 44.43),
        _capacity("h100", "H100, 80 GB", 79.11),
        _capacity("a100-80gb", "A100, 80 GB", 79.25),
        _total("rtx-pro-6000", "RTX PRO 6000 Blackwell, 96 GB", 96),
        _capacity("h200", "H200, 141 GB", 139.0),
        _capacity("b200", "B200, 192 GB", 178.35),
    )
}


#: What a GPU's name may lack or have besides.
_BESIDES = re.compile(r"nvidia|geforce|tesla|rtx|gpu|[\W_]")


def _bare(name: str) -> str:
    """``"NVIDIA GeForce RTX 4090"``, ``"rtx-4090"``, ``"4090"`` → ``"4090"``."""
    return _BESIDES.sub("", name.lower())


#: Each GPU by its name, by its title, and by that without the size where the name does without.
_BARE = {
    _bare(spelt): gpu
    for gpu in GPUS.values()
    for spelt in (gpu.name, gpu.title, gpu.name if "gb" in gpu.name else gpu.title.partition(",")[0])
}


def gpu(name: str) -> Gpu:
    """The row of that name, however people write it: ``RTX 4090``, ``rtx4090``, ``4090``, ``NVIDIA A100 80GB``.

    Raises:
        UnknownName: with the closest name and all there are.
    """
    if (found := _BARE.get(_bare(name))) is not None:
        return found
    raise UnknownName(f"Unknown GPU {name.strip()!r}.", f"{_meant(name)}Available: {', '.join(GPUS)}.")


def _meant(name: str) -> str:
    """Which GPU may be meant by what is none, as the beginning of a remedy."""
    bare = _bare(name)
    begun = [spelt for spelt in _BARE if bare and spelt.startswith(bare)]
    close = begun or difflib.get_close_matches(bare, _BARE, n=3, cutoff=0.7)
    names = list(dict.fromkeys(_BARE[spelt].name for spelt in close))
    return f"Did you mean: {' or '.join(names)}? " if names else ""


def recognized(text: str) -> str:
    """``machine``, the name of the GPU that somebody typed, or the text as it is: an amount of memory."""
    if text.strip().lower() == MACHINE:
        return MACHINE
    found = _BARE.get(_bare(text))
    return found.name if found else text.strip()


def budget(text: str) -> int:
    """The bytes that ``machine``, a GPU's name or an amount stands for.

    Raises:
        InvalidSpec: none of them, or an amount that cannot be; with the GPU that may be meant.
    """
    name = recognized(text)
    if name == MACHINE:
        return machine_memory()
    return GPUS[name].bytes if name in GPUS else parse_budget(name)


_UNITS = {"": 1, "b": 1} | {
    prefix + unit: base**power
    for power, prefix in enumerate("kmgt", start=1)
    for unit, base in (("ib", 1024), ("b", 1000))
}


def parse_budget(text: str) -> int:
    """``"24GiB"`` → 25769803776. ``"24 GB"`` is 24·10⁹; a plain number is bytes.

    Raises:
        InvalidSpec: zero, negative, no number, an unknown unit, or less than any model takes.
    """
    found = re.fullmatch(r"(\d{1,20}(?:\.\d{1,20})?)\s*([a-z]*)", text.strip().lower(), re.ASCII)
    if not found:
        raise _wrong(text, "not a positive amount of memory")
    number, unit = found.groups()
    if unit not in _UNITS:
        raise _wrong(text, f"in an unknown unit {unit!r}")
    count = int(float(number) * _UNITS[unit]) if "." in number else int(number) * _UNITS[unit]
    return checked_budget(count, text)


def checked_budget(count: int, text: str | None = None) -> int:
    """The same number of bytes; ``text`` is how it was written.

    Raises:
        InvalidSpec: less than any model takes, or more than any machine has.
    """
    if not SMALLEST <= count <= LARGEST:
        what = "less than any model needs" if count < SMALLEST else "more than any machine has"
        raise _wrong(text or f"{count} B", what)
    return count


def _wrong(text: str, what: str) -> InvalidSpec:
    return InvalidSpec(
        f"The budget {text[:40]!r} is {what}.",
        f"{_meant(text[:40])}Give an amount with a unit: 24GiB, 24GB, 512MiB; a GPU: rtx-4090, 4090; or {MACHINE}.",
    )


def machine_memory() -> int:
    """Bytes of main memory that this process could still take: what the system calls available, or less where a control
    group (a container) allows less. Its page cache counts as free, since it is given back under pressure.

    Raises:
        InvalidSpec: this system does not tell.
    """
    free = [count for count in (_available(), *_left_in_groups()) if count is not None]
    if not free:
        raise InvalidSpec("This system does not say how much memory is free.", "Give a budget in bytes: 16GiB.")
    return max(0, min(free))


def _available() -> int | None:
    for line in _lines(Path("/proc/meminfo")):
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def _left_in_groups(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> Iterator[int]:
    """What is left in this process's control group and in each above it, of version 2 or 1."""
    for line in _lines(own):
        _, controllers, path = line.split(":", 2)
        if controllers not in ("", "memory") and "memory" not in controllers.split(","):
            continue
        top, limit, used, cache = (
            (root / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            if controllers
            else (root, "memory.max", "memory.current", "inactive_file")
        )
        here = top / path.strip().lstrip("/")
        # Inside a container the path is often the host's, and only the top is mounted.
        for folder in {top, here, *here.parents}:
            if folder != top and top not in folder.parents:
                continue
            most, now = _number(folder / limit), _number(folder / used)
            if most is not None and now is not None:
                stat = dict(row.split(maxsplit=1) for row in _lines(folder / "memory.stat"))
                yield most - now + int(stat.get(cache, 0))


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text("utf-8", "replace").splitlines()
    except OSError:
        return []


def _number(path: Path) -> int | None:
    """None where there is no number: no file, or ``max``."""
    text = "".join(_lines(path)).strip()
    return int(text) if text.isdigit() else None
