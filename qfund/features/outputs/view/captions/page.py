"""The view *Captions*: choices, what each precision does to captions, and the pictures beside them, worst first."""

import shlex
from dataclasses import replace

import streamlit as st

from qfund.core.errors import QfundError
from qfund.drawing import axes
from qfund.features.captions import figures, request, tables
from qfund.features.captions import words as captions_words
from qfund.features.captions.link import Asked
from qfund.features.captions.request import Captions
from qfund.features.outputs import link as outputs_link
from qfund.features.outputs.link import ADDRESS
from qfund.features.outputs.view.captions import choices, gallery
from qfund.ui import columns, downloads, folding, progress, services
from qfund.ui.states import empty, failed, literal, told

_BEFORE = "captions_before"  # what was last seen with a result


def draw(shown: Asked, new: bool) -> None:
    """The whole view; ``new`` where a link has just asked for it."""
    ADDRESS.show(_within(shown))
    choices.follow(shown, new)
    told(ADDRESS.problems())
    folding.change()
    draft, pressed = choices.draw()
    said = None
    if pressed and draft is not None:
        try:
            _start(draft)
            st.rerun()
        except QfundError as error:
            said = error
            failed(error)
    _below(shown, draft, said)


def _within(asked: Asked) -> outputs_link.Asked:
    """The page's choices with these of this view."""
    return replace(ADDRESS.current(), view="captions", captions=asked)


def _start(asked: Asked) -> None:
    """Ask for captions, unless they are there already.

    Raises:
        QfundError: the request is wrong, the model is not there, or the queue is full.
    """
    if services.look_up(asked.request).result is None:
        services.jobs().submit(asked.request)
    ADDRESS.pressed(_within(asked))


def _below(shown: Asked, draft: Asked | None, said: QfundError | None) -> None:
    """Everything below the choices; ``said`` is what the visitor has just been told."""
    try:
        answer = services.look_up(shown.request)
    except QfundError as error:
        if said is None or str(said) != str(error):
            failed(error, "These captions cannot be opened.")
        st.button(
            "Show the example instead",
            icon=":material/home:",
            key="captions_example",
            on_click=_show_example,
        )
        return
    if draft is not None and draft != shown and said is None:
        services.prepare_worker()
        st.caption(":material/edit: These choices are not the captions shown below. Press Caption to make them.")
    if answer.problem:
        st.warning(literal(answer.problem), icon=":material/database_off:")
    if answer.job is not None and answer.job.active:
        progress.follow(answer.key)
        _meanwhile(shown)
    elif answer.result is not None:
        st.session_state[_BEFORE] = shown
        if draft == shown:
            folding.fold("caption_choices")
        _result(answer.key, answer.result, shown)
    else:
        if answer.job is not None:
            progress.ended(answer.job)
        empty(
            "No captions yet",
            "**Caption** runs the model on every picture in each precision, greedily, and asks each precision for the "
            "next word along the reference's caption. It runs on if you close this page.",
            ":material/closed_caption:",
        )


def _meanwhile(shown: Asked) -> None:
    """The captions that were there before, so that there is something to look at."""
    before: Asked | None = st.session_state.get(_BEFORE)
    if before is None or before == shown:
        return
    try:
        answer = services.look_up(before.request)
    except QfundError:
        return
    if answer.result is not None:
        st.caption(":material/history: Meanwhile, the captions before:")
        _result(answer.key, answer.result, before)


def _show_example() -> None:
    ADDRESS.pressed(_within(Asked()))
    choices.follow(Asked(), True)


@st.fragment
def _result(key: str, found: Captions, asked: Asked) -> None:
    """A fragment: turning the gallery's pages draws no choices anew."""
    st.header(literal(captions_words.headline(found)), anchor=False)
    if found.request.pictures:  # few, and somebody's own: these first
        st.markdown(_listed(found))
        gallery.draw(key, found)
    if found.candidates:
        _figures(found)
    if not found.request.pictures:
        st.markdown(_listed(found))
        gallery.draw(key, found)
    st.caption(literal(" ".join((*found.notes, _measured_on(found)))))
    with st.expander("Numbers and data", icon=":material/download:", key="captions_data", on_change="rerun") as more:
        if more.open:
            _numbers(key, found, asked)


