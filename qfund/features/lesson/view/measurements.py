"""The questions that need a measurement: outputs, footprint, loading, what quantising saves and how long it takes."""

import streamlit as st

from qfund.core.errors import QfundError
from qfund.drawing import axes
from qfund.drawing.phrases import traced
from qfund.features.compare import link
from qfund.features.compare.figures import damage as damage_figures
from qfund.features.compare.figures import libraries as libraries_figures
from qfund.features.compare.request.examples import EXAMPLE
from qfund.features.compare.tables import damage, libraries, metrics
from qfund.features.compare.words import candidates
from qfund.features.compare.words import libraries as libraries_words
from qfund.features.compare.words import report as report_words
from qfund.features.lesson import figures, tables, words
from qfund.features.lesson.request.questions import FEW, MANY, Asked
from qfund.features.lesson.view import evidence, prediction
from qfund.features.memory.request import load_peak
from qfund.features.memory.request.load_peak import LoadPeaks
from qfund.features.memory.request.plan import Plan
from qfund.features.speed import link as speed_link
from qfund.features.speed import words as speed_words
from qfund.features.speed.request.speed import Speed, SpeedRequest
from qfund.ui import services, shell
from qfund.ui.drawn import once
from qfund.ui.services import Answer
from qfund.ui.states import literal


def outputs(asked: Asked) -> None:
    found = evidence.measured(
        asked.comparison,
        "Compare outputs",
        f"**Compare outputs** runs {literal(asked.model)} in FP32, BF16, FP16 and INT8 on the same text and compares "
        "every output.",
    )
    if found is None:
        return
    for verdict in candidates.verdicts(found.result):
        for alarm in verdict.alarms:
            st.error(literal(alarm), icon=":material/warning:")
    st.markdown(
        "\n".join(f"- **{literal(one.label)}:** {literal(one.body)}" for one in candidates.verdicts(found.result))
    )
    frame = once(found, "differences", damage.differences)
    if not frame.empty:
        st.plotly_chart(
            once(
                found,
                "differences figure",
                lambda report: damage_figures.differences(frame, damage.compared_quantity(report)),
            ),
            config=axes.CONFIG,
            key="lesson_differences",
            alt="Distribution of the absolute differences to FP32, one line for each precision",
        )
    st.dataframe(
        once(found, "metrics text", metrics.metrics_text),
        hide_index=True,
        column_config={
            "Metric": st.column_config.TextColumn(pinned=True, width=225),
            "Definition": st.column_config.TextColumn(width="large"),
        },
        key="lesson_fidelity",
        alt="Every metric of every precision with its standard error and definition",
    )
    st.caption(literal(f"{report_words.provenance(found.result)}."))
    st.page_link(
        shell.page("compare"),
        label="The whole comparison, token by token",
        icon=":material/balance:",
        query_params=link.to_open(asked.comparison),
    )


def footprint(asked: Asked) -> None:
    found: Plan | None = evidence.planned(asked.plan)
    if found is None or not prediction.predict("ratio", found):
        return
    shown = ("fp32", "bf16")
    st.plotly_chart(
        figures.parts(tables.parts(found, shown)),
        config=axes.CONFIG,
        key="footprint_parts",
        alt="The footprint in FP32 and in BF16, part by part",
    )
    _parts(found, shown, "footprint_parts_table")
    st.caption("Known to the byte from shapes alone, as a model loaded straight in the precision stores it.")
    for note in found.notes:
        st.caption(f":material/info: {literal(note)}")


def _parts(found: Plan, shown: tuple[str, ...], key: str) -> None:
    st.dataframe(
        tables.parts_text(found, shown),
        hide_index=True,
        column_config={"Part": st.column_config.TextColumn("Part (bytes)", width="medium")},
        key=key,
        alt="Bytes of every part in each precision, their sum, and its ratio to FP32",
    )


