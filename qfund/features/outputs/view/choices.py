"""What a visitor of the page Outputs chooses: the view, the model, and what it is to write, classify or embed."""

from dataclasses import replace

import streamlit as st

from qfund.core.errors import InvalidInput, QfundError
from qfund.core.text import decoded, lines, unmarked
from qfund.drawing.phrases import plural
from qfund.features.outputs.link import ADDRESS, MARGINS, MAX_PAIRS, MAX_TEXT, MODELS, VIEWS, Asked
from qfund.features.outputs.request import embeddings, generation
from qfund.features.outputs.request.embeddings import POOLINGS
from qfund.features.outputs.request.generation import MAX_NEW_TOKENS
from qfund.inputs import pairs
from qfund.inputs.prompts import BETWEEN, separated
from qfund.precisions.caches import known_kv
from qfund.precisions.table import PRECISIONS
from qfund.ui import pickers
from qfund.ui.pickers import FIELD, WITH_STORED, option_label
from qfund.ui.states import failed

OURS, OWN = "Held-out docstrings", "Your own"
#: New tokens on offer; a link may name any other number.
TOKENS = (8, 16, 32, 48, 64, 128, 256)
_WANTED = "outputs_wanted"
_UNREAD = "outputs_pairs_unread"  # why the file of pairs that was given is none
_LINE_END = "\\n"  # as people write it
_START = "def open_url(url, timeout=None):\nOpen the"
_ACTIONS = {
    "text": ("Write", ":material/edit_note:"),
    "classes": ("Classify", ":material/category:"),
    "embeddings": ("Embed", ":material/scatter_plot:"),
}


def follow(asked: Asked, new: bool) -> None:
    """Let the widgets begin at ``asked``: when a link is opened, and when somebody comes back from another page."""
    values = {
        "view": asked.view,
        "model": asked.model,
        "reference": asked.reference,
        "precisions": list(asked.precisions),
        "revision": asked.revision or "",
        "also": list(asked.also),
        "source": OURS if asked.prompts is None else OWN,
        "prompts": f"\n{BETWEEN}\n".join(asked.prompts or (_START,)),
        "tokens": asked.new_tokens,
        "chat": asked.chat,
        "kv": list(asked.kv),
        "temperature": asked.temperature,
        "seed": asked.seed,
        "stop": "\n".join(text.replace("\n", _LINE_END) for text in asked.stop),
        "texts": "\n".join(asked.texts),
        "query": asked.query,
        "sentences": "\n".join(asked.sentences),
        "pooling": asked.pooling,
        "pairs": asked.pairs,
        "files": "\n".join(asked.files),
        **{f"margin_{name}": round(times * getattr(asked, field), 6) for name, (field, times, _) in MARGINS.items()},
    }
    pickers.begin("outputs", values, new)


def _want() -> None:
    st.session_state[_WANTED] = True


def wanted() -> bool:
    """Whether the visitor has asked for what is chosen, once. A click stays until it is seen: the run that it starts
    may be overtaken by another one, of a text that is just being committed, before it gets that far."""
    return bool(st.session_state.pop(_WANTED, False))


def view(asked: Asked) -> Asked:
    """What comes out of a model that is looked at."""
    chosen = st.segmented_control(
        "View",
        list(VIEWS),
        format_func=VIEWS.__getitem__,
        key="outputs_view",
        required=True,
        label_visibility="collapsed",
        on_change=_turn,
        persist_state="session",
    )
    return replace(asked, view=chosen if chosen in VIEWS else "text")


def draw(asked: Asked) -> Asked:
    """The widgets, and what they say."""
    with st.container(border=True, key="outputs_choices", gap="small"):
        asked = _model(asked)
        with st.container(horizontal=True, vertical_alignment="top"):
            if asked.view == "text":
                asked = _text(asked)
            elif asked.view == "embeddings":
                asked = _embeddings(asked)
            height = 40 if asked.view == "classes" else FIELD
            with st.container(
                horizontal=True, vertical_alignment="bottom", width="content", height=height, border=False
            ):
                with st.popover("Options", icon=":material/tune:"):
                    asked = _common(_files(_drawing(asked)) if asked.view == "text" else asked)
                label, icon = _ACTIONS[asked.view]
                st.button(label, type="primary", key="outputs_go", icon=icon, width=150, on_click=_want)
        return _texts(asked)


def _turn() -> None:
    """Another view opens on its own model, unless somebody has named one."""
    state, before = st.session_state, ADDRESS.current().view
    if state["outputs_model"] == MODELS[before] and state["outputs_view"] in VIEWS:
        state["outputs_model"] = MODELS[state["outputs_view"]]


def _model(asked: Asked) -> Asked:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        name = pickers.model("outputs_model", asked.model)
        reference = pickers.reference("outputs_reference", WITH_STORED, option_label)
        precisions = pickers.precisions("Candidates", "outputs_precisions", WITH_STORED, option_label)
    return replace(
        asked,
        model=name,
        reference=reference if reference in PRECISIONS else asked.reference,
        precisions=precisions or asked.precisions,
    )