def _listed(found: Captions) -> str:
    return "\n".join(f"- {literal(sentence)}" for sentence in captions_words.verdicts(found))


def _figures(found: Captions) -> None:
    accuracy = tables.accuracy(found)
    left, right = st.columns(2, gap="medium") if len(accuracy) else (None, st.container())
    if left is not None:
        with left:
            st.markdown(
                "**Captions exactly right**",
                help="Every word as the picture was drawn, with Wilson's 95 % interval. The dotted line is the "
                "reference. All precisions caption the same pictures, so differences between them are surer than "
                "the intervals look: the sentences below compare picture by picture.",
            )
            st.plotly_chart(
                figures.accuracy(accuracy),
                config=axes.CONFIG,
                key="captions_accuracy",
                alt="Share of captions that are exactly right in each precision, with 95 % intervals",
            )
    with right:
        st.markdown(
            "**How far the next word's distribution moves**",
            help="Captions are too sure of themselves to tell most precisions apart. So each precision is also given "
            "the reference's caption and asked for the next token at every place; bars are one standard error.",
        )
        st.plotly_chart(
            figures.divergence(tables.divergence(found)),
            config=axes.CONFIG,
            key="captions_divergence",
            alt="Mean KL divergence of each precision along the reference's captions, on a logarithmic axis",
        )


def _measured_on(found: Captions) -> str:
    versions, where = found.environment.versions, found.environment
    library = f"torch {versions['torch']}, transformers {versions['transformers']}"
    return f"{found.architecture}, {found.parameters:,} parameters; {where.cpu or where.device}, {library}."


def _numbers(key: str, found: Captions, asked: Asked) -> None:
    st.dataframe(
        columns.told(tables.summary(found), "KL", "KL 99 %", "Largest difference"),
        hide_index=True,
        column_config={
            "Precision": st.column_config.TextColumn(pinned=True),
            "Memory (B)": st.column_config.NumberColumn(format="localized", help="Stored bytes, counted."),
            "Exactly right": st.column_config.NumberColumn(format="%.1f %%", help="Every word as it was drawn."),
            "95 % interval": st.column_config.TextColumn(help="Wilson's interval of the share."),
            "Changed": st.column_config.NumberColumn(format="%.1f %%", help="Not the reference's caption."),
            "KL": st.column_config.NumberColumn(help="Mean, in nat, along reference captions."),
            "KL 99 %": st.column_config.NumberColumn(help="The 99th percentile of its tokens."),
            "Largest difference": st.column_config.NumberColumn(help="Of any logit, there."),
        },
        height=columns.height(1 + len(found.candidates)),
        placeholder="–",
        key="captions_table",
        alt="Every precision with its captions in numbers",
    )
    downloads.download(
        "Everything (JSON)",
        lambda: request.to_json(found),
        f"qfund-captions-{key[:8]}.json",
        "application/json",
        "data_object",
        "captions",
    )
    if asked.pictures:
        st.caption("Your own pictures stand in no link.")
    else:
        st.code(ADDRESS.complete(_within(asked)), language=None, wrap_lines=True)
    st.code(shell(asked), language="bash", wrap_lines=True)


def shell(asked: Asked) -> str:
    """``qfund caption shapes-blip --precision bf16 int8 --samples 500``."""
    words = ["qfund", "caption", asked.model, "--reference", asked.reference, "--precision", *asked.precisions]
    words += ["--image", *(one.name for one in asked.pictures)] if asked.pictures else ["--samples", str(asked.samples)]
    words += ["--max-new-tokens", str(asked.tokens)]
    return shlex.join([*words, *(["--revision", asked.revision] if asked.revision else [])])
