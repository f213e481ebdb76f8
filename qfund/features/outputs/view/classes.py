"""The view *Classes*: probabilities in every precision, and which classes flip."""

from dataclasses import replace

import streamlit as st

from qfund.core.units import number_text
from qfund.drawing import axes, phrases
from qfund.drawing.csv import csv
from qfund.features.outputs import figures, tables, words
from qfund.features.outputs.link import ADDRESS
from qfund.features.outputs.request import classes
from qfund.features.outputs.request.classes import READINGS, SCORE, Classes
from qfund.features.outputs.request.generation import TIE
from qfund.features.outputs.view import data, margins
from qfund.inputs import pictures
from qfund.ui import cards, columns
from qfund.ui.drawn import once
from qfund.ui.services import Answer
from qfund.ui.states import literal


def draw(answer: Answer) -> None:
    found: Classes = answer.result
    st.caption(literal(f"{found.classes:,} classes: {READINGS[found.reading]}."))
    for note in found.notes:
        st.caption(f":material/info: {literal(note)}")
    once(answer, "classes", _cards)
    if found.reading != SCORE:
        margins.draw(found, ("flips",))
    _item(found)
    once(answer, "classes table", _table)
    data.draw(answer, "Classes (CSV)", lambda: csv(tables.classes_table(found)))


def _cards(found: Classes) -> None:
    names = found.request.precisions
    with st.grid(2 if len(names) in (1, 2, 4) else 3, min_column_width=280):
        for name in names:
            with st.container(border=True, gap="small", height="stretch"):
                _card(found, name)


def _table(found: Classes) -> None:
    st.dataframe(
        tables.classes_table(found),
        hide_index=True,
        column_config={
            "Item": st.column_config.TextColumn(width="large", pinned=True),
            "Value": st.column_config.NumberColumn(format="%.4f", help="The probability (or score) of the class."),
            "Largest change": st.column_config.NumberColumn(
                format="%.4f", help="Of any class's probability, against the reference's."
            ),
        },
        height=columns.height(len(found.items) * (1 + len(found.request.precisions)), columns.ROWS),
        key="outputs_classes_table",
        alt="Every item in every precision with the class it is given",
    )


def _card(found: Classes, name: str) -> None:
    cards.title(name)
    row = classes.statistics(found, name)
    if row is not None:
        with st.grid(2, min_column_width=88, gap="small"):
            if found.reading != SCORE:
                st.metric("Flips", f"{100 * row.flips.value:.0f} %", help="Items that are given another class.")
            if row.moved is not None:
                st.metric(
                    "Largest change, mean",
                    words.change(found, row.moved.value),
                    help="Of each item the class whose probability (or score) changed most; the mean over items.",
                )
    st.markdown(literal(words.classes_sentence(found, name)))


@st.fragment
def _item(found: Classes) -> None:
    asked = ADDRESS.current()
    numbers = list(range(len(found.items)))
    if st.session_state.get("outputs_item") not in numbers:
        st.session_state["outputs_item"] = asked.example - 1 if asked.example - 1 in numbers else 0
    number = st.selectbox(
        "One of them",
        numbers,
        format_func=lambda number: f"{number + 1} · {found.items[number].name[:90]}",
        key="outputs_item",
        width=640,
        label_visibility="collapsed",
    )
    number = number if number in numbers else 0
    ADDRESS.show(replace(asked, example=number + 1 if number else 0))
    item = found.items[number]
    if found.reads == "pictures":
        picture, chart = st.columns([1, 3], gap="medium")
        picture.image(pictures.draw()[number].image, width=200, caption=literal(item.name))
    else:
        st.text(item.name)
        chart = st.container()
    if item.gap is not None:
        reference = found.request.reference
        chart.caption(
            literal(
                f"{phrases.together((reference,))} preferred its class to the second by {number_text(item.gap)} logits"
                f"{': a tie' if item.gap <= TIE else ''}."
            )
        )
    chart.plotly_chart(
        figures.class_shares(tables.class_shares(found, number), "" if found.reading == SCORE else "%"),
        config=axes.CONFIG,
        key="outputs_class_shares",
        alt="Probability of each class in every precision",
    )
