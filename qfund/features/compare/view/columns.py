"""How the columns of the overview are shown."""

from typing import Any

import streamlit as st

from qfund.core.metrics.table import METRICS
from qfund.features.compare.tables import footprints

OVERVIEW: dict[str, Any] = {
    "Precision": st.column_config.TextColumn(pinned=True),
    "Memory": st.column_config.ProgressColumn(
        format="%.0f %%", min_value=0, max_value=100, help="Stored bytes of the whole model, of the reference's."
    ),
    "Stored (B)": st.column_config.NumberColumn(format="localized", help="The same to the byte."),
    footprints.QUANTIZED_BITS: st.column_config.NumberColumn(
        format="%.4g", help="Of the converted weights alone, scales and zero-points included."
    ),
    footprints.MODEL_BITS: st.column_config.NumberColumn(
        format="%.4g", help="Of the whole model: all stored bits, scales and buffers included, over its parameters."
    ),
    "KL": st.column_config.NumberColumn("KL (nat)", format="scientific", help=METRICS["kl_mean"].definition),
    "Same top-1": st.column_config.NumberColumn(format="%.2f %%", help=METRICS["top1_agreement"].definition),
    "Perplexity ×": st.column_config.TextColumn(help=METRICS["perplexity_ratio"].definition),
    "Cosine": st.column_config.NumberColumn(format="%.6f", help=METRICS["hidden_cosine"].definition),
}
