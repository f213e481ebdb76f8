"""What a visitor chooses: widgets that hold a draft of a comparison, apart from the one that is shown."""

from dataclasses import replace

import streamlit as st

from qfund.checkpoints import catalog
from qfund.core.errors import InvalidInput, InvalidSpec, QfundError
from qfund.core.text import decoded, unmarked
from qfund.features.compare.link import MAX_TEXT, usual_reference
from qfund.features.compare.request import usual
from qfund.features.compare.request.examples import EXAMPLE
from qfund.features.compare.request.spec import DEFAULT_CANDIDATES, MAX_TOKENS, PARTS, Spec, checked, like_llama_cpp
from qfund.features.compare.view import amount, files
from qfund.inputs.texts import ALL, ANSWERS, SCORINGS, SECOND_HALF, WRITTEN, NamedText
from qfund.precisions.precision import FLOAT, GGUF, MEANING, Precision
from qfund.precisions.table import PRECISIONS, require
from qfund.ui import pickers
from qfund.ui.pickers import FIELD, WITH_STORED, option_label
from qfund.ui.states import failed, literal

OWN_TEXT = "Your own text"
OWN_FILES = "Your files"
EVALUATION = "Evaluation text"

_KEYS = (
    *("model", "reference", "precisions", "source", "text", "texts", "tokens"),
    *("context", "scoring", "stride", "revision", "also", "libraries", "quantized", "kv", "imatrix", "without"),
)
#: Characters of all files together that this page takes; the command line takes more.
MAX_FILES = 400_000
#: Tokens of a chunk, and between two.
_LONGEST = 131_072
_SCORED = {
    ALL: "Every position",
    SECOND_HALF: "The second half of each chunk",
    ANSWERS: "Answers in conversations",
    WRITTEN: "Answers that the reference writes",
}


def _of(bits: int) -> tuple[str, ...]:
    rows = (row for row in PRECISIONS.values() if row.family not in (MEANING, GGUF) and row.variant_of is None)
    return tuple(row.name for row in rows if row.bits == bits)


def _meanings(cast: str) -> tuple[str, ...]:
    return (cast, *(row.name for row in PRECISIONS.values() if row.family == MEANING and row.name.startswith(cast)))


#: Sets of candidates that belong together.
PRESETS = {
    "BF16, FP16 and INT8": DEFAULT_CANDIDATES,
    "16-bit casts": _of(16),
    "Meanings of BF16": _meanings("bf16"),
    "Meanings of FP16": _meanings("fp16"),
    "Everything with 8 bits": _of(8),
    "Everything with 4 bits": _of(4),
    "From 8 bits down to 2": ("int8_g32", "int6", "int5", "int4", "int3", "int2"),
    "Small floats": tuple(row.name for row in PRECISIONS.values() if row.family == FLOAT and row.variant_of is None),
    "GGUF files": ("q8_0", "q6_k", "q5_k_m", "q4_k_m", "iq4_xs_mix", "q4_0_mix", "q3_k_m", "q2_k_mix"),
    "GGUF, the file and as it is run": ("q8_0", "q8_0_inputs", "q4_k_m", "q4_k_m_inputs"),
    "Rest in BF16": ("bf16", "int8_bf16", "fp8_e4m3_bf16", "int4_bf16", "nf4_bf16"),
}

_BEGAN_AT = "choices_began_at"
_USUAL_OF = "choice_usual_of"  # the model whose usual precisions were last looked up
_UNREAD = "files_unread"  # why files that were given are not the input


def seed(spec: Spec) -> None:
    """Set every widget to ``spec``."""
    values = {
        "model": spec.model,
        "reference": spec.reference,
        "precisions": list(spec.precisions),
        "source": OWN_FILES if spec.texts else EVALUATION if spec.text is None else OWN_TEXT,
        "text": (spec.text or "")[:MAX_TEXT],
        "texts": spec.texts,
        "context": spec.context,
        "scoring": spec.scoring,
        "stride": spec.stride,
        "revision": spec.revision or "",
        "also": list(spec.also),
        "libraries": spec.libraries,
        "quantized": "\n".join(spec.files),
        "kv": list(spec.kv),
        "imatrix": spec.imatrix or "",
        "without": list(spec.without),
    }
    for name, value in values.items():
        st.session_state[f"choice_{name}"] = value
    amount.seed(spec)


def follow(shown: Spec) -> None:
    """Let the widgets begin at the comparison that is shown: in a new session, and whenever another one is shown."""
    state = st.session_state
    if state.get(_BEGAN_AT) != shown or not all(f"choice_{name}" in state for name in _KEYS):
        seed(shown)
        state[_BEGAN_AT] = shown


