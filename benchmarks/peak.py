"""What one forward takes of the memory of its process, by plain transformers: nothing of qfund is imported here.

``growth`` runs in a fresh process (forked from one that has only imported torch and transformers), so that nothing is
left of another forward. The kernel's own high-water mark (``VmHWM``) misses nothing between two samples. Linux only.
"""

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
from torch import nn
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
        gc.collect()
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
        before = _status("VmRSS")
        _read(model, batch, context)
        return _status("VmHWM") - before


def _random(folder: str, architecture: str, dtype: torch.dtype) -> Any:
    kind = getattr(transformers, architecture)
    config = transformers.AutoConfig.from_pretrained(folder)
    torch.manual_seed(0)
    model = kind._from_config(config, dtype=dtype).eval()
    for parameter in model.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, 0.0, 0.02)
    return model


def _read(model: Any, batch: int, context: int) -> None:
    ids = torch.randint(0, 1000, (batch, context))
    options: dict[str, Any] = {"input_ids": ids}
    if model.config.is_encoder_decoder:
        options["decoder_input_ids"] = ids
    elif model.can_generate():
        options["logits_to_keep"] = 1
    if model.can_generate():
        options["use_cache"] = True
    model(**options)


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name + ":"))
