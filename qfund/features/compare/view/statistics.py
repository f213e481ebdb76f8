"""The section *Statistics*: what is noise, how differences are spread over positions, and two candidates compared."""

import streamlit as st

from qfund.drawing import axes, phrases
from qfund.features.compare.figures import statistics as figures
from qfund.features.compare.request.pairs import paired
from qfund.features.compare.request.report import Report
from qfund.features.compare.tables import statistics as tables
from qfund.features.compare.words import statistics as words
from qfund.ui.drawn import once
from qfund.ui.services import Answer
from qfund.ui.states import literal


def has(report: Report) -> bool:
    """Whether there is anything to tell here."""
    return bool(report.noise) or any(row.percentiles or row.buckets or row.chunks for row in report.results)


def draw(found: Answer) -> None:
    report: Report = found.result
    if report.noise:
        _noise(found)
    left, right = st.columns(2, gap="medium")
    with left:
        _percentiles(found)
        _buckets(found)
    with right:
        _tails(found)
    table = once(found, "percentiles text", tables.percentiles_text)
    if not table.empty:
        st.dataframe(
            table,
            hide_index=True,
            column_config={"Precision": st.column_config.TextColumn(pinned=True)},
            height="content" if len(table) <= 30 else 530,
            key="percentiles_table",
            alt="Percentiles of the KL divergence in both directions and of the correct token's change in probability",
        )
    _paired(found)


def drift(found: Answer) -> None:
    """The error of the hidden states after every block, in a way that is chosen."""
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.markdown("**Error along the blocks**", width="content")
        which = st.segmented_control(
            "Error by",
            list(tables.DRIFTS),
            default=next(iter(tables.DRIFTS)),
            required=True,
            key="drift_by",
            label_visibility="collapsed",
            width="content",
        )
    which = which if which in tables.DRIFTS else next(iter(tables.DRIFTS))
    st.plotly_chart(
        once(
            found,
            f"drift {which}",
            lambda report: figures.drift(tables.drift(report, which), which),
        ),
        config=axes.CONFIG,
        key="drift",
        alt="Error of the hidden states after every block, one line for each candidate",
    )
    st.caption(words.drift(found.result, tables.drift(found.result, which), which))


def _noise(found: Answer) -> None:
    report: Report = found.result
    st.markdown("**What means nothing: the reference against itself**")
    st.dataframe(
        once(found, "noise", tables.noise),
        hide_index=True,
        key="noise",
        alt="What changes when the reference runs with other threads, another batch shape or another attention",
    )
    st.caption(literal(words.noise(report)))


def _percentiles(found: Answer) -> None:
    frame = once(found, "percentiles kl", lambda report: tables.percentiles(report, "kl"))
    if frame.empty or not (frame["value"] > 0).any():
        return
    st.markdown("**How KL is spread over positions**")
    st.plotly_chart(
        once(found, "percentiles figure", lambda report: figures.percentiles(frame)),
        config=axes.CONFIG,
        key="percentiles",
        alt="Percentiles of the KL divergence, one line for each candidate",
    )
    st.caption("A line that rises steeply at the right: most positions are fine, and a few are far off.")


def _tails(found: Answer) -> None:
    frame = once(found, "tails", tables.tails)
    if frame.empty:
        return
    st.markdown("**What the correct token loses and gains**")
    if (frame[["loss", "gain"]] > 0).any(axis=None):
        st.plotly_chart(
            once(found, "tails figure", lambda report: figures.tails(frame)),
            config=axes.CONFIG,
            key="tails",
            alt="Loss and gain of the correct token's probability at the worst and best hundredth of positions",
        )
    st.caption(words.tails(frame))


def _buckets(found: Answer) -> None:
    frame = once(found, "buckets", tables.buckets)
    shown = [name for name in ("kl_mean", "top1_agreement", "perplexity_ratio") if name in set(frame["metric"])]
    if not shown:
        return
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.markdown("**Where the reference is sure**", width="content")
        names = {"kl_mean": "KL", "top1_agreement": "top-1", "perplexity_ratio": "perplexity"}
        metric = st.segmented_control(
            "Metric",
            shown,
            default=shown[0],
            required=True,
            format_func=lambda name: names[name],
            key="bucket_metric",
            label_visibility="collapsed",
            width="content",
        )
    metric = metric if metric in shown else shown[0]
    st.plotly_chart(
        once(found, f"buckets {metric}", lambda report: figures.buckets(frame, metric)),
        config=axes.CONFIG,
        key="buckets",
        alt="The metric in buckets of the reference's largest probability, one line for each candidate",
    )
    st.caption(
        "Means are ruled by positions where the reference itself is undecided (left). Damage where it was sure (right) "
        "is what readers notice."
    )


def _paired(found: Answer) -> None:
    report: Report = found.result
    names = [result.precision for result in report.results if result.chunks is not None]
    if len(names) < 2:
        return
    st.markdown("**Two candidates, on the same tokens**")
    with st.container(horizontal=True):
        one = st.selectbox("One", names, format_func=phrases.label, key="paired_one", width=260)
        other = st.selectbox("The other", names, index=1, format_func=phrases.label, key="paired_other", width=260)
    one, other = (one if one in names else names[0]), (other if other in names else names[1])
    if one == other:
        st.caption("Choose two different ones.")
        return
    frame = once(
        found,
        f"paired {one} {other}",
        lambda whole: tables.paired_text(paired(whole, one, other), one, other),
    )
    if frame.empty:
        st.caption("The two share no metric that can be paired.")
        return
    st.dataframe(frame, hide_index=True, key="paired", alt="Differences of the two candidates with 95 % intervals")
    st.caption(
        f"{phrases.listed([phrases.label(one), phrases.label(other)])} were measured on the same tokens, so what both "
        "find hard cancels: differences are told apart that two separate intervals would not show."
    )
