"""The view *Embeddings*: how far vectors turn, and whether the nearest sentences stay the nearest."""

from dataclasses import replace

import streamlit as st

from qfund.drawing import axes
from qfund.drawing.csv import csv
from qfund.drawing.numbers import cosine_text
from qfund.drawing.phrases import label
from qfund.features.outputs import figures, tables, words
from qfund.features.outputs.link import ADDRESS
from qfund.features.outputs.request import embeddings
from qfund.features.outputs.request.embeddings import Embeddings
from qfund.features.outputs.view import data, margins
from qfund.ui import cards
from qfund.ui.drawn import once
from qfund.ui.services import Answer
from qfund.ui.states import literal


def draw(answer: Answer) -> None:
    found: Embeddings = answer.result
    request = found.request
    once(answer, "embeddings", _cards)
    margins.draw(found, ("cos", "order", "rho") if request.pairs else ("cos", "order"))
    left, right = st.columns([3, 2], gap="medium")
    with left:
        once(answer, "rankings", _rankings)
    with right:
        _similarity(answer)
    once(answer, "sentences", _sentences)
    data.draw(answer, "Rankings (CSV)", lambda: csv(tables.rankings(found)))


def _cards(found: Embeddings) -> None:
    """What the vectors are, and a card for each precision."""
    names = found.request.precisions
    st.caption(literal(f"{found.dimensions:,} dimensions: {found.what}, pooled by {found.pooling}."))
    if found.task not in ("text encoder", "encoder"):
        st.caption(
            f":material/info: {literal(found.architecture)} is a {literal(found.task)} and was not trained to embed "
            "sentences: read its ranking as a test of precision, not of meaning."
        )
    for note in found.notes:
        st.caption(f":material/info: {literal(note)}")
    with st.grid(2 if len(names) in (1, 2, 4) else 3, min_column_width=280):
        for name in names:
            with st.container(border=True, gap="small", height="stretch"):
                _card(found, name)
    if told := [line.strip() for line in words.correlations(found) if line]:
        st.markdown("\n".join([literal(told[0]), "", *(f"- {literal(line)}" for line in told[1:])]))


def _rankings(found: Embeddings) -> None:
    st.markdown("**Places by nearness to the query**")
    st.plotly_chart(
        figures.rankings(tables.rankings(found)),
        config=axes.CONFIG,
        key="outputs_rankings",
        alt="The place of every sentence in each precision; lines that cross are places that changed",
    )


def _sentences(found: Embeddings) -> None:
    st.dataframe(
        tables.sentences(found),
        hide_index=True,
        column_config={"Sentence": st.column_config.TextColumn(width="large")},
        height="content",
        key="outputs_sentences",
        alt="Every sentence with its place and cosine with the query in every precision",
    )
    st.caption(
        literal(
            f"Query: “{found.request.query}”. Sentences by the reference's order; each cell is the place and the "
            "cosine with the query in that precision. Lines in colour are sentences that stand on another place "
            "somewhere."
        )
    )


def _card(found: Embeddings, name: str) -> None:
    cards.title(name)
    row = embeddings.statistics(found, name)
    with st.grid(2, min_column_width=110, gap="small"):
        if row.cosine is not None and row.worst is not None:
            st.metric(
                "Cosine",
                cosine_text(row.cosine.value),
                help=f"Of the same text's vectors here and in {label(found.request.reference)}, on average; the "
                f"smallest is {cosine_text(row.worst)}.",
            )
        if row.tau is not None:
            st.metric("Kendall's τ", f"{row.tau:.3f}", help="Of the order of the sentences: 1 for the same order.")
    st.markdown(literal(words.embeddings_sentence(found, name)))


@st.fragment
def _similarity(answer: Answer) -> None:
    found: Embeddings = answer.result
    asked = ADDRESS.current()
    names = list(dict.fromkeys((found.request.reference, *found.request.precisions)))
    if st.session_state.get("outputs_matrix") not in names:
        st.session_state["outputs_matrix"] = asked.look if asked.look in names else names[0]
    name = st.selectbox("Every pair, in", names, format_func=label, key="outputs_matrix")
    name = name if name in names else names[0]
    ADDRESS.show(replace(asked, look=name if name != names[0] else None))
    st.plotly_chart(
        once(answer, f"similarity {name}", lambda found: figures.similarity(tables.similarity(found, name))),
        config=axes.CONFIG,
        key="outputs_similarity",
        alt="Cosine of every pair of sentences in one precision",
    )