def draw() -> bool:
    """Draw the widgets; True when the visitor asks to compare.

    What opens a list that stays open stands last: it then covers no button, and as it grows none moves away.
    """
    with st.container(border=True, key="choices", gap="small"):
        with st.container(horizontal=True, vertical_alignment="bottom", key="choice_row"):
            pickers.model(
                "choice_model",
                EXAMPLE.model,
                width=260,
                more=" Only safetensors are read, and no code that comes with a model.",
            )
            _follow_model()
            pickers.reference(
                "choice_reference",
                (*WITH_STORED, *files.names("choice_quantized")),
                files.said,
                explained="The precision that the others are compared with.",
                title="Against",
            )
            clicked = _input()
        with st.container(horizontal=True, vertical_alignment="top", key="candidates"):
            pickers.precisions(
                "Compare these",
                "choice_precisions",
                WITH_STORED,
                option_label,
                width="stretch",
                explained="The precisions to judge. What each of them is: see the page Precisions.",
            )
            with st.container(vertical_alignment="bottom", width="content", height=FIELD, border=False):
                st.menu_button(
                    "Presets", list(PRESETS), key="preset", icon=":material/playlist_add_check:", on_click=_take_preset
                )
        _own()
        if not clicked and (missing := _unavailable()):
            failed(missing)
    return clicked


def _follow_model() -> None:
    """Another model is compared with what that one is stored in, unless somebody has chosen other precisions than the
    usual ones of the model before."""
    state = st.session_state
    chosen, revision = draft().model, draft().revision
    before = state.get(_USUAL_OF)
    state[_USUAL_OF] = chosen
    if before in (None, chosen) or not chosen:
        return
    own = state["choice_reference"]
    if own == _stored(before, None) and tuple(state["choice_precisions"]) == usual.candidates(own):
        state["choice_reference"] = _stored(chosen, revision)
        state["choice_precisions"] = list(usual.candidates(state["choice_reference"]))


@st.cache_data(ttl=120, max_entries=32, show_spinner="Reading headers")
def _stored(model: str, revision: str | None) -> str:
    return usual_reference(model, revision)


def _input() -> bool:
    """The text, how much of it, options, and the button; whether that was pressed."""
    st.selectbox(
        "Text",
        [EVALUATION, OWN_TEXT, OWN_FILES],
        key="choice_source",
        width=150,
        help="Measure on the text that the model was evaluated on, or on one that matters to you.",
        persist_state="session",
    )
    amount.draw(_without_amount())
    _options()
    return st.button("Compare", type="primary", key="compare", icon=":material/balance:", width=130)


def _own() -> None:
    """An own text, or own files, where they are the input."""
    source = st.session_state["choice_source"]
    if source == OWN_TEXT:
        st.text_area(
            "Your own text",
            key="choice_text",
            max_chars=MAX_TEXT,
            height=140,
            placeholder="Paste what your model will read: a paragraph at least, in its own language.",
            label_visibility="collapsed",
            persist_state="session",
        )
    if source == OWN_FILES:
        _files()


def _files() -> None:
    """Several texts. What was uploaded is kept apart from the widget, which a link cannot fill."""
    st.file_uploader(
        "Your files",
        type=["txt", "md", "rst", "py", "json", "csv", "html", "tex"],
        accept_multiple_files=True,
        max_upload_size=4,
        key="choice_files",
        on_change=_take_files,
        label_visibility="collapsed",
    )
    texts = st.session_state["choice_texts"]
    if texts:
        names = ", ".join(named.name for named in texts[:8]) + ", …" * (len(texts) > 8)
        # What has just been given stands in the widget.
        told = "." if st.session_state["choice_files"] else f": {names}"
        st.caption(literal(f"{len(texts):,} of your texts, each read on its own{told}"))
    else:
        st.caption("UTF-8 texts. Each is read on its own, so that none counts for its length alone.")
    if problem := st.session_state.get(_UNREAD):
        failed(problem)


def _take_files() -> None:
    state = st.session_state
    state[_UNREAD] = None
    try:
        state["choice_texts"] = tuple(
            NamedText(file.name, decoded(file.getvalue())) for file in state["choice_files"] or ()
        )
    except UnicodeDecodeError:
        state["choice_texts"] = ()
        state[_UNREAD] = InvalidInput("A file cannot be read: it is no UTF-8 text.", "Save it as UTF-8.")


def _take_preset() -> None:
    st.session_state["choice_precisions"] = list(PRESETS[st.session_state["preset"]])


def _unavailable() -> QfundError | None:
    """Why a precision that is chosen cannot run here."""
    try:
        for row in _rows(draft()):
            require(row, catalog.device())
    except QfundError as error:
        return error
    return None


def _rows(spec: Spec) -> list[Precision]:
    return [PRECISIONS[name] for name in (spec.reference, *spec.precisions) if name in PRECISIONS]


