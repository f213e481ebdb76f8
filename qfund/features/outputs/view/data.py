"""The end of a view of the page Outputs: take the numbers along, and make them again elsewhere."""

import shlex
from collections.abc import Callable, Mapping

import streamlit as st

from qfund.features.outputs import link
from qfund.features.outputs.link import ADDRESS, Asked
from qfund.ui.address import names_a_folder
from qfund.ui.downloads import download


def command_line(asked: Asked) -> str:
    """``qfund generate …``, ``classify …`` or ``embed …`` of the view that is open."""
    command = {"text": "generate", "classes": "classify", "embeddings": "embed"}[asked.view]
    said = ["qfund", command, asked.model, "--reference", asked.reference, "--precision", *asked.precisions]
    said += ["--also", *asked.also] if asked.also else []
    said += ["--revision", asked.revision] if asked.revision else []
    # With "=", so that a text may begin with a hyphen.
    if asked.view == "text":
        said += ["--max-new-tokens", str(asked.new_tokens)]
        said += ["--temperature", f"{asked.temperature:g}", "--seed", str(asked.seed)] if asked.temperature else []
        said += [f"--stop={text}" for text in asked.stop]
        said += [f"--prompt={text}" for text in asked.prompts or ()]
    elif asked.view == "classes":
        said += [f"--text={text}" for text in asked.texts]
    else:
        said += [f"--query={asked.query}", "--pooling", asked.pooling, *(f"--text={text}" for text in asked.sentences)]
    return shlex.join(said)


def draw(
    key: str, asked: Asked, tables: Mapping[str, tuple[str, Callable[[], bytes]]], document: Callable[[], bytes]
) -> None:
    """``tables``: what a button says → name of the file's kind, and what makes it."""
    part = st.expander("Take it along", icon=":material/download:", key="outputs_data", on_change="rerun")
    if not part.open:
        return
    name = f"qfund-{asked.view}-{key[:8]}"
    with part:
        with st.container(horizontal=True):
            for title, (kind, make) in tables.items():
                download(title, make, f"{name}.{kind}", "text/csv", "table", f"outputs_{kind}")
            download("Everything (JSON)", document, f"{name}.json", "application/json", "data_object", "outputs_json")
        st.markdown("**The link to this page**")
        if not link.fits(asked):
            st.caption("The texts are too long for a link: send the JSON file instead.")
        else:
            if names_a_folder(asked.model, asked.revision):
                st.caption("It names a folder on this machine and opens only here.")
            st.code(ADDRESS.complete(asked), language=None, wrap_lines=True)
        st.markdown("**The same from the command line**")
        st.code(command_line(asked), language="bash", wrap_lines=True)
