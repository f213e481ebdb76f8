"""A checkpoint's plain model: with its weights, or without any."""

from pathlib import Path
from typing import Any, Self

import torch
from safetensors import safe_open

from qfund.checkpoints.checkpoint import Checkpoint, places
from qfund.core.errors import CorruptCheckpoint, QfundError, UnsupportedModel
from qfund.models.configs import why_not_built
from qfund.models.match.ties import tie_equal
from qfund.models.meta import unfilled
from qfund.models.tasks import model_class, named, read_config


def read(checkpoint: Checkpoint, dtype: str) -> Any:
    """The plain model in main memory, read straight into a torch dtype, ready to run.

    Raises:
        CorruptCheckpoint: tensors missing or of other shapes than the architecture's.
    """
    if checkpoint.packed:
        values = {name: torch.from_numpy(tensor.values()) for name, tensor in checkpoint.packed.items()}
        for name, (path, _) in places(checkpoint.folder).items():
            if name in checkpoint.tensors and name not in values:
                with safe_open(path, "pt") as file:
                    values[name] = file.get_tensor(name)
        return _pretrained(checkpoint, dtype, None, config=read_config(checkpoint), state_dict=values)
    return _pretrained(checkpoint, dtype, checkpoint.folder, config=read_config(checkpoint))


def frame(checkpoint: Checkpoint, dtype: str, attention: str | None = None) -> Any:
    """The model that ``read`` gives, with every weight of the checkpoint on the meta device: buffers that the
    checkpoint does not hold are real, ties are tied. ``attention`` names another implementation than the model's own
    choice.

    Raises:
        CorruptCheckpoint: tensors missing or of other shapes than the architecture's.
    """
    more = {} if attention is None else {"attn_implementation": attention}
    ghosts = {name: _Ghost(tensor.shape) for name, tensor in checkpoint.tensors.items()}
    model = _pretrained(checkpoint, dtype, None, config=read_config(checkpoint), state_dict=ghosts, **more)
    tie_equal(checkpoint, model, getattr(torch, dtype))
    return model


def generates(checkpoint: Checkpoint, model: Any) -> None:
    """Give a model without weights the settings to generate with that ``read`` finds beside the weights."""
    if model.can_generate() and not checkpoint.packed:
        where = dict.fromkeys(("cache_dir", "proxies", "token"))
        model.adjust_generation_fn(
            None,
            False,
            False,
            str(checkpoint.folder),
            **where,
            force_download=False,
            local_files_only=True,
            revision="main",
            subfolder="",
            trust_remote_code=False,
        )


class _Ghost:
    """Stands in for a tensor of a checkpoint: what transformers takes from it lies on the meta device."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._shape = shape

    def __getitem__(self, _: Any) -> Self:
        return self

    def to(self, device: Any, dtype: torch.dtype) -> torch.Tensor:
        return torch.empty(self._shape, dtype=dtype, device="meta")


def _pretrained(checkpoint: Checkpoint, dtype: str, folder: Path | None, **more: Any) -> Any:
    try:
        model, info = unfilled(
            lambda: model_class(checkpoint).from_pretrained(
                folder,
                dtype=getattr(torch, dtype),
                use_safetensors=True,
                trust_remote_code=False,
                local_files_only=True,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
                **more,
                **named(checkpoint),
            )
        )
    except (QfundError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # transformers raises many kinds for a checkpoint that does not fit its config
        if (why := why_not_built(checkpoint.config)) is not None:
            raise UnsupportedModel(f"{checkpoint.architecture} cannot be built: {why}", "Check config.json.") from error
        raise CorruptCheckpoint(
            f"transformers could not load {checkpoint.folder.name}: {type(error).__name__}: {error}",
            "Check that config.json and the weights belong together.",
        ) from error
    again = "Download or save the checkpoint again; config.json and weights must belong together."
    if missing := sorted(info["missing_keys"]):
        raise CorruptCheckpoint(f"{checkpoint.folder.name} lacks {_some(missing)}.", again)
    if mismatched := sorted(str(key[0]) for key in info["mismatched_keys"]):
        raise CorruptCheckpoint(
            f"{checkpoint.folder.name} has other shapes than its config: {_some(mismatched)}.", again
        )
    return model.eval().requires_grad_(False)


def turned(weight: torch.Tensor) -> torch.Tensor:
    """A weight of GPT-2's Conv1D, laid out by output channel: the same values and shape, other strides.

    A product in fp16 with the weights as they come, [in, out] row by row, takes CPU kernels 14 times as long.
    """
    return weight.T.contiguous().T if weight.dim() == 2 else weight


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{len(names)} tensor{'s' * (len(names) > 1)}: {', '.join(names[:3])}{more}"
