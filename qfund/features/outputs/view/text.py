"""The view *Text*: what every precision wrote after the same prompts, and where and why the texts part."""

from dataclasses import replace

import streamlit as st

from qfund.core.units import number_text
from qfund.drawing import axes
from qfund.drawing.numbers import interval_text
from qfund.drawing.phrases import FEW, label
from qfund.features.outputs import figures, tables, words
from qfund.features.outputs.link import ADDRESS
from qfund.features.outputs.request import generation
from qfund.features.outputs.request.generation import Generation
from qfund.features.outputs.view import aligned, data
from qfund.ui import cards, columns
from qfund.ui.drawn import once
from qfund.ui.services import Answer
from qfund.ui.states import literal


def draw(answer: Answer) -> None:
    found: Generation = answer.result
    st.caption(literal(words.how_written(found)))
    for note in found.notes:
        st.caption(f":material/info: {literal(note)}")
    once(answer, "candidates", _candidates)
    if len(found.counted) > 1:
        once(answer, "curves", _curves)
    _example(answer)
    _tables(found)
    data.draw(answer, "Examples (CSV)", lambda: tables.generation_csv(found))
    st.caption(words.definitions(found))


def _candidates(found: Generation) -> None:
    names = found.request.candidates
    if len(names) > FEW:
        st.dataframe(
            tables.candidates(found),
            hide_index=True,
            height=columns.height(len(names)),
            key="outputs_candidates",
            alt="Every candidate with the share of prompts that never diverge and how the others do",
        )
        return
    with st.grid(2 if len(names) in (1, 2, 4) else 3, min_column_width=300):
        for name in names:
            with st.container(border=True, gap="small", height="stretch"):
                _card(found, name)


def _card(found: Generation, name: str) -> None:
    cards.title(name)
    row = generation.statistics(found, name)
    if row is not None:
        with st.grid(3, min_column_width=88, gap="small"):
            if row.same.n > 1:
                st.metric(
                    "Same tokens",
                    f"{row.same.value:.1f}",
                    help=f"Before the first that differs: {interval_text('same', row.same)} of "
                    f"{found.request.max_new_tokens}.",
                )
                st.metric(
                    "Never diverge",
                    f"{100 * row.never.value:.0f} %",
                    help=f"{interval_text('never', row.never, ' %')}.",
                )
                st.metric(
                    "Other tokens",
                    f"{100 * row.divergent.value:.0f} %",
                    help=f"Divergent, position by position: {interval_text('divergent', row.divergent, ' %')}.",
                )
            else:
                total = max(len(found.counted[0].reference.tokens), 1)
                st.metric("Same tokens", f"{row.same.value:.0f} of {total}", help="Before the first that differs.")
                st.metric("Other tokens", f"{100 * row.divergent.value:.0f} %", help="Position by position.")
                if row.noise is not None:
                    st.metric(
                        "Logit noise",
                        number_text(row.noise),
                        help="How far it usually moves a difference of two logits (√2 standard deviations).",
                    )
    st.markdown(literal(words.candidate(found, name)))


def _curves(found: Generation) -> None:
    left, right = st.columns(2, gap="medium")
    with left:
        st.markdown("**Still the same after n tokens**")
        st.plotly_chart(
            figures.survival(tables.survival(found)),
            config=axes.CONFIG,
            key="outputs_survival",
            alt="Share of prompts whose text is still the reference's, token after token, one line a precision",
        )
    with right:
        st.markdown("**How the prompts end**")
        st.plotly_chart(
            figures.outcomes(tables.outcomes(found)),
            config=axes.CONFIG,
            key="outputs_outcomes",
            alt="For each precision how many prompts never diverge, diverge at a tie, or by damage",
        )


@st.fragment
def _example(answer: Answer) -> None:
    """One prompt, chosen by its number or as the worst of a candidate."""
    name, number = _chosen(answer.key, answer.result)
    once(answer, f"example {number} of {name}", lambda found: _apart(found, name, number))


