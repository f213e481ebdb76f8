"""The page Outputs below the choices: what was found, the job that works on it, or an invitation to start it."""

import streamlit as st

from qfund.core.errors import QfundError
from qfund.drawing import phrases
from qfund.features.outputs import words
from qfund.features.outputs.link import ADDRESS, Asked
from qfund.features.outputs.request.classes import Classes
from qfund.features.outputs.request.embeddings import Embeddings
from qfund.features.outputs.request.generation import Generation
from qfund.features.outputs.view import choices, classes, embeddings, text
from qfund.features.outputs.view.captions import page as captions
from qfund.precisions.request import candidates_of
from qfund.ui import folding, progress, services
from qfund.ui.services import Answer
from qfund.ui.states import empty, failed, literal, told

_VIEWS = {Generation: text, Classes: classes, Embeddings: embeddings}

_INVITATIONS = {
    "text": (
        "Nothing written yet",
        "Press **Write**: {model} goes on with the same prompts in {precisions}, and you see where the texts part, "
        "whether at a tie or by damage. Tokens appear as they are made. It runs on if you close this page.",
        ":material/edit_note:",
    ),
    "classes": (
        "Nothing classified yet",
        "Name a sequence or image classifier, a folder or a Hub id, and press **Classify**: it "
        "classifies the same texts, or pictures that qfund draws, in {precisions}, and you see whose probabilities "
        "move and which classes flip.",
        ":material/category:",
    ),
    "embeddings": (
        "Nothing embedded yet",
        "Press **Embed**: {model} turns the same sentences into vectors in {precisions}, and you see how far each "
        "vector turns and whether the nearest sentences stay the nearest.",
        ":material/scatter_plot:",
    ),
}


def draw() -> None:
    """The whole view."""
    asked, new = ADDRESS.opened()
    choices.follow(asked, new)
    asked = choices.view(asked)
    if asked.view == "captions":
        captions.draw(asked.captions, new)
        return
    folding.change()
    asked = choices.draw(asked)
    ADDRESS.show(asked)
    told(ADDRESS.problems())
    _below(asked)


def _below(asked: Asked) -> None:
    """Everything below the choices; a click asks for what is chosen."""
    request = asked.request
    try:
        answer, jobs = services.look_up(request), services.jobs()
        # From here to the job nothing of Streamlit's is called, so that no other run can come between.
        if choices.wanted() and answer.result is None and not (answer.job and answer.job.active):
            jobs.submit(request)
            answer = services.look_up(request)
    except QfundError as error:
        choices.wanted()  # it was for what cannot be
        failed(error)
        return
    if answer.problem:
        st.warning(literal(answer.problem), icon=":material/database_off:")
    if answer.result is not None:
        folding.fold("outputs_choices")
        _result(answer)
    elif answer.job is not None and answer.job.active:
        progress.follow(answer.key)
        st.caption("You can close this page: the link in the address bar leads back to it.")
    else:
        services.prepare_worker()
        if answer.job is not None:
            progress.ended(answer.job)
            if answer.job.state == "failed":
                return
        title, invitation, icon = _INVITATIONS[asked.view]
        together = phrases.together((asked.reference, *asked.candidates))
        empty(title, invitation.format(model=literal(asked.model), precisions=together), icon)


def _result(answer: Answer) -> None:
    found = answer.result
    precisions = phrases.together((found.request.reference, *candidates_of(found.request)))
    st.header(literal(f"{found.request.model}: {precisions}"), anchor=False)
    _VIEWS[type(found)].draw(answer)
    st.caption(literal(words.provenance(found)))
