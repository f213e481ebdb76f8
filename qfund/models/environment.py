"""Where models run and reports are measured: device, versions, processor, threads."""

import platform
from importlib import metadata

import torch

from qfund.checkpoints import catalog
from qfund.core.environment import Environment
from qfund.core.errors import InvalidSpec
from qfund.core.processor import cpu_name

_PACKAGES = ("torch", "transformers", "safetensors", "tokenizers", "numpy")


def torch_device() -> torch.device:
    """The device that models run on. It has to know double precision, in which outputs are compared (MPS does not).

    Raises:
        InvalidSpec: ``QFUND_DEVICE`` cannot be used here.
    """
    try:
        found = torch.device(catalog.device())
        torch.empty(0, dtype=torch.float64, device=found)
    except (RuntimeError, AssertionError, TypeError) as error:
        raise InvalidSpec(
            f"QFUND_DEVICE={catalog.device()} cannot be used here: {str(error).rstrip('.')}.", "Set it to cpu."
        ) from error
    return found


def wait_for(device: torch.device) -> None:
    """Until what this thread gave the device to compute is done: a clock that is read before says nothing of it. Copies
    in a queue of their own go on."""
    if device.type != "cpu":
        torch.get_device_module(device).current_stream(device).synchronize()


def describe(model_id: str, revision: str | None) -> Environment:
    device = torch.device(catalog.device())
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return Environment(
        versions={package: metadata.version(package) for package in _PACKAGES},
        python=platform.python_version(),
        platform=f"{platform.system()} {platform.machine()}",
        device=name,
        cpu=cpu_name(),
        threads=torch.get_num_threads(),
        model_id=model_id,
        revision=revision,
    )
