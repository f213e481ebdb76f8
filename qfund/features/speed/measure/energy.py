"""Energy counters: RAPL's of the processor's packages, NVML's of a GPU."""

import importlib
from collections.abc import Callable
from pathlib import Path

import torch

_RAPL = Path("/sys/class/powercap")
NONE = (
    "Energy is not measured here: this machine lets nobody read a counter of its processor "
    "(/sys/class/powercap/intel-rapl:*/energy_uj)"
)


def meter(device: str, folder: Path = _RAPL) -> tuple[Callable[[], float | None], str]:
    """A counter of joules since some time, and what it counts; one that counts nothing, and why."""
    return _nvml(device) if device.startswith("cuda") else _rapl(folder)


def _rapl(folder: Path) -> tuple[Callable[[], float | None], str]:
    packages = [path for path in sorted(folder.glob("intel-rapl:*")) if path.name.count(":") == 1]
    counters = [path / "energy_uj" for path in packages]
    try:
        ranges = [int((path / "max_energy_range_uj").read_text()) for path in packages]
        before = [int(path.read_text()) for path in counters]
    except (OSError, ValueError):
        return (lambda: None), f"{NONE}: it may need root."
    if not counters:
        return (lambda: None), f"{NONE}: there is none."
    total = 0

    def joules() -> float:
        nonlocal total
        for place, path in enumerate(counters):
            now = int(path.read_text())
            total += (now - before[place]) % (ranges[place] + 1)  # it begins again at 0
            before[place] = now
        return total / 1e6

    return joules, f"Energy of {len(counters)} processor package(s) by RAPL, whoever else used them included."


def _nvml(device: str) -> tuple[Callable[[], float | None], str]:
    try:
        pynvml = importlib.import_module("pynvml")
        pynvml.nvmlInit()
        # By its own number: CUDA counts those that CUDA_VISIBLE_DEVICES lets it see, NVML all.
        handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(device).uuid}")
        pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except ImportError:
        return (lambda: None), "Energy is not measured here: install nvidia-ml-py."
    except Exception as error:  # pynvml's own errors, for a driver or a card without the counter
        return (lambda: None), f"Energy is not measured here: NVML says {error}."

    def joules() -> float | None:
        """The counter has millijoules, of 64 bits: it does not begin again while a machine runs."""
        try:
            return float(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)) / 1000
        except Exception:  # a card that has left the bus: times are kept without it
            return None

    return joules, "Energy of the whole GPU by NVML."
