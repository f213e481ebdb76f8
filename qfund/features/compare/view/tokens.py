"""The section *Token by token*: the text, and at which of its tokens the candidates disagree with the reference."""

import streamlit as st

from qfund.drawing import phrases
from qfund.features.compare.request.report import Report, predicts_tokens
from qfund.features.compare.request.spec import MAP, PARTS
from qfund.features.compare.tables import tokens
from qfund.features.compare.view import token_map
from qfund.ui.drawn import once
from qfund.ui.services import Answer


def draw(found: Answer) -> None:
    report: Report = found.result
    if report.tokens is None and predicts_tokens(report):
        st.info(f"{PARTS[MAP].capitalize()} was left out, as asked. Choose so under Options.")
        return
    if report.tokens is None:
        task = f"{'An' if report.model.task[:1] in 'aeiou' else 'A'} {report.model.task}"
        st.info(f"{task} predicts no tokens, so there is no text to colour.")
        return
    shown = len(report.tokens.pieces)
    rest = f" The first {shown:,} of {report.tokens.total:,} tokens are shown." if shown < report.tokens.total else ""
    what = "predicted it from what comes before" if report.tokens.predicts_next else "predicted it"
    st.caption(
        f"Each token is coloured by how far the candidate's distribution was from the reference's when both {what}. "
        f"Choose a token by a click or with the arrow keys to see what each expected there.{rest}"
    )
    token_map.token_map(once(found, "token map", lambda whole: token_map.payload(whole, found.key)), key="token_map")
    kept = len(report.tokens.detailed)
    title = "The same as a table" if kept == shown else f"The {kept:,} tokens that are kept in full, as a table"
    listing = st.expander(title, icon=":material/table_rows:", key="where_table", on_change="rerun")
    if listing.open:
        with listing:
            _table(found, [result.precision for result in report.results])


def _table(found: Answer, candidates: list[str]) -> None:
    chosen = st.selectbox("Candidate", candidates, format_func=phrases.label, key="where_candidate", width=300)
    chosen = chosen if chosen in candidates else candidates[0]
    st.dataframe(
        once(found, f"disagreements {chosen}", lambda report: tokens.disagreements(report, chosen)),
        hide_index=True,
        column_config={
            "KL (nat)": st.column_config.NumberColumn(format="scientific"),
            "mean |difference| (logit)": st.column_config.NumberColumn(format="scientific"),
        },
        height=420,
        alt="Tokens of the text with the divergence at each, largest first",
    )
