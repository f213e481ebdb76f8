"""The end of a view of the page Outputs: take the numbers along, and make them again elsewhere."""

import shlex
from collections.abc import Callable

import msgspec
import streamlit as st

from qfund.features.outputs import link
from qfund.features.outputs.link import ADDRESS, Asked
from qfund.features.outputs.request.verdicts import MARGIN
from qfund.ui.address import names_a_folder
from qfund.ui.downloads import download
from qfund.ui.services import Answer


def command_line(asked: Asked) -> str:
    """``qfund generate …``, ``classify …`` or ``embed …`` of the view that is open."""
    command = {"text": "generate", "classes": "classify", "embeddings": "embed"}[asked.view]
    words = ["qfund", command, asked.model, "--reference", asked.reference, "--precision", *asked.precisions]
    words += ["--also", *asked.also] if asked.also else []
    words += ["--revision", asked.revision] if asked.revision else []
    if asked.view == "text":
        words += [word for file in asked.files for word in ("--file", file)]
    # With "=", so that a text may begin with a hyphen.
    if asked.view == "text":
        words += ["--max-new-tokens", str(asked.new_tokens)]
        words += ["--temperature", f"{asked.temperature:g}", "--seed", str(asked.seed)] if asked.temperature else []
        words += ["--chat"] if asked.chat else []
        words += ["--kv", *asked.kv] if asked.kv else []
        words += [f"--stop={text}" for text in asked.stop]
        words += [f"--prompt={text}" for text in asked.prompts or ()]
    elif asked.view == "classes":
        words += [f"--text={text}" for text in asked.texts]
        words += ["--margin-flips", f"{100 * asked.flips:g}"] if asked.flips != MARGIN.flips else []
    else:
        words += [f"--query={asked.query}", "--pooling", asked.pooling, *(f"--text={text}" for text in asked.sentences)]
        words += ["--margin-cosine", f"{asked.cosine:g}"] if asked.cosine != MARGIN.cosine else []
        words += ["--margin-order", f"{100 * asked.order:g}"] if asked.order != MARGIN.order else []
        if asked.pairs:  # to be saved under that name
            words += ["--pairs", "pairs.csv"]
            correlation = [] if asked.correlation == MARGIN.correlation else [f"{asked.correlation:g}"]
            words += [word for value in correlation for word in ("--margin-correlation", value)]
    return shlex.join(words)


def draw(answer: Answer, title: str, csv: Callable[[], bytes]) -> None:
    """``title``: what the button of the table says."""
    asked = ADDRESS.current()
    part = st.expander("Take it along", icon=":material/download:", key="outputs_data", on_change="rerun")
    if not part.open:
        return
    name = f"qfund-{asked.view}-{answer.key[:8]}"
    with part:
        with st.container(horizontal=True):
            download(title, csv, f"{name}.csv", "text/csv", "table", "outputs_csv")
            download(
                "Everything (JSON)",
                lambda: msgspec.json.encode(answer.result),
                f"{name}.json",
                "application/json",
                "data_object",
                "outputs_json",
            )
        st.markdown("**The link to this page**")
        if not link.fits(asked):
            st.caption("The texts are too long for a link: send the JSON file instead.")
        else:
            if names_a_folder(asked.model, asked.revision):
                st.caption("It names a folder on this machine and opens only here.")
            st.code(ADDRESS.complete(asked), language=None, wrap_lines=True)
        st.markdown("**The same from the command line**")
        st.code(command_line(asked), language="bash", wrap_lines=True)