def _apart(found: Generation, name: str, number: int) -> None:
    example = found.examples[number]
    row = example.candidates[name].divergence
    left, right = st.columns(2, gap="medium")
    same = None if row is None else row.step
    with left, st.container(border=True, height="stretch"):
        st.html(aligned.prose(example.prompt, example.reference, found.request.reference, same))
    with right, st.container(border=True, height="stretch"):
        st.html(aligned.prose(example.prompt, example.candidates[name].written, name, same))
    if row is None:
        st.markdown(
            f":material/check: The same text, token by token. {literal(label(name))} ends where "
            f"{literal(label(found.request.reference))} does: {literal(generation.ENDS[example.reference.ended])}."
        )
    else:
        st.markdown(literal(words.divergence(row, found.request.reference, name)))
        st.plotly_chart(
            figures.alternatives(tables.alternatives(found, number, name)),
            config=axes.CONFIG,
            key="outputs_alternatives",
            alt="Probabilities that both precisions gave to the likeliest tokens where they part",
        )
    st.markdown("**Token by token**")
    st.html(aligned.table(example, found.request.reference, found.request.candidates))


def _chosen(key: str, found: Generation) -> tuple[str, int]:
    """The candidate and the number of the example that are looked at, in the address too."""
    asked = ADDRESS.current()
    names = found.request.candidates
    st.markdown("**Where they part**")
    with st.container(horizontal=True, vertical_alignment="bottom"):
        begin = asked.look if asked.look in names else _most(found)
        state = f"outputs_look_{key}"  # of this result: another one begins where it parts
        if st.session_state.get(state) not in names:
            st.session_state[state] = begin
        name = st.segmented_control(
            "Candidate",
            names,
            format_func=label,
            key=state,
            required=True,
            label_visibility="collapsed",
        )
        name = name if name in names else begin
        ordered = generation.worst_first(found, name)
        number = _number(found, f"{key}_{name}", name, ordered, asked.example) if len(ordered) > 1 else 0
    ADDRESS.show(
        replace(asked, look=name if name != _most(found) else None, example=number + 1 if number != ordered[0] else 0)
    )
    return name, number


def _most(found: Generation) -> str:
    """The candidate that diverges at all and is nearest to the reference: where it parts is most worth a look."""
    for name in found.request.candidates:
        if any(example.candidates[name].divergence for example in found.examples):
            return name
    return found.request.candidates[0]


def _number(found: Generation, key: str, name: str, ordered: list[int], begin: int) -> int:
    """The example that is chosen; at first that of the link, or the worst."""
    state = f"outputs_example_{key}"
    if st.session_state.get(state) not in ordered:
        st.session_state[state] = begin - 1 if begin - 1 in ordered else ordered[0]
    number = st.selectbox(
        "Prompt, the worst first",
        ordered,
        format_func=lambda number: words.example_title(found.examples[number], name, number + 1),
        key=state,
        width=640,
        label_visibility="collapsed",
    )
    return number if number in ordered else ordered[0]


def _tables(found: Generation) -> None:
    listing = st.expander("All of it as tables", icon=":material/table_rows:", key="outputs_tables", on_change="rerun")
    if not listing.open:
        return
    with listing:
        if len(found.request.candidates) <= FEW:
            st.dataframe(tables.candidates(found), hide_index=True, alt="Statistics of every candidate")
        names = found.request.candidates
        chosen = st.selectbox("Candidate", names, format_func=label, key="outputs_table_of", width=300)
        st.dataframe(
            tables.examples(found, chosen if chosen in names else names[0]),
            hide_index=True,
            column_config={
                "Divergent": st.column_config.NumberColumn(format="%.0f %%"),
                **{
                    name: st.column_config.NumberColumn(format="%.3f", help="In logits.")
                    for name in ("Preference", "Moved by", "Usual")
                },
                **{
                    name: st.column_config.TextColumn(width="large")
                    for name in ("Begins", "Reference wrote", "Candidate wrote")
                },
            },
            height=columns.height(len(found.examples), columns.ROWS),
            alt="Every prompt with where and how the candidate diverges, the worst first",
        )
