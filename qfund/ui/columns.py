"""How columns of frames are shown: their widths, formats and explanations."""

from typing import TYPE_CHECKING, Any, Literal

import pandas as pd
import streamlit as st

from qfund.core.metrics.table import METRICS
from qfund.core.units import number_text
from qfund.drawing import columns

if TYPE_CHECKING:
    from pandas.io.formats.style import Styler

OVERVIEW: dict[str, Any] = {
    "Precision": st.column_config.TextColumn(pinned=True),
    "Memory": st.column_config.ProgressColumn(
        format="%.0f %%", min_value=0, max_value=100, help="Stored bytes of the whole model, of the reference's."
    ),
    "Stored (B)": st.column_config.NumberColumn(format="localized", help="The same to the byte."),
    columns.QUANTIZED_BITS: st.column_config.NumberColumn(
        format="%.4g", help="Of the converted weights alone, scales and zero-points included."
    ),
    columns.MODEL_BITS: st.column_config.NumberColumn(
        format="%.4g", help="Of the whole model: all stored bits, scales and buffers included, over its parameters."
    ),
    "KL": st.column_config.NumberColumn("KL (nat)", help=METRICS["kl_mean"].definition),
    "Same top-1": st.column_config.NumberColumn(format="%.2f %%", help=METRICS["top1_agreement"].definition),
    "Perplexity ×": st.column_config.TextColumn(help=METRICS["perplexity_ratio"].definition),
    "Cosine": st.column_config.NumberColumn(format="%.6f", help=METRICS["hidden_cosine"].definition),
}

TALL = 30  # rows of a table that is what its page is for, shown at once
ROWS = 14  # rows of a table that stand on a page without scrolling within it
HEIGHT = 530  # pixels of a longer one


def told(frame: pd.DataFrame, *names: str) -> "Styler":
    """The frame with numbers of these columns as sentences have them (``5.28e-5``, ``0.012``); they are still sorted as
    numbers. Formats of columns know one notation for all sizes."""
    return frame.style.format(number_text, subset=[name for name in names if name in frame], na_rep="–")


def height(rows: int, most: int = TALL) -> int | Literal["content"]:
    """Of a table that is what its page is for: all rows at once, but ``most`` of very many."""
    return "content" if rows <= TALL else 35 * (most + 1)