def loading(asked: Asked) -> None:
    answer = evidence.measured(
        asked.load_peaks,
        "Measure loading",
        f"**Measure loading** loads {literal(asked.model)} in BF16 directly, by a cast afterwards and by the "
        "notebook's copy, each in a fresh process, and watches its memory.",
    )
    found: LoadPeaks | None = answer.result if answer else None
    if found is not None and found.weights_bytes < load_peak.TINY and asked.model != EXAMPLE.model:
        st.caption(
            f":material/info: {literal(asked.model)} is too small to tell the ways apart: what Python allocates on the "
            f"way is more. So this is {EXAMPLE.model}, as measured when it was shipped."
        )
        found = services.look_up(Asked().load_peaks).result
    if found is None:
        return
    if not prediction.predict("peak", found):
        return
    frame = tables.ways(found)
    if not frame.empty:
        st.plotly_chart(
            figures.ways(frame),
            config=axes.CONFIG,
            key="ways",
            alt="The most memory that each way to load needs, and what stays, as multiples of the FP32 weights",
        )
    st.caption(
        "Light is the peak, full colour what stays. *Need* decides whether a load succeeds: private memory plus "
        "weights in use that lie in the mapped file. " + literal(" ".join((*found.notes, traced(found))))
    )
    if (lesson := services.look_up(asked.lesson).result) is not None:
        st.markdown(literal(words.straight(lesson.direct)))
    st.page_link(shell.page("memory"), label="Memory over time, for every precision", icon=":material/memory:")


def savings(asked: Asked) -> None:
    found: Plan | None = evidence.planned(asked.plan)
    if found is None:
        return
    st.markdown("##### Memory")
    if words.entry(found, "int8") is None:
        st.info("Quantisers find nothing to convert in this model.")
    elif prediction.predict("times", found):
        shown = ("fp32", "int8", "int4")
        st.plotly_chart(
            figures.parts(tables.parts(found, shown)),
            config=axes.CONFIG,
            key="savings_parts",
            alt="The footprint in FP32, INT8 and INT4, part by part",
        )
        _parts(found, shown, "savings_parts_table")
    st.markdown("##### Time")
    _speed(asked)
    _writing(asked)


def _speed(asked: Asked) -> None:
    many = _timed(asked, MANY)
    if many is None or not prediction.predict("speed", many.result):
        return
    _latency(many, f"A text of {many.result.input.tokens:,} tokens at once")
    if (few := _timed(asked, FEW)) is not None and few.key != many.key:
        _latency(few, f"{few.result.input.tokens:,} tokens, about a step of generating")
        if (truth := words.TRUTHS["speed"](few.result)) is not None:
            st.markdown(literal(truth.sentence))
    st.caption(
        "Time of a forward ÷ FP32's, measured in turns: left of the line is faster; lines are standard errors. Grey is "
        "qfund's own model, made to be exact and not fast. INT8 dynamic quantises the activations too, and multiplies "
        f"integers. {literal(report_words.provenance(many.result))}."
    )


def _writing(asked: Asked) -> None:
    """What the page Speed knows of this model, and the way there; nothing of one that writes no text."""
    timed = services.look_up(asked.timing(MANY), whole=False).result
    if timed is not None and timed.model.task != "causal language model":
        return
    st.markdown("**Written token by token**")
    try:
        found: Speed | None = services.look_up(SpeedRequest(asked.model)).result
    except QfundError:
        found = None
    if found is not None:
        batch, depth = found.place
        said = [speed_words.headline(found, batch, depth), *speed_words.why(found, batch, depth)]
        st.markdown("\n".join(f"- {literal(sentence)}" for sentence in said))
        st.caption(literal(f"Measured on {found.environment.cpu}, {found.created[:10]}."))
    st.page_link(
        shell.page("speed"),
        label="How fast it reads and writes here, and why some precisions are slower",
        icon=":material/speed:",
        query_params=speed_link.to_query(speed_link.Asked(asked.model)),
    )


def _timed(asked: Asked, tokens: int) -> Answer | None:
    return evidence.measured(
        asked.timing(tokens),
        f"Measure the time of {tokens:,} tokens",
        f"Runs {literal(asked.model)} in FP32, BF16 and INT8, as qfund and as libraries do it, in turns, on at most "
        f"{tokens:,} tokens.",
        whole=False,
    )


def _latency(found: Answer, title: str) -> None:
    st.markdown(f"**{title}**")
    frame = once(found, "libraries", libraries.libraries)
    if not frame["ratio"].notna().any():
        st.info("No time could be measured here.")
        return
    st.plotly_chart(
        once(found, "latency", lambda whole: libraries_figures.latency(frame)),
        config=axes.CONFIG,
        key=f"latency_{found.key}",
        alt="Time of a forward of every candidate as a ratio to FP32's, by library",
    )
    for problem in libraries_words.library_problems(found.result):
        st.caption(f":material/warning: {literal(problem)}")