def _text(asked: Asked) -> Asked:
    source = st.segmented_control(
        "Prompts",
        [OURS, OWN],
        key="outputs_source",
        required=True,
        help="Beginnings of docstrings that pydoc-llama was not trained on, or what you write.",
        persist_state="session",
    )
    chat = st.checkbox(
        "As chat",
        key="outputs_chat",
        help="Prompts are a user's messages, written by the checkpoint's own chat template (an instruct model's); only "
        "answers are compared.",
        persist_state="session",
    )
    tokens = pickers.tokens(
        "New tokens",
        "outputs_tokens",
        TOKENS,
        140,
        f"New tokens after each prompt, to {MAX_NEW_TOKENS:,}.",
    )
    return replace(asked, new_tokens=tokens, prompts=None if source != OWN else (), chat=bool(chat))


def _drawing(asked: Asked) -> Asked:
    """How tokens are drawn, and where a text stops."""
    temperature = st.number_input(
        "Temperature",
        min_value=0.0,
        max_value=10.0,
        step=0.1,
        key="outputs_temperature",
        help="0 takes the likeliest token. Above it tokens are drawn, with the same random numbers in every "
        "precision, so that only the model makes a difference.",
        persist_state="session",
    )
    seed = st.number_input(
        "Seed",
        min_value=0,
        max_value=2**32 - 1,
        step=1,
        key="outputs_seed",
        disabled=not temperature,
        persist_state="session",
    )
    stop = st.text_area(
        "Stop at, one a line",
        key="outputs_stop",
        max_chars=400,
        height=80,
        help=f"A text ends with the token that completes one of these; `{_LINE_END}` stands for a line end.",
        persist_state="session",
    )
    caches, _ = known_kv(
        pickers.caches("outputs_kv", "The reference and every candidate write once more with each of these caches.")
    )
    each = (line.replace(_LINE_END, "\n") for line in lines(str(stop or "")) if line)
    stops = tuple(each)[: generation.MAX_STOPS]
    return replace(asked, temperature=float(temperature), seed=int(seed or 0), stop=stops, kv=caches)


def _files(asked: Asked) -> Asked:
    pickers.quantized_files("outputs_files", "Each writes beside the precisions, with its own weights, decoded.")
    return replace(asked, files=pickers.named_files("outputs_files"))


def _embeddings(asked: Asked) -> Asked:
    query = st.text_input(
        "Query",
        key="outputs_query",
        max_chars=MAX_TEXT,
        width=420,
        help="The sentences are ranked by the cosine of their embedding with this one's.",
        persist_state="session",
    )
    pooling = st.selectbox(
        "Pooling",
        list(POOLINGS),
        key="outputs_pooling",
        width=130,
        help="; ".join(f"**{name}**: {meaning}" for name, meaning in POOLINGS.items()),
        persist_state="session",
    )
    return replace(asked, query=unmarked(str(query or "")), pooling=pooling if pooling in POOLINGS else embeddings.OWN)


def _common(asked: Asked) -> Asked:
    return replace(asked, revision=pickers.revision("outputs_revision"), also=pickers.also("outputs_also"))


def _texts(asked: Asked) -> Asked:
    """What is to be read, where it is the visitor's own."""
    if asked.view == "text":
        if asked.prompts is None:
            return asked
        text = _area("prompts", f"Your prompt; several are separated by a line of {BETWEEN}", 110)
        return replace(asked, prompts=separated(text))
    if asked.view == "classes":
        return replace(asked, texts=_lines(_area("texts", "Texts, one a line; a model for pictures gets its own", 150)))
    sentences = _lines(_area("sentences", "Sentences, one a line", 210))
    return replace(asked, sentences=sentences, pairs=_pairs())


def _pairs() -> tuple[pairs.Pair, ...]:
    """What was uploaded is kept apart from the widget, which a link cannot fill."""
    st.file_uploader(
        "Scored pairs (CSV, TSV or JSON lines)",
        type=["csv", "tsv", "jsonl", "json", "txt"],
        max_upload_size=4,
        key="outputs_pairs_file",
        on_change=_take_pairs,
        help="Two texts and how alike people find them, a line each, as sets of semantic textual similarity have them: "
        "every precision's cosines are to order them as the scores do (Spearman's ρ).",
    )
    if problem := st.session_state.get(_UNREAD):
        failed(problem)
    found: tuple[pairs.Pair, ...] = st.session_state["outputs_pairs"]
    if found:
        st.caption(f"{plural(len(found), 'scored pair')}, embedded as sentences are.")
    return found


def _take_pairs() -> None:
    state, file = st.session_state, st.session_state["outputs_pairs_file"]
    state["outputs_pairs"], state[_UNREAD] = (), None
    try:
        found = pairs.of_file(decoded(file.getvalue())) if file else ()
        pairs.check(found, MAX_TEXT)
        if len(found) > MAX_PAIRS:
            raise InvalidInput(
                f"The file holds {len(found):,} pairs.",
                f"Give at most {MAX_PAIRS:,} here; the command line takes more (qfund embed --pairs).",
            )
        state["outputs_pairs"] = found
    except UnicodeDecodeError:
        state[_UNREAD] = InvalidInput("The file cannot be read: it is no UTF-8 text.", "Save it as UTF-8.")
    except QfundError as error:
        state[_UNREAD] = error


def _area(name: str, label: str, height: int) -> str:
    return str(
        st.text_area(label, key=f"outputs_{name}", max_chars=16 * MAX_TEXT, height=height, persist_state="session")
        or ""
    )


def _lines(text: str) -> tuple[str, ...]:
    return tuple(line.strip() for line in lines(text) if line.strip())
