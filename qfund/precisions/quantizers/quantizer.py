"""What a quantiser is: a float weight [out, in] to named stored tensors and back, bytes known from the shape."""

import math
from collections.abc import Mapping, Sequence
from pkgutil import resolve_name
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from qfund.precisions.precision import Precision

Shape = tuple[int, int]


class Layout(NamedTuple):
    """A stored tensor's dtype and shape."""

    dtype: torch.dtype
    shape: tuple[int, ...]

    @property
    def bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


class Quantizer(Protocol):
    """One stored form of a weight. Stateless: equal weights give equal stored tensors on every device.

    Names of stored tensors that begin with ``data`` hold the codes of the weights; all others (``scale``,
    ``zero_point`` …) are what turns codes into numbers.

    Attributes:
        element: what one code is: ``"int4"``, ``"float8_e4m3fn"``, ``"nf4"``.
    """

    @property
    def element(self) -> str: ...

    def quantize(self, weight: Tensor) -> dict[str, Tensor]:
        """[out, in] in any float dtype, finite → what is stored."""
        ...

    def dequantize(self, stored: Mapping[str, Tensor], shape: Shape, dtype: torch.dtype) -> Tensor:
        """The float weight of that shape and dtype that the stored tensors stand for."""
        ...

    def layout(self, shape: Shape, dtype: torch.dtype) -> dict[str, Layout]:
        """dtype and shape of all that ``quantize`` stores for a weight of that shape and dtype."""
        ...

    def by_rows(self, columns: int) -> bool:
        """Whether the rows of a weight with that many columns are stored one after the other, each as it would be by
        itself: then pieces of a weight may be quantised apart and put together along the first dimension."""
        ...

    def saturated(self, weight: Tensor, stored: Mapping[str, Tensor]) -> int:
        """How many weights lie beyond the largest code by more than half a step, and so were clipped."""
        ...


@runtime_checkable
class Chooser(Protocol):
    """A quantiser that is another one for some weights of a model."""

    def choose(self, model: nn.Module, names: Sequence[Sequence[str]], columns: Sequence[int]) -> "Sequence[Quantizer]":
        """One for each weight, given all its names in the model (several where it is shared) and its inputs."""
        ...


class Product(Protocol):
    """How a converted layer multiplies when its activations are quantised too, as they come."""

    def __call__(
        self, x: Tensor, quantizer: Quantizer, stored: Mapping[str, Tensor], shape: Shape, bias: Tensor | None
    ) -> Tensor:
        """[…, in] → […, out], in the dtype of ``x``."""
        ...


def quantizer_of(row: Precision) -> Quantizer | None:
    """The quantiser that a row of the table names, imported now; None for a cast."""
    return resolve_name(row.quantizer) if isinstance(row.quantizer, str) else row.quantizer


def product_of(row: Precision) -> Product | None:
    """How the row multiplies quantised activations, imported now; None where it leaves activations alone."""
    return resolve_name(row.product) if row.product else None


def dtype_name(dtype: torch.dtype) -> str:
    """``float32``."""
    return str(dtype).removeprefix("torch.")
