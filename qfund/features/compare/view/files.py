"""Quantised files on the page: the field that names them, and the section *Files* of a report."""

import streamlit as st

from qfund.core.errors import QfundError
from qfund.drawing.phrases import label
from qfund.features.compare.request.report import Report
from qfund.features.compare.tables import files as tables
from qfund.precisions.files import file_names, is_file, label_of
from qfund.ui.pickers import option_label
from qfund.ui.services import Answer
from qfund.ui.states import literal


def field(key: str) -> None:
    """Names of files, one a line."""
    st.text_area(
        "Add quantised files",
        key=key,
        height=100,
        max_chars=8000,
        placeholder="./my-model-Q4_K_M.gguf\n./recipe.json\nowner/name@main:file.gguf",
        help="One a line: a path on this machine, or a file of the Hub. Each is a candidate: its own weights, decoded "
        "block by block, beside the original that is the model above. Or a recipe.json of the page Layers: a precision "
        "for each module.",
        persist_state="session",
    )


def lines(text: str) -> tuple[str, ...]:
    """The files that the field names, each once."""
    return tuple(dict.fromkeys(line.strip() for line in text.splitlines() if line.strip()))


def names(text: str) -> tuple[str, ...]:
    """What they are called among the references on offer; nothing while the field makes no sense."""
    try:
        return tuple(file_names(lines(text)))
    except QfundError:
        return ()


def said(name: str) -> str:
    """An option's label, of a precision or a file."""
    return f"{label_of(name)} (file)" if is_file(name) else option_label(name)


def has(report: Report) -> bool:
    return bool(tables.with_files(report))


def draw(found: Answer) -> None:
    report: Report = found.result
    st.dataframe(tables.files(report), hide_index=True, key="files_table", alt="What every quantised file is")
    st.caption(
        "Bits per weight in three conventions: all bytes of the file over all parameters, the tensors' bytes over all "
        "parameters, and of the tensors that hold codes alone, their scales included."
    )
    for result in tables.with_files(report):
        assert result.file is not None
        for note in result.file.notes:
            st.caption(f":material/info: {literal(f'{label(result.precision)}: {note}')}")
        with st.expander(f"Modules of {literal(label(result.precision))} by type", icon=":material/account_tree:"):
            st.dataframe(tables.modules(result), hide_index=True, alt="Modules of a quantised file, by type")
