"""What a forward or a load takes of the memory of its process, by plain transformers: of qfund its quantisers alone are
called here, and the load that quantises as it reads, which is held against the kernel's mark too.

Each runs in a fresh process (forked from one that has only imported torch and transformers), so that nothing is left
of another. The kernel's own high-water mark (``VmHWM``) misses nothing between two samples. Linux only.
"""

import copy
import ctypes
import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.pool import Pool
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import safe_open
from torch import nn
from transformers import modeling_utils
from transformers.models.llama.modeling_llama import LlamaForCausalLM  # noqa: F401 - imports what all models need


@contextmanager
def fresh_processes() -> Iterator[Pool]:
    """A pool that runs every task in a process of its own."""
    os.environ["MALLOC_MMAP_THRESHOLD_"] = str(128 << 10)  # what is freed goes back to the system at once
    context = get_context("forkserver")
    context.set_forkserver_preload(["torch", "transformers", __name__])
    with context.Pool(1, maxtasksperchild=1) as pool:
        yield pool


def growth(folder: str, architecture: str, dtype: str, batch: int, context: int) -> int:
    """Bytes by which resident memory grows while a model of that folder's config reads a prompt.

    The weights are random and lie in private memory. A prompt has been read before, so that what libraries set up once
    and keep (12 to 15 MiB; it belongs to the runtime) is there already.
    """
    transformers.utils.logging.set_verbosity_error()
    torch.set_num_threads(1)
    model = _random(folder, architecture, getattr(torch, dtype))
    with torch.no_grad():
        _read(model, batch, min(context, 1024))
        before = _rested()
        _read(model, batch, context)
        return _status("VmHWM") - before


def load_growth(folder: str, precision: str, way: str, tokens: int) -> tuple[int, int]:
    """Bytes by which private memory grows at most while a checkpoint is loaded, and while the model then reads so many
    tokens, both above what was there before the load.

    safetensors reads into private memory, so that the kernel's mark is of memory that is needed.
    """
    from qfund.checkpoints import checkpoint
    from qfund.models.loading import coding
    from qfund.precisions.quantizers.conversion import quantize_model
    from qfund.precisions.table import PRECISIONS

    transformers.utils.logging.set_verbosity_error()
    modeling_utils.__dict__["safe_open"] = coding.__dict__["safe_open"] = _Private
    row = PRECISIONS[precision]
    config = transformers.AutoConfig.from_pretrained(folder)
    kind = getattr(transformers, config.architectures[0])

    def load(folder: str) -> list[Any]:
        if way == "quantised-direct":
            return [coding.coded(checkpoint.read(Path(folder)), row, (), torch.device("cpu"))[0]]
        direct = way in ("direct", "torchao-direct")
        options: dict[str, Any] = {"dtype": getattr(torch, row.dtype) if direct else torch.float32}
        if way == "torchao-direct":
            from qfund.precisions import backends

            converter = next(one.load() for one in backends.implementations(precision) if one.backend == "torchao")
            options["quantization_config"] = transformers.TorchAoConfig(converter.config())
        models = [kind.from_pretrained(folder, **options).eval().requires_grad_(False)]
        if way == "deepcopy":
            models.append(copy.deepcopy(models[0]))
        models[-1].to(getattr(torch, row.dtype)) if way in ("cast", "deepcopy", "quantise-after") else None
        if row.quantizer and way != "torchao-direct":
            quantize_model(models[-1], row)
        return models

    load(folder)  # once before, so that what libraries set up and keep is there already
    before = _rested() - _status("RssFile")
    models = load(folder)
    most = _private_peak() - before
    _clear()
    with torch.no_grad():
        _read(models[0], 1, tokens, all_logits=True)
    return most, _private_peak() - before


class _Private:
    """A file of safetensors that is read, not mapped; its own slices would hold a tensor twice while they read it."""

    def __init__(self, path: str, **_: object) -> None:
        self._file = safe_open(path, framework="pt", backend="pread")

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def get_slice(self, name: str) -> "_Slice":
        return _Slice(self._file, name)


class _Slice:
    def __init__(self, file: Any, name: str) -> None:
        self._file, self._name = file, name

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file.get_slice(self._name), name)

    def __getitem__(self, key: Any) -> Any:
        return self._file.get_tensor(self._name)[key]


def _private_peak() -> int:
    """The kernel's mark without pages of files: those of libraries, which come when code first runs, and stay."""
    return _status("VmHWM") - _status("RssFile")


def _rested() -> int:
    """Resident bytes with everything given back that can be; from now on the kernel's mark is anew."""
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    _clear()
    return _status("VmRSS")


def _clear() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def _random(folder: str, architecture: str, dtype: torch.dtype) -> Any:
    kind = getattr(transformers, architecture)
    config = transformers.AutoConfig.from_pretrained(folder)
    torch.manual_seed(0)
    model = kind._from_config(config, dtype=dtype).eval()
    for parameter in model.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, 0.0, 0.02)
    return model


def _read(model: Any, batch: int, context: int, all_logits: bool = False) -> None:
    ids = torch.randint(0, 1000, (batch, context))
    options: dict[str, Any] = {"input_ids": ids}
    if model.config.is_encoder_decoder:
        options["decoder_input_ids"] = ids
    elif model.can_generate() and not all_logits:
        options["logits_to_keep"] = 1
    if model.can_generate():
        options["use_cache"] = not all_logits
    model(**options)


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name + ":"))
