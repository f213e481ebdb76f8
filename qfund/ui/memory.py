"""The section *Memory*: what each precision stores, beside what shapes alone predict, and in which dtypes."""

import streamlit as st

from qfund import figures, tables, words
from qfund.report import PrecisionResult
from qfund.ui.drawn import once
from qfund.ui.services import Found


def draw(found: Found) -> None:
    report = found.report
    assert report is not None
    left, right = st.columns(2, gap="medium")
    with left:
        st.markdown("**Stored bytes**")
        st.plotly_chart(
            once(found, "footprints", lambda whole: figures.footprints(tables.parts(whole), tables.footprints(whole))),
            config=figures.CONFIG,
            key="footprints",
            alt="Footprint of each precision, with the prediction from shapes as a mark",
        )
    with right:
        st.markdown("**In which dtypes**")
        st.plotly_chart(
            once(found, "dtype shares", lambda whole: figures.dtype_shares(tables.dtypes(whole))),
            config=figures.CONFIG,
            key="dtype_shares",
            alt="Share of each dtype in the stored bytes of each precision",
        )
    _numbers(found)
    _one_precision(found)


def _numbers(found: Found) -> None:
    report = found.report
    assert report is not None
    st.dataframe(
        once(found, "footprints shown", tables.footprints_text),
        hide_index=True,
        column_config={"Precision": st.column_config.TextColumn(pinned=True)},
        key="footprint_table",
        alt="Footprint, prediction and parts of every precision",
    )
    gaps = [gap for result in tables.measured(report) if (gap := words.gap_phrase(result))]
    st.caption(
        "*Stored* is counted in the loaded model, tied weights once; *predicted* comes from shapes and dtypes alone; "
        "*transformers* is what `get_memory_footprint()` reports; *one pass* is the time of this run, no benchmark. "
        + (" ".join(gaps) if gaps else "Here stored and predicted agree to the byte.")
    )


def _one_precision(found: Found) -> None:
    report = found.report
    assert report is not None
    names = [result.precision for result in tables.measured(report)]
    st.markdown("**Module by module**")
    chosen = st.segmented_control(
        "Precision",
        names,
        format_func=tables.label,
        default=tables.mixed(report),
        required=True,
        key="memory_precision",
        label_visibility="collapsed",
    )
    chosen = chosen if chosen in names else names[0]
    result = tables.result_of(report, chosen)
    st.plotly_chart(
        once(found, f"modules {chosen}", lambda whole: figures.modules(tables.modules(result))),
        config=figures.CONFIG,
        key="modules",
        alt="Treemap of stored bytes by module path, coloured by dtype",
    )
    _conversion(result)
    st.dataframe(
        once(found, f"tensors {chosen}", lambda whole: tables.tensors(result)),
        hide_index=True,
        column_config={
            "name": st.column_config.TextColumn(pinned=True, width="large"),
            "bytes": st.column_config.NumberColumn(format="localized"),
        },
        height=360,
        key="tensors",
        alt="Every stored tensor with its shape, dtype and bytes; can be searched and sorted",
    )


def _conversion(result: PrecisionResult) -> None:
    """What a quantiser converted, what it left and why."""
    if not result.converted and not result.left_modules:
        return
    st.caption(f"{result.converted:,} modules were converted and {result.left:,} left as they were.")
    if result.left_modules:
        with st.expander(f"Left as they were: {result.left:,} and why", icon=":material/rule:"):
            st.dataframe(tables.left_modules(result), hide_index=True, alt="Modules that were left, and why")
