"""Which models hold the same weights, and whose can come after those of others."""

from collections.abc import Iterable

from qfund.stream.frame import Frame
from qfund.stream.walker import Walker


def alike(one: Frame, other: Frame) -> bool:
    """Whether two frames hold the same weights: they differ in their attention at most."""
    return one.checkpoint.id == other.checkpoint.id and one.row == other.row


def waits(walker: Walker, before: Iterable[Walker]) -> bool:
    """Whether its weights can come after those of others: what loads a dtype holds none of it in the end."""
    frames = [other.frame for other in before]
    return any(alike(frame, walker.frame) for frame in frames) or all(
        frame.row.dtype != walker.frame.row.dtype or frame.checkpoint.id != walker.frame.checkpoint.id
        for frame in frames
    )


def parted(walkers: Iterable[Walker]) -> set[Frame]:
    """Where all else stays in memory, the frames of ways that run a few batches only, with weights that no other holds:
    one part of these is there at a time."""
    every = list(walkers)
    whole = [walker for walker in every if walker.way.batches is None]
    few = [walker.frame for walker in every if walker not in whole and waits(walker, whole)]
    return {frame for frame in few if not any(alike(frame, walker.frame) for walker in whole)}
