"""The section *Sizes, explained*: estimate, file, prediction, measurements and peaks, and what lies between them."""

from collections.abc import Callable, Iterator

import streamlit as st

from qfund.checkpoints import catalog
from qfund.core.errors import QfundError
from qfund.drawing import axes
from qfund.drawing.phrases import label
from qfund.features.compare.request import examples
from qfund.features.compare.request.report import Report, measured
from qfund.features.compare.request.spec import Spec
from qfund.features.memory import figures, tables, words
from qfund.features.memory.link import Asked
from qfund.features.memory.request.load_peak import LoadPeaks
from qfund.features.memory.request.plan import HeaderPlan, Plan
from qfund.features.memory.view import loading
from qfund.precisions.table import PRECISIONS
from qfund.ui import columns, services
from qfund.ui.services import Answer
from qfund.ui.states import literal

#: Earlier comparisons of a model that are read for the bytes that they counted.
READ = 8


def draw(asked: Asked, headers: HeaderPlan, exact: Answer) -> None:
    plan: Plan = exact.result
    counted = _counted(asked)
    peaks = loading.known(asked)
    frame = tables.sizes(plan, headers, counted, peaks, asked.precisions)
    st.plotly_chart(
        figures.sizes(frame, plan.stored_bytes),
        config=axes.CONFIG,
        key="sizes",
        alt="Predicted bytes of each precision with its estimate, its measured footprint, its load and inference peaks",
    )
    st.caption(f"Bars are predicted, to the byte. {literal(words.agreement(counted, plan))}")
    one(asked.precisions, "sizes_precision", lambda name: _steps(asked, plan, headers, name, counted, peaks.get(name)))
    with st.expander("The same as a table", icon=":material/table_rows:"):
        st.dataframe(
            tables.sizes_text(frame),
            hide_index=True,
            height=columns.height(len(frame), columns.ROWS),
            alt="Every size of every precision in bytes",
        )


def _steps(
    asked: Asked,
    plan: Plan,
    headers: HeaderPlan,
    precision: str,
    counted: dict[str, int],
    peaks: LoadPeaks | None,
) -> None:
    if not tables.chosen(plan, (precision,)):
        st.info("This model cannot have that precision.")
        return
    frame = tables.steps(plan, headers, precision, counted, peaks)
    st.plotly_chart(
        figures.steps(frame, precision),
        config=axes.CONFIG,
        key="steps",
        alt="From the stored file to the load and inference peaks of one precision, with every difference named",
    )
    way = tables.best_way(peaks, precision)
    by = f" Loaded by the way *{literal(way.way)}*, which needs least." if way else " The load peak: not measured yet."
    st.caption(f"Between the sizes: {literal(words.differences(frame))}.{by}")
    if way is None and (answer := loading.measure(asked, precision)) is not None:
        loading.follow(answer)


def one(names: tuple[str, ...], key: str, draw_one: Callable[[str], None]) -> None:
    """Draw one of several precisions, the first that is quantised unless somebody chooses."""
    chosen = st.selectbox(
        "Precision",
        names,
        index=next((place for place, name in enumerate(names) if PRECISIONS[name].quantizer), 0),
        format_func=label,
        key=key,
        width=300,
        label_visibility="collapsed",
    )
    draw_one(chosen if chosen in names else names[0])


def _counted(asked: Asked) -> dict[str, int]:
    """Precision → bytes counted in loaded models, by the newest comparison that has it."""
    try:
        reports = list(_reports_of(asked.model, asked.revision, asked.also))
    except QfundError:
        return {}
    return {row.precision: row.footprint_bytes for report in reversed(reports) for row in measured(report)}


def _reports_of(model: str, revision: str | None, also: tuple[str, ...]) -> Iterator[Report]:
    """Comparisons of exactly these weights that were measured earlier, newest first, then the one that ships.

    Raises:
        QfundError: the model cannot be identified, or the store refuses.
    """
    identity = catalog.identity(Spec(model, revision=revision))
    rows = [row for row in services.listed("compare") if (row.model, row.revision, row.also) == (model, revision, also)]
    for row in rows[:READ]:
        report = services.stored("compare", row.key)
        if report is not None and identity == f"{report.environment.model_id} on {catalog.device()}":
            yield report
    if model == catalog.EXAMPLE and not also:
        every = services.look_up(examples.EVERY_PRECISION, whole=False).result
        if every is not None:
            yield every
