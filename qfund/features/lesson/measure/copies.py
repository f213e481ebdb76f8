"""A model beside its copies: what shares memory, what a cast changed, and whether a direct load gives the same."""

import copy
import hashlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from qfund.features.lesson.request.notebook import Cast, Copies, DirectLoad
from qfund.models import footprint
from qfund.precisions.quantizers.quantizer import dtype_name

#: Elements that are compared at once.
_PIECE = 4 * 1024**2
#: Names of tensors that are told apart.
_NAMED = 3


class CastCopy:
    """A deep copy of a model in float32, cast to bfloat16, with what could be seen of both.

    Attributes:
        model: the copy; gone once it was cast back.
        before, after: footprints of the original, and of the copy after the cast.
        copies: a second name, and the copy, beside the original.
    """

    def __init__(self, original: Any) -> None:
        self._original, self.before = original, footprint.stored(original)
        bits = _digest(original)
        self.model = copy.deepcopy(original)
        second_name = self.model  # what an assignment gives
        shared = _sharing(original, self.model, second_name)
        known = {name: (id(part), part.data_ptr()) for name, part in self.model.named_parameters()}
        returned = self.model.to(torch.bfloat16)
        self.after = footprint.stored(self.model)
        self._seen: dict[str, Any] = {
            "returned_itself": returned is self.model,
            "parameters": len(known),
            "same_parameters": sum(id(part) == known[name][0] for name, part in self.model.named_parameters()),
            "same_storage": sum(part.data_ptr() == known[name][1] for name, part in self.model.named_parameters()),
            "bytes_before": self.before.bytes,
            "bytes_after": self.after.bytes,
            **_rounding(original, self.model),
        }
        self.copies = Copies(
            **shared,
            name_after=dtype_name(second_name.dtype),
            original_after=dtype_name(original.dtype),
            values_kept=_digest(original) == bits,
            model_bytes=footprint.stored(original).bytes,
            copy_bytes=self.after.bytes,
        )

    def cast_back(self) -> Cast:
        """Cast the copy to float32 again, count the weights that the way there and back has changed, and let it go."""
        self.model.to(torch.float32)
        lost = sum(int(((part != back) & part.isfinite()).sum()) for part, back in _pairs(self._original, self.model))
        del self.model
        return Cast(**self._seen, lost=lost)


def direct_load(straight: Any, cast: Any, largest: float | None) -> DirectLoad:
    """A model that was loaded in bfloat16 beside one that was cast; ``largest`` is the difference of their outputs."""
    mine, others = _tensors(straight), _tensors(cast)
    different = [
        name
        for name, part in mine.items()
        if name not in others or part.dtype != others[name].dtype or not torch.equal(part, others[name])
    ]
    return DirectLoad(
        tensors=len(mine),
        equal=len(mine) - len(different),
        different=tuple(different[:_NAMED]),
        largest=largest,
        bytes=footprint.stored(straight).bytes,
    )


def pieces(one: Tensor, other: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Two tensors of one shape, flat and piece by piece."""
    return zip(one.detach().flatten().split(_PIECE), other.detach().flatten().split(_PIECE), strict=True)


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    return dict(model.named_parameters()) | dict(model.named_buffers())


def _sharing(model: Any, second: Any, named: Any) -> dict[str, int]:
    """What a model shares with its deep copy, and that with a second name for it, before the cast."""
    return {
        "parameters": sum(1 for _ in model.parameters()),
        "name_shares": _shares(second, named),
        "copy_shares": _shares(model, second),
        "ties": _ties(model),
        "ties_kept": _ties(second),
    }


def _shares(one: nn.Module, other: nn.Module) -> int:
    """Parameters of both that are in the same memory."""
    places = {name: part.data_ptr() for name, part in one.named_parameters()}
    return sum(places[name] == part.data_ptr() for name, part in other.named_parameters() if part.numel())


def _ties(model: nn.Module) -> int:
    """Parameters that share another's memory."""
    places = [part.data_ptr() for _, part in model.named_parameters(remove_duplicate=False) if part.numel()]
    return len(places) - len(set(places))


def _digest(model: nn.Module) -> str:
    """Of dtypes and all bits."""
    digest = hashlib.sha256()
    for name, part in [*model.named_parameters(), *model.named_buffers()]:
        digest.update(f"{name} {part.dtype} {list(part.shape)}".encode())
        for piece in part.detach().flatten().split(_PIECE):
            digest.update(piece.cpu().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _pairs(one: nn.Module, other: nn.Module) -> Iterator[tuple[Tensor, Tensor]]:
    """Pieces of every float parameter of both models: whole embeddings in float64 would take more than the models."""
    others = dict(other.named_parameters())
    for name, part in one.named_parameters():
        if part.is_floating_point():
            yield from pieces(part, others[name])


def _rounding(model: nn.Module, cast: nn.Module) -> dict[str, Any]:
    """Of every weight, tied ones once: how many the cast changed, and by how much at most."""
    weights = rounded = overflowed = 0
    largest, least = 0.0, torch.finfo(torch.bfloat16).smallest_normal
    for part, other in _pairs(model, cast):
        now = other.to(part.dtype)
        finite = part.isfinite()
        weights += int(finite.sum())
        rounded += int(((part != now) & finite).sum())
        overflowed += int((finite & ~now.isfinite()).sum())
        normal = finite & now.isfinite() & (part.abs() >= least)
        if normal.any():
            change = ((now[normal].double() - part[normal].double()) / part[normal].double()).abs()
            largest = max(largest, change.max().item())
    return {"weights": weights, "rounded": rounded, "largest_relative": largest, "overflowed": overflowed}
