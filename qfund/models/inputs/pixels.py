"""Pictures → the tensor that a model reads."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import AutoImageProcessor

from qfund.checkpoints.checkpoint import Checkpoint
from qfund.checkpoints.pointers import must_be_no_pointer
from qfund.core.errors import UnsupportedModel
from qfund.models.tasks import read_config

#: Where transformers looks for an image processor.
_SETTINGS = ("preprocessor_config.json", "processor_config.json")


def pixel_values(checkpoint: Checkpoint, images: Sequence[Image.Image], config: Any = None) -> tuple[Tensor, str]:
    """Pictures as [pictures, channels, height, width], and how they were made ready, in words.

    Raises:
        UnsupportedModel: an image processor that cannot be used.
    """
    must_be_no_pointer(checkpoint.folder / name for name in _SETTINGS)
    if _has_processor(checkpoint.folder):
        try:
            processor = AutoImageProcessor.from_pretrained(checkpoint.folder, local_files_only=True, backend="pil")
            values: Tensor = processor(images=list(images), return_tensors="pt")["pixel_values"]
        except Exception as error:  # image processors raise whatever their libraries raise
            raise UnsupportedModel(
                f"The image processor in {checkpoint.folder.name} cannot be used: {error}",
                f"Remove {' and '.join(_SETTINGS)} to have pictures scaled plainly, or choose another model.",
            ) from error
        return values, "made ready by the model's own image processor"
    return _scaled(read_config(checkpoint) if config is None else config, images)


def _has_processor(folder: Path) -> bool:
    """Whether a file says how pictures are made ready: one of its own, or, as transformers 5 writes it, a part of the
    processor's."""
    alone, whole = (folder / name for name in _SETTINGS)
    if alone.is_file() or not whole.is_file():
        return alone.is_file()
    try:
        found = json.loads(whole.read_text("utf-8"))
    except (ValueError, RecursionError):
        return True  # whose reader says what is wrong with it
    return not isinstance(found, dict) or "image_processor" in found


def _scaled(config: Any, images: Sequence[Image.Image]) -> tuple[Tensor, str]:
    """Pictures for a model whose folder has no image processor: of the size in its config, from −1 to 1."""
    owners = (config, *(getattr(config, name, None) for name in ("vision_config", "encoder")))
    sizes = (getattr(owner, "image_size", None) for owner in owners)
    size = next((size for size in sizes if isinstance(size, int | list | tuple)), 224)
    height, width = (size, size) if isinstance(size, int) else size
    channels = next((c for owner in owners if isinstance(c := getattr(owner, "num_channels", None), int)), 3)
    mode = "L" if channels == 1 else "RGB"
    stack = np.stack([np.asarray(image.convert(mode).resize((width, height)), dtype=np.float32) for image in images])
    stack = stack[..., None] if channels == 1 else stack
    scaled = torch.from_numpy(stack / 127.5 - 1).permute(0, 3, 1, 2).contiguous()
    return scaled, f"scaled to {width}×{height} pixels and −1 … 1 (the folder has no image processor)"
