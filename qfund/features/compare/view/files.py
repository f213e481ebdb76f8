"""Quantised files on the page: the field that names them, and the section *Files* of a report."""

import streamlit as st

from qfund.checkpoints.wild.table import FORMATS
from qfund.core.errors import QfundError
from qfund.drawing import axes
from qfund.drawing.phrases import label
from qfund.features.audit import figures as audit_figures
from qfund.features.audit import tables as audit_tables
from qfund.features.audit import words as audit_words
from qfund.features.audit.request import Audit, AuditRequest
from qfund.features.compare.request.report import PrecisionResult, Report
from qfund.features.compare.tables import files as tables
from qfund.precisions.files import file_names, is_file, label_of
from qfund.ui import columns, pickers, progress, services
from qfund.ui.pickers import option_label
from qfund.ui.services import Answer
from qfund.ui.states import failed, literal


def field(key: str) -> None:
    """Names of files, one a line."""
    pickers.quantized_files(
        key,
        "Each is a candidate: its own weights, decoded block by block, beside the original that is the model above. Or "
        "a recipe.json of the page Layers: a precision for each module.",
    )


def importance(key: str) -> None:
    """The name of an importance matrix."""
    st.text_input(
        "Importance matrix",
        key=key,
        max_chars=1024,
        placeholder="./imatrix.gguf",
        help="Of this model, as llama-imatrix writes it (GGUF or .dat): a path on this machine, or a file of the Hub. "
        "Candidates that are types of GGUF files are then made as llama-quantize makes them with it, byte for byte.",
        persist_state="session",
    )


def names(key: str) -> tuple[str, ...]:
    """What they are called among the references on offer; nothing while the field makes no sense."""
    try:
        return tuple(file_names(pickers.named_files(key)))
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
        if result.file.format in FORMATS:
            _audit(report, result)


def _audit(report: Report, result: PrecisionResult) -> None:
    """What is really in the file, tensor by tensor beside the original; read when somebody asks for it."""
    assert result.file is not None
    name, key = literal(label(result.precision)), f"audit_{result.precision}"
    request = AuditRequest(result.file.file, report.spec.model, report.spec.revision)
    try:
        found = services.look_up(request)
        idle = found.result is None and not (found.job and found.job.active)
        if idle and st.button(f"Audit {name}", key=key, icon=":material/troubleshoot:", help=_AUDIT):
            found = Answer(request, found.key, job=services.jobs().submit(request))
    except QfundError as error:
        failed(error, f"{name} cannot be audited.")
        return
    if found.result is not None:
        with st.expander(f"Audit of {name}: tensor by tensor", icon=":material/troubleshoot:", expanded=True):
            _audited(found.result, key)
    elif found.job is not None:
        progress.follow(found.key) if found.job.active else progress.ended(found.job)


_AUDIT = (
    "Decodes every tensor and holds it against the original's: what was kept higher, what was changed that should have "
    "been left alone, and how much each lost."
)


def _audited(found: Audit, key: str) -> None:
    st.markdown(literal(audit_words.headline(found)))
    for sentence in audit_words.findings(found):
        st.markdown(f"- {literal(sentence)}")
    frame = audit_tables.frame(found)
    matrices = frame[frame["shape"].str.contains("×")]
    st.plotly_chart(
        audit_figures.types(matrices),
        config=axes.CONFIG,
        key=f"{key}_types",
        alt="Types of the file's matrices by layer",
    )
    if frame["sqnr"].notna().any():
        st.markdown("**Signal over quantisation noise beside the original's tensors**")
        st.plotly_chart(
            audit_figures.sqnr(matrices), config=axes.CONFIG, key=f"{key}_sqnr", alt="SQNR of every matrix by layer"
        )
    st.dataframe(
        columns.told(frame[["tensor", "type", "shape", "bits", "bytes", "sqnr"]], "bits", "sqnr"),
        hide_index=True,
        height=columns.HEIGHT if len(frame) > columns.ROWS else "content",
        column_config={
            "tensor": st.column_config.TextColumn("Tensor", pinned=True),
            "type": "Type",
            "shape": "Shape",
            "bits": st.column_config.NumberColumn("Bits/weight", help="Scales included."),
            "bytes": st.column_config.NumberColumn("Bytes", format="localized"),
            "sqnr": st.column_config.NumberColumn("SQNR (dB)", help="∞: every number is the original's."),
        },
        key=f"{key}_tensors",
        alt="Every tensor of the file: type, shape, bits, bytes and SQNR",
    )
    st.caption(literal(audit_words.reference(found)))
