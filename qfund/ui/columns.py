"""How columns of frames are shown: their widths, formats and explanations."""

from typing import Any

import streamlit as st

from qfund.metrics import METRICS

ROWS = 14  # rows of a table that stand on a page without scrolling within it
HEIGHT = 530  # pixels of a longer one

OVERVIEW: dict[str, Any] = {
    "Precision": st.column_config.TextColumn(pinned=True),
    "Memory": st.column_config.ProgressColumn(
        format="%.0f %%", min_value=0, max_value=100, help="Stored bytes of the whole model, of the reference's."
    ),
    "Bits per weight": st.column_config.NumberColumn(
        format="%.4g", help="Of the converted weights, scales and zero-points included."
    ),
    "KL": st.column_config.NumberColumn("KL (nat)", format="scientific", help=METRICS["kl_mean"].definition),
    "Same top-1": st.column_config.NumberColumn(format="%.2f %%", help=METRICS["top1_agreement"].definition),
    "Perplexity ×": st.column_config.TextColumn(help=METRICS["perplexity_ratio"].definition),
    "Cosine": st.column_config.NumberColumn(format="%.6f", help=METRICS["hidden_cosine"].definition),
}
