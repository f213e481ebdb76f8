"""Other views of packed tensors: parts of a stack, other orders of rows, other shapes. To make one decodes nothing."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from qfund.checkpoints.wild.packed_tensor import PackedTensor

Values = NDArray[np.float32]


def named(tensor: PackedTensor, name: str) -> PackedTensor:
    return replace(tensor, name=name)


def mapped(tensor: PackedTensor, change: Callable[[Values], Values]) -> PackedTensor:
    """Every number changed by itself."""
    return replace(tensor, decode=lambda start, stop: change(tensor.decode(start, stop)))


def gathered(tensor: PackedTensor, order: NDArray[np.int64]) -> PackedTensor:
    """Row i is the file's row ``order[i]``."""

    def decode(start: int, stop: int) -> Values:
        wanted = order[start:stop]
        if not len(wanted):
            return tensor.decode(0, 0)
        first = int(wanted.min())
        return tensor.decode(first, int(wanted.max()) + 1)[wanted - first]

    return replace(tensor, decode=decode)


def reshaped(tensor: PackedTensor, shape: tuple[int, ...]) -> PackedTensor:
    """The same numbers in another shape of as many elements: [hidden] as [1, hidden], [rows, k] as [rows, 1, k]."""
    if shape == tensor.shape:
        return tensor

    def decode(start: int, stop: int) -> Values:
        if shape[:1] == tensor.shape[:1]:
            return tensor.decode(start, stop).reshape(stop - start, *shape[1:])
        return tensor.values().reshape(shape or (1,))[start:stop]

    return replace(tensor, shape=shape, decode=decode, by_rows=tensor.by_rows and shape[:1] == tensor.shape[:1])


def transposed(tensor: PackedTensor) -> PackedTensor:
    """The last two axes in the other order."""
    shape = (*tensor.shape[:-2], tensor.shape[-1], tensor.shape[-2])

    def decode(start: int, stop: int) -> Values:
        if len(shape) > 2:
            return np.ascontiguousarray(tensor.decode(start, stop).swapaxes(-1, -2))
        return np.ascontiguousarray(tensor.values().T[start:stop])

    return replace(tensor, shape=shape, decode=decode, by_rows=len(shape) > 2)


def lengthened(tensor: PackedTensor, rows: int, more: Callable[[int, int], Values]) -> PackedTensor:
    """With rows behind its own, up to so many; ``more`` gives those of any range there."""

    def decode(start: int, stop: int) -> Values:
        own = tensor.decode(min(start, tensor.rows), min(stop, tensor.rows))
        first, last = max(start, tensor.rows), max(stop, tensor.rows)
        return np.concatenate([own, more(first, last).reshape(last - first, *own.shape[1:])]) if last > first else own

    return replace(tensor, shape=(rows, *tensor.shape[1:]), decode=decode)


def element(tensor: PackedTensor, number: int) -> PackedTensor:
    """One of a stack along the first axis; its share of the bytes."""

    def decode(start: int, stop: int) -> Values:
        found: Values = tensor.decode(number, number + 1)[0][start:stop]
        return found

    parts = tuple(f"{part}[{number}]" for part in tensor.parts)
    size = tensor.bytes // tensor.shape[0]
    return replace(tensor, shape=tensor.shape[1:], bytes=size, decode=decode, parts=parts, by_rows=False)


def joined(tensors: Sequence[PackedTensor], name: str, join: Callable[[list[Values]], Values]) -> PackedTensor:
    """Several of one shape, as one: ``join`` puts rows of each together, along another axis than the first."""
    first = tensors[0]
    probe = join([np.zeros((1, *first.shape[1:]), np.float32)] * len(tensors))
    types = dict.fromkeys(tensor.type for tensor in tensors)
    return PackedTensor(
        name,
        (first.shape[0], *probe.shape[1:]),
        " + ".join(types),
        sum(tensor.bytes for tensor in tensors),
        lambda start, stop: join([tensor.decode(start, stop) for tensor in tensors]),
        any(tensor.quantized for tensor in tensors),
        tuple(part for tensor in tensors for part in tensor.parts),
    )
