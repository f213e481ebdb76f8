"""The page *Nine questions* below its title: a model, a question, its answer, evidence, code, the course's figures."""

from collections import Counter
from dataclasses import replace

import streamlit as st

from qfund.core.feature import lazily
from qfund.features.lesson import tables
from qfund.features.lesson.link import ADDRESS, SECTIONS
from qfund.features.lesson.request import published
from qfund.features.lesson.request.questions import QUESTIONS, THEN_AND_NOW, Asked, Question, snippet
from qfund.ui import pickers, progress
from qfund.ui.states import literal, told

_QUESTION = "lesson_question"


def draw() -> None:
    """The whole view."""
    asked, new = ADDRESS.opened()
    _follow(asked, new)
    asked = _choose(asked)
    ADDRESS.show(asked)
    told(ADDRESS.problems())
    if asked.question == THEN_AND_NOW:
        _then_and_now()
    else:
        _question(asked, QUESTIONS[asked.question])
    _turn(asked)


def _follow(asked: Asked, new: bool) -> None:
    """Let the widgets begin at ``asked``: when a link is opened, and when somebody comes back from another page."""
    pickers.begin("lesson", {"model": asked.model, "question": asked.question}, new)
    pickers.begin("guess", dict(asked.guesses), new)


def _choose(asked: Asked) -> Asked:
    """Which model, which question."""
    model = pickers.model("lesson_model", asked.model, width=420, hub_id="a Hub id")
    question = st.pills(
        "Question",
        SECTIONS,
        format_func=_pill,
        key=_QUESTION,
        required=True,
        label_visibility="collapsed",
        persist_state="session",
    )
    return replace(
        asked,
        model=model,
        revision=asked.revision if model == asked.model else None,
        question=question or asked.question,
    )


def _number(name: str) -> int:
    return SECTIONS.index(name) + 1


def _pill(name: str) -> str:
    return "Then and now" if name == THEN_AND_NOW else f"{_number(name)} · {QUESTIONS[name].short}"


def _question(asked: Asked, question: Question) -> None:
    st.header(f"{_number(question.name)}. {question.title}", anchor=False)
    st.markdown(question.answer, width=820)
    headers = progress.at_once(asked.plan)
    if headers is None:
        return
    architecture = headers.architecture
    st.subheader("Measured", icon=":material/science:", anchor=False)
    lazily(question.evidence)(asked)
    st.subheader("The same in a notebook", icon=":material/code:", anchor=False)
    st.code(snippet(question.snippet, asked, architecture), language="python")
    if architecture != "DummyModel" and "ids = " in snippet(question.snippet, asked, architecture):
        st.caption(
            "The input is the toy lesson's, two tokens in two orders: the numbers are not those above, which are of a "
            "whole text. A model that reads other things than token ids needs another input."
        )
    figures = [figure for figure in published.load().figures if figure.question == question.name]
    if figures:
        with st.expander(f"The course's figures, then and now ({len(figures)})", icon=":material/history_edu:"):
            _course(figures, f"course_{question.name}")


def _then_and_now() -> None:
    found = published.load()
    st.header("The course's numbers, then and now", anchor=False)
    counts = Counter(figure.verdict for figure in found.figures)
    outcomes = ", ".join(f"{counts[verdict]} {verdict}" for verdict in published.VERDICTS if counts[verdict])
    st.markdown(
        f"{len(found.figures)} figures were published with the lesson. This is how they come out today: {outcomes}. "
        "*Explained* means: another figure comes out, and the published one to the last digit once the "
        "differences that are named below are undone.",
        width=820,
    )
    _course(list(found.figures), "course_all")
    versions = ", ".join(f"{name} {version}" for name, version in found.versions.items())
    st.caption(
        f"*Now* is computed by `python -m training.course` with {literal(versions)}, sizes from configurations alone, "
        "and a test computes it again."
    )


def _course(figures: list[published.CourseFigure], key: str) -> None:
    st.dataframe(
        tables.course(figures),
        hide_index=True,
        column_config={
            "Figure": st.column_config.TextColumn(pinned=True, width="medium"),
            "Comes out": st.column_config.TextColumn(
                help="  \n".join(f"{name}: {meaning}" for name, meaning in published.VERDICTS.items())
            ),
            "Difference undone": st.column_config.TextColumn(help="Without the differences named below."),
        },
        height="content",
        key=key,
        alt="Every figure that the course published, what comes out today, and why",
    )
    for why in dict.fromkeys(figure.why for figure in figures if figure.why):
        names = "; ".join(figure.what for figure in figures if figure.why == why)
        st.caption(f"**{literal(names)}:** {literal(why)}")


def _go(name: str) -> None:
    st.session_state[_QUESTION] = name


def _turn(asked: Asked) -> None:
    """To the question before and after."""
    place = SECTIONS.index(asked.question)
    with st.container(horizontal=True, horizontal_alignment="distribute"):
        for step, icon in ((-1, ":material/arrow_back:"), (1, ":material/arrow_forward:")):
            if 0 <= place + step < len(SECTIONS):
                name = SECTIONS[place + step]
                st.button(
                    _pill(name),
                    icon=icon,
                    icon_position="left" if step < 0 else "right",
                    key=f"turn_{step}",
                    on_click=_go,
                    args=(name,),
                )