def _options() -> None:
    with st.popover("Options", icon=":material/tune:"):
        pickers.count(
            "Tokens in a chunk",
            "choice_context",
            None,
            least=2,
            most=_LONGEST,
            placeholder="the model's own, at most 512",
            explained="A text is read in chunks of this many tokens; nothing is carried from one to the next.",
        )
        pickers.count(
            "Stride in tokens",
            "choice_stride",
            None,
            most=_LONGEST,
            placeholder="none: chunks do not overlap",
            explained="A new chunk begins every so many tokens. Chunks then overlap, and what they share is context, "
            "scored once: tokens are predicted from more context, and the comparison takes longer.",
        )
        st.selectbox(
            "Score",
            list(SCORINGS),
            format_func=lambda name: _SCORED[name],
            key="choice_scoring",
            help="The second half of whole chunks is what llama.cpp's llama-perplexity scores: choose it to compare "
            "numbers with it. Conversations are an own text of JSON, a list of lists of messages with a role and "
            "content; an instruct model's own chat template writes them, and answers alone are scored: those given, or "
            "those that the reference writes first.",
            persist_state="session",
        )
        st.button(
            "All of the text, as llama.cpp does",
            icon=":material/compare_arrows:",
            key="like_llama_cpp",
            type="tertiary",
            on_click=_like_llama_cpp,
            help="Sets what is scored, no overlap, and the whole text.",
        )
        pickers.caches(
            "choice_kv",
            "The reference and every candidate once more with each of these caches: keys and values rounded where they "
            "are written.",
        )
        files.field("choice_quantized")
        files.importance("choice_imatrix")
        pickers.revision("choice_revision", "A branch, tag or commit. The report keeps the commit that was read.")
        pickers.also(
            "choice_also",
            lambda name: name.capitalize() if name == "embeddings" else "Output head",
            "Most quantisers leave both in the base's dtype: errors in the output head go straight to the logits, and "
            "embeddings are looked up, not multiplied. Where they share one weight, one takes the other along.",
        )
        st.pills(
            "Leave out",
            list(PARTS),
            selection_mode="multi",
            format_func=str.capitalize,
            key="choice_without",
            help=f"To save time: {'; '.join(f'{name}: {what}' for name, what in PARTS.items())}. Metrics and "
            "verdicts stay as they are, but without noise nothing is called no measurable difference.",
            persist_state="session",
        )
        st.toggle(
            "Run the libraries too and time everything",
            key="choice_libraries",
            help="torchao and bitsandbytes, where they are installed and have the precision, really store and run it: "
            "their bytes, their time beside the reference's, and how far their outputs are from qfund's own. Takes "
            "several times as long. Smaller is often not faster on a CPU: only what is measured is shown.",
            persist_state="session",
        )


def _like_llama_cpp() -> None:
    asked = like_llama_cpp(draft())
    for name, value in (("scoring", asked.scoring), ("stride", asked.stride), ("tokens", asked.max_tokens)):
        st.session_state[f"choice_{name}"] = value


def draft() -> Spec:
    """What the widgets say now, unchecked: a browser may send anything."""
    return amount.chosen(_without_amount())


def _without_amount() -> Spec:
    state = st.session_state
    source = state["choice_source"]
    return Spec(
        model=str(state["choice_model"] or ""),
        reference=str(state["choice_reference"]),
        precisions=tuple(state["choice_precisions"]),
        text=unmarked(str(state["choice_text"])) if source == OWN_TEXT else None,
        context=pickers.counted("choice_context", 2, _LONGEST),
        revision=str(state["choice_revision"] or "").strip() or None,
        also=tuple(state["choice_also"] or ()),
        libraries=bool(state["choice_libraries"]),
        stride=pickers.counted("choice_stride", 1, _LONGEST),
        scoring=str(state["choice_scoring"]),
        texts=tuple(state["choice_texts"]) if source == OWN_FILES else (),
        files=pickers.named_files("choice_quantized"),
        kv=tuple(map(str, state["choice_kv"] or ())),
        imatrix=str(state["choice_imatrix"] or "").strip() or None,
        without=tuple(map(str, state["choice_without"] or ())),
    )


def asked() -> Spec:
    """The draft as a comparison that can be measured.

    Raises:
        QfundError: a choice that cannot be measured, with what to choose instead.
    """
    for name, least in (("context", 2), ("stride", 1)):
        if problem := pickers.wrong(st.session_state[f"choice_{name}"], least, _LONGEST):
            raise InvalidSpec(problem, "Mend it under Options, or leave it empty.")
    spec = draft()
    if spec.text is not None:
        if not spec.text.strip():
            raise InvalidInput("The text is empty.", "Paste a text, or choose the evaluation text.")
        if len(spec.text) > MAX_TEXT:
            raise InvalidInput(
                f"The text has {len(spec.text):,} characters.",
                f"Give at most {MAX_TEXT:,} here; the command line takes longer ones (--text-file).",
            )
    if st.session_state["choice_source"] == OWN_FILES:
        if not spec.texts:
            raise InvalidInput("No file is given.", "Choose text files, or the evaluation text.")
        if (size := sum(len(named.text) for named in spec.texts)) > MAX_FILES:
            raise InvalidInput(
                f"The files have {size:,} characters together.",
                f"Give at most {MAX_FILES:,} here; the command line takes more (--text-folder).",
            )
    if spec.max_tokens > MAX_TOKENS:
        spec = replace(spec, max_tokens=MAX_TOKENS)
    spec = checked(amount.asked(spec))
    for row in _rows(spec):
        require(row, catalog.device())
    return spec


def differs(shown: Spec) -> bool:
    """Whether the draft asks for something else than what is shown."""
    try:
        return checked(amount.asked(draft())) != shown
    except QfundError:
        return True
