"""The section *Memory*: what each precision stores, beside what shapes alone predict, and in which dtypes."""

import streamlit as st

from qfund.drawing import axes, phrases
from qfund.features.compare.figures import footprints as figures
from qfund.features.compare.request.report import PrecisionResult, Report, measured, result_of
from qfund.features.compare.tables import footprints as tables
from qfund.features.compare.words import footprints as words
from qfund.features.compare.words.candidates import headroom_phrase
from qfund.ui import columns
from qfund.ui.drawn import once
from qfund.ui.services import Answer
from qfund.ui.states import literal


def draw(found: Answer) -> None:
    left, right = st.columns(2, gap="medium")
    with left:
        st.markdown("**Stored bytes**")
        st.plotly_chart(
            once(
                found,
                "footprints",
                lambda whole: figures.footprints(tables.parts(whole), tables.footprints(whole)),
            ),
            config=axes.CONFIG,
            key="footprints",
            alt="Footprint of each precision, with the prediction from shapes as a mark",
        )
    with right:
        st.markdown("**In which dtypes**")
        st.plotly_chart(
            once(found, "dtype shares", lambda whole: figures.dtype_shares(tables.dtypes(whole))),
            config=axes.CONFIG,
            key="dtype_shares",
            alt="Share of each dtype in the stored bytes of each precision",
        )
    _numbers(found)
    _one_precision(found)


def _numbers(found: Answer) -> None:
    report: Report = found.result
    st.dataframe(
        once(found, "footprints shown", tables.footprints_text),
        hide_index=True,
        column_config={"Precision": st.column_config.TextColumn(pinned=True)},
        height=columns.height(len(measured(report)), columns.ROWS),
        key="footprint_table",
        alt="Footprint, prediction and parts of every precision",
    )
    results = measured(report)
    gaps = [gap for result in results if (gap := words.gap_phrase(result))]
    st.caption(
        "*Stored* is counted in the loaded model, tied weights once; *predicted* comes from shapes and dtypes alone; "
        "*transformers* is what `get_memory_footprint()` reports. "
        + literal(" ".join(gaps) or "Here stored and predicted agree to the byte.")
        + f" {literal(words.transformers_phrase(results))}"
    )


def _one_precision(found: Answer) -> None:
    report: Report = found.result
    names = [result.precision for result in measured(report)]
    st.markdown("**Module by module**")
    # Buttons for a few, a list that can be searched for many.
    if len(names) <= phrases.FEW + 1:
        chosen = st.segmented_control(
            "Precision",
            names,
            format_func=phrases.label,
            default=tables.mixed(report),
            required=True,
            key="memory_precision",
            label_visibility="collapsed",
        )
    else:
        chosen = st.selectbox(
            "Precision",
            names,
            index=names.index(tables.mixed(report)),
            format_func=phrases.label,
            key="memory_one_of_many",
            width=300,
            label_visibility="collapsed",
        )
    chosen = chosen if chosen in names else names[0]
    result = result_of(report, chosen)
    st.plotly_chart(
        once(found, f"modules {chosen}", lambda whole: figures.modules(tables.modules(result))),
        config=axes.CONFIG,
        key="modules",
        alt="Treemap of stored bytes by module path, coloured by dtype",
    )
    _conversion(result)
    st.dataframe(
        once(found, f"tensors {chosen}", lambda whole: tables.tensors(result)),
        hide_index=True,
        column_config={
            "name": st.column_config.TextColumn(pinned=True, width="large"),
            "dtype": st.column_config.TextColumn(help="What one value is."),
            "stored in": st.column_config.TextColumn(help="The dtype that holds it in memory."),
            "reads as": st.column_config.TextColumn(help="What the module's weight claims to be when it is used."),
            "weights": st.column_config.NumberColumn(format="localized", help="How many weights it stands for."),
            "bytes": st.column_config.NumberColumn(format="localized"),
        },
        height=360,
        key="tensors",
        alt="Every stored tensor with its shape, dtype and bytes; can be searched and sorted",
    )


def _conversion(result: PrecisionResult) -> None:
    """What a quantiser converted, what it left and why, and how near activations came to the end of their dtype."""
    if headroom := headroom_phrase(result):
        st.caption(literal(headroom))
    if not result.converted and not result.left_modules:
        return
    frame = tables.conversion(result)
    said = f"Modules converted: {result.converted:,}"
    if result.left:
        said += f". Left as they were, and why: {result.left:,}"
    if frame.empty:
        st.caption(said)
        return
    with st.expander(said, icon=":material/rule:"):
        st.dataframe(
            frame,
            hide_index=True,
            column_config={"module": st.column_config.TextColumn(pinned=True, width="large")},
            height="content" if len(frame) <= columns.ROWS else columns.HEIGHT,
            alt="Modules that were converted, and modules that were left, with the reason",
        )
