"""Numbers that come some at a time, of which there may be as many as a text has positions."""

import numpy as np
from numpy.typing import ArrayLike

from qfund.core.intervals import Vector


class Column:
    """Double precision in one piece of memory that grows: thousands of small tensors that stay between large ones that
    are freed would scatter the heap, and the process would grow by a gigabyte."""

    def __init__(self, values: ArrayLike = ()) -> None:
        self._room = np.array(values, dtype=np.float64)
        self._count = len(self._room)

    def __len__(self) -> int:
        return self._count

    def add(self, values: ArrayLike) -> None:
        more = np.asarray(values)
        end = self._count + len(more)
        if end > len(self._room):
            room = np.empty(max(end, 2 * len(self._room)))  # what is not written to takes no memory
            room[: self._count] = self.values
            self._room = room
        self._room[self._count : end] = more
        self._count = end

    @property
    def values(self) -> Vector:
        """What there is, not to be written to: no copy, and it stays as it is when more comes."""
        found = self._room[: self._count]
        found.flags.writeable = False
        return found
