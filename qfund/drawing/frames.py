"""Rows as a frame, for those who draw one: pandas takes longer to import than a small table to print."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


def frame(rows: Sequence[Mapping[str, Any]], columns: Sequence[str] | None = None) -> "pd.DataFrame":
    """A line for each row; ``columns`` where there may be no row that names them."""
    import pandas as pd

    return pd.DataFrame(rows, columns=columns)
