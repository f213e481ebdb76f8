"""The section *Loading*: what each way to load a model really needs, measured in a process of its own."""

import streamlit as st

from qfund.core.errors import QfundError
from qfund.drawing import axes
from qfund.drawing.phrases import traced
from qfund.features.memory import figures, tables, words
from qfund.features.memory.link import Asked
from qfund.features.memory.request import load_peak
from qfund.features.memory.request.load_peak import WAYS, LoadPeaks
from qfund.features.memory.view import choices
from qfund.ui import cards, progress, services
from qfund.ui.services import Answer
from qfund.ui.states import empty, failed, literal


def known(asked: Asked) -> dict[str, LoadPeaks]:
    """Precision → what was measured, of those that are shown."""
    found = {name: result for name in dict.fromkeys((*asked.precisions, asked.load)) if (result := _known(asked, name))}
    # Every measurement begins with fp32, but that of what is quantised already.
    fp32 = next((result for result in found.values() if result.reference.precision == "fp32"), None)
    return {"fp32": fp32, **found} if fp32 else found


def _known(asked: Asked, precision: str) -> LoadPeaks | None:
    try:
        result: LoadPeaks | None = services.look_up(asked.load_peaks(precision)).result
    except QfundError:  # said where it is asked for
        return None
    return result


def draw(asked: Asked) -> None:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        asked = choices.load(asked)
        answer = measure(asked, asked.load)
    if answer is None:
        return
    follow(answer)
    if answer.problem:
        st.warning(literal(answer.problem), icon=":material/database_off:")
    if answer.result is not None:
        _measured(answer.result, asked.load)
    elif answer.job is None or not answer.job.active:
        empty(
            "Not measured yet",
            "**Measure loading** loads the model in every way that people do, each in a fresh process, and watches "
            "its memory every few milliseconds: straight in the precision, in FP32 and then cast, and the notebook's "
            "copy. It runs on if you close this page.",
            ":material/area_chart:",
        )


def measure(asked: Asked, precision: str) -> Answer | None:
    """A button that measures how a precision is loaded, and what is known of that."""
    try:
        answer = services.look_up(asked.load_peaks(precision))
    except QfundError as error:
        failed(error)
        return None
    if st.button(
        "Measure again" if answer.result else "Measure loading",
        type="secondary" if answer.result else "primary",
        icon=":material/monitoring:",
        key="measure_loading",
        disabled=answer.job is not None and answer.job.active,
    ):
        try:
            services.jobs().submit(asked.load_peaks(precision))
        except QfundError as error:
            failed(error)
            return answer
        services.forget(answer.key)
        st.rerun()
    return answer


def follow(answer: Answer) -> None:
    """The measurement under way, or why it gave nothing."""
    if answer.job is not None and answer.job.active:
        progress.follow(answer.key)
    elif answer.job is not None:
        progress.ended(answer.job)


def _measured(found: LoadPeaks, precision: str) -> None:
    st.markdown(literal(words.load_needs(found, precision)))
    for note in found.notes:
        st.caption(f":material/info: {literal(note)}")
    if found.reference.sampled is None:
        st.info(f"Memory over time is {load_peak.NOT_SAMPLED}.")
    elif not tables.curves(found, precision).empty:
        _curves(found, precision)
    st.dataframe(
        tables.loads(found),
        hide_index=True,
        column_config={
            "Precision": st.column_config.TextColumn(pinned=True),
            "Way": st.column_config.TextColumn(width="large"),
            **{
                f"{said} (W)": st.column_config.NumberColumn(format="%.2f", help=meaning)
                for said, meaning in _MEANINGS.items()
            },
        },
        key="loads_table",
        alt=f"Every way to load with its peaks as multiples of {found.unit}",
    )
    st.caption(
        "**Need** decides whether a load succeeds: private bytes plus live weights that still lie in the mapped file. "
        "**RSS** also counts pages of the file that the system takes back under pressure; **private** leaves out "
        f"weights that were never copied. W is the size of {found.unit}; all is above the imports' memory. "
        + literal(traced(found))
    )


_MEANINGS = {
    "Need": "The peak of private bytes plus live weights that alias the mapped file.",
    "Settled": "The need of what stays when all is done.",
    "Private": "The peak of resident bytes that no file backs.",
    "RSS": "The peak of all resident bytes: an upper bound with reclaimable pages in it.",
    "Inference": "The peak of the need during one forward after the load: all logits, no cache.",
}


def _curves(found: LoadPeaks, precision: str) -> None:
    curves, phases = tables.curves(found, precision), tables.phases(found, precision)
    highest = int(max(curves["need"].max(), curves["rss"].max()))
    ways = list(dict.fromkeys(curves["way"]))
    with st.grid(min(len(ways), 3), min_column_width=290):
        for way in ways:
            with st.container(gap="xsmall"):
                st.markdown(f"**{literal(way)}**", help=WAYS[way].meaning)
                st.plotly_chart(
                    figures.load(
                        curves[curves["way"] == way], phases[phases["way"] == way], found.weights_bytes, highest
                    ),
                    config=axes.CONFIG,
                    key=f"load_{precision}_{way}",
                    alt=f"Memory over time while {WAYS[way].meaning}",
                )
    cards.legend(
        {
            name: color
            for name, color in figures.load_colors().items()
            if name in {"need", "resident (RSS)", *phases["phase"]}
        }
    )
