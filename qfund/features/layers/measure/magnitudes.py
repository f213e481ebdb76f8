"""How large the numbers of a tensor are: its inputs that stand out, its groups, its spread."""

import math

import torch
from torch import Tensor

from qfund.core.metrics.histogram import Histogram
from qfund.features.layers.request.modules import Channel, Group, Values
from qfund.models.comparison.tiles import count_by_code

_LOW, _WIDTH, _BINS = -8.0, 0.2, 60  # 1e-8 … 1e4 in fifths of a decade
#: Neighbouring weights that share a scale in most formats.
GROUP = 32
LOUDEST = 8  # channels that are told


class Magnitudes:
    """Of tensors that come one after the other; ``channels`` [last dimension], the largest magnitude in each."""

    def __init__(self) -> None:
        self._counts: Tensor | None = None
        self._square, self._count = 0.0, 0
        self.channels: Tensor | None = None

    def add(self, values: Tensor) -> None:
        absolute = values.detach().float().abs()
        more = Magnitudes()
        more._counts = count_by_code(absolute)
        more._square = float(absolute.square().sum(dtype=torch.float64))
        more._count = absolute.numel()
        more.channels = absolute.flatten(0, -2).amax(0) if absolute.dim() > 1 else absolute
        self.join(more)

    def join(self, more: "Magnitudes") -> None:
        """Add what another one was given."""
        assert more._counts is not None and more.channels is not None
        self._counts = more._counts if self._counts is None else self._counts + more._counts
        self._square += more._square
        self._count += more._count
        self.channels = more.channels if self.channels is None else torch.maximum(self.channels, more.channels)

    def values(self) -> Values:
        assert self._counts is not None and self.channels is not None
        rms = math.sqrt(self._square / self._count) if self._count else 0.0
        return Values(rms, float(self.channels.max()), _histogram(self._counts))

    def loudest(self) -> tuple[Channel, ...]:
        """The channels with the largest magnitudes, beside the median channel's."""
        assert self.channels is not None
        median = float(self.channels.median())
        top = self.channels.topk(min(LOUDEST, len(self.channels)))
        return tuple(
            Channel(int(index), float(value), _times(float(value), median))
            for value, index in zip(top.values, top.indices, strict=True)
        )


def loudest_group(matrix: Tensor) -> Group:
    """The group of ``GROUP`` neighbours in a row of [out, in] with the largest magnitude, beside the median group's."""
    rows, columns = matrix.shape
    padded = torch.nn.functional.pad(matrix.detach().float().abs(), (0, -columns % GROUP))
    largest = padded.reshape(rows, -1, GROUP).amax(2)
    place = int(largest.argmax())
    row, group = divmod(place, largest.shape[1])
    value = float(largest[row, group])
    return Group(row, group * GROUP, value, _times(value, float(largest.median())))


def _times(value: float, median: float) -> float:
    """Over a median of 0, of which nothing is a multiple, the largest float that every document can hold."""
    return value / median if median else (0.0 if not value else 1e30)


def _histogram(counts: Tensor) -> Histogram:
    """Of numbers counted by their bits in bfloat16."""
    magnitudes = torch.arange(len(counts), dtype=torch.int16).view(torch.bfloat16).double()
    bins = ((magnitudes.log10() - _LOW) / _WIDTH).clamp(0, _BINS - 1).long()
    found = torch.zeros(_BINS, dtype=torch.int64)
    found.index_add_(0, bins[1:], counts[1:])
    return Histogram(_LOW, _WIDTH, tuple(int(count) for count in found), int(counts[0]))
