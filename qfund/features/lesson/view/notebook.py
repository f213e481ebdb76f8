"""The questions that a notebook answers by looking: dtypes, the cast, a forward, copies, and one weight in formats."""

from collections.abc import Callable

import streamlit as st

from qfund.core.units import bytes_text
from qfund.drawing import axes, numbers
from qfund.drawing.phrases import traced
from qfund.features.lesson import figures, tables, words
from qfund.features.lesson.request.notebook import Notebook
from qfund.features.lesson.request.questions import Asked
from qfund.features.lesson.view import evidence, prediction
from qfund.ui import columns, services
from qfund.ui.states import literal

_CLAIMS = 3


def _seen(draw: Callable[[Asked, Notebook], None]) -> Callable[[Asked], None]:
    """What draws a run of the notebook, once there is one, and says when and where it was."""

    def drawn(asked: Asked) -> None:
        answer = evidence.measured(
            asked.lesson,
            "Run the notebook",
            f"**Run the notebook** loads {literal(asked.model)} in FP32, prints its dtypes, casts a deep copy to BF16 "
            "and to FP16, runs all of them on the same input, and looks at one weight in several formats. One click "
            "serves five of the questions.",
        )
        if answer is not None:
            draw(asked, answer.result)
            st.caption(literal(traced(answer.result)))

    return drawn


@_seen
def dtypes(asked: Asked, found: Notebook) -> None:
    st.markdown(f"**Loaded in FP32:** {literal(words.printed(found))}")
    frame = tables.printed(found)
    st.dataframe(
        frame.drop(columns="After the cast"),
        hide_index=True,
        column_config={"Name": st.column_config.TextColumn(pinned=True, width=300)},
        height="content" if len(frame) <= columns.ROWS else columns.HEIGHT // 2,
        key="printed",
        alt="Parameters and buffers with their dtypes, as a notebook prints them",
    )
    stored = " and ".join(f"{name} ({bytes_text(size)})" for name, size in found.stored.items())
    st.caption(f"In its files the checkpoint holds {literal(stored)}.")
    _claims(asked)


def _claims(asked: Asked) -> None:
    """What the same line prints of a quantised model, where a comparison has looked."""
    report = services.look_up(asked.comparison).result
    if report is None:
        return
    frame = tables.claims(report, "int8", _CLAIMS)
    if frame.empty:
        return
    st.markdown("**The same print after quantising to INT8:** the dtype is what the weight turns into when it is used.")
    st.dataframe(
        frame,
        hide_index=True,
        column_config={"Weight": st.column_config.TextColumn(pinned=True, width=300)},
        key="claims",
        alt="Quantised weights: what their dtype says and what is stored",
    )


@_seen
def cast(_: Asked, found: Notebook) -> None:
    if not prediction.predict("rounded", found):
        return
    done = found.cast
    with st.grid(4, min_column_width=150, gap="small"):
        st.metric("Weights changed", numbers.value_text(done.rounded / max(1, done.weights), "share"), border=True)
        st.metric(
            "Largest change",
            numbers.value_text(done.largest_relative, "share"),
            border=True,
            help="Of a weight, relative to it. BF16 has eight significant bits: at most 2⁻⁸ = 0.39 %.",
        )
        st.metric("Stored before", bytes_text(done.bytes_before), border=True, help=f"{done.bytes_before:,} bytes")
        st.metric("Stored after", bytes_text(done.bytes_after), border=True, help=f"{done.bytes_after:,} bytes")
    st.plotly_chart(
        figures.cast_bytes(tables.cast_bytes(found)),
        config=axes.CONFIG,
        key="cast_bytes",
        alt="Bytes of weights and buffers by dtype before and after the cast",
    )
    st.markdown(
        f"**Cast back to FP32**, {done.lost:,} of {done.weights:,} weights are not what they were. "
        + literal(" ".join(words.casted(done)))
    )


@_seen
def inference(_: Asked, found: Notebook) -> None:
    where = "" if found.position is None else f", position {found.position}"
    st.markdown(
        f"**One forward on the same input:** {literal(found.input)}; {literal(found.gives)} of the first{where}."
    )
    left, right = st.columns([2, 3], gap="medium")
    with left:
        st.dataframe(
            tables.outputs(found),
            hide_index=True,
            column_config={name: st.column_config.NumberColumn(format="%.5f") for name in ("FP32", "BF16", "FP16")},
            key="outputs",
            alt="The outputs of one position in FP32, BF16 and FP16",
        )
    with right:
        frame = tables.output_differences(found)
        if not frame.empty:
            st.plotly_chart(
                figures.output_differences(frame),
                config=axes.CONFIG,
                key="output_differences",
                alt="How far each shown output is from FP32's, in BF16 and in FP16",
            )
    st.dataframe(
        columns.told(tables.output_summary(found), "Mean |difference|", "Largest |difference|"),
        hide_index=True,
        placeholder="–",
        key="output_summary",
        alt="The dtype of the outputs and their distance from FP32's, over all outputs",
    )


@_seen
def deepcopy(_: Asked, found: Notebook) -> None:
    st.dataframe(
        tables.copied(found),
        hide_index=True,
        column_config={"What was done": st.column_config.TextColumn(width="large")},
        key="copied",
        alt="A second name and a deep copy: what shares memory, and which dtypes the models have after a cast",
    )
    st.caption(literal(" ".join(words.casted(found.cast))))


@_seen
def linear(_: Asked, found: Notebook) -> None:
    weight = found.weight
    if weight is None:
        st.info("This model has no weight that quantisers convert.")
        return
    shape = " × ".join(map(str, weight.shape))
    rows = f", its first {weight.rows:,} rows" if weight.rows < weight.shape[0] else ""
    st.markdown(f"**One real weight in four formats:** {literal(weight.name)}, {shape}{rows}.")
    st.plotly_chart(
        figures.errors_by_size(tables.errors_by_size(weight)),
        config=axes.CONFIG,
        key="errors_by_size",
        alt="Mean error against the size of the weight: it rises for floats and is level for integers",
    )
    st.caption(
        "Each point is all weights of one octave, from one power of two to the next. A float's error follows the "
        "weight; an integer's is level at about a quarter of a step, and below half a step the weight becomes zero: "
        "there the error is the weight itself."
    )
    st.dataframe(
        columns.told(tables.formats(weight), "Step of row 0", "Mean |error|", "Largest |error|"),
        hide_index=True,
        column_config={
            "Format": st.column_config.TextColumn(pinned=True),
            "Bits per weight": st.column_config.NumberColumn(format="%.4g", help="Scales included."),
            "SQNR (dB)": st.column_config.NumberColumn(format="%.1f", help="Signal to quantisation noise."),
            "Step of row 0": st.column_config.NumberColumn(help="The scale of the first row."),
        },
        placeholder="–",
        key="formats_of_weight",
        alt="Bits, signal to noise, errors and step of the weight in each format",
    )
