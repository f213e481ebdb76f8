"""What a visitor of the page Captions chooses: a model, precisions, and pictures: drawn ones or their own."""

import streamlit as st

from qfund import catalog, picture_files
from qfund.captions import MAX_PICTURES, MAX_TOKENS, MODEL, GivenPicture
from qfund.errors import InvalidInput, QfundError
from qfund.picture_files import PictureFile
from qfund.tables import label
from qfund.ui.caption_link import OFFERED, Asked, in_order
from qfund.ui.states import failed, literal

#: Numbers of drawn pictures on offer; a link may name any other.
SAMPLES = (24, 100, 500, 1000, 2000)
DRAWN, OWN = "Drawn by qfund", "Your own"
_KEYS = ("model", "reference", "precisions", "source", "samples", "tokens", "revision")


def follow(asked: Asked, new: bool) -> None:
    """Let the widgets begin at ``asked``: when a link is opened, and when somebody comes back from another page."""
    values = {
        "model": asked.model,
        "reference": asked.reference,
        "precisions": list(asked.precisions),
        "source": OWN if asked.pictures else DRAWN,
        "samples": asked.samples,
        "tokens": asked.tokens,
        "revision": asked.revision or "",
    }
    for name in _KEYS:
        if new or f"captions_{name}" not in st.session_state:
            st.session_state[f"captions_{name}"] = values[name]


def draw() -> tuple[Asked | None, bool]:
    """Draw the widgets. What they ask for (None where a picture cannot be used), and whether the button was pressed."""
    with st.container(border=True, key="caption_choices", gap="small"):
        with st.container(horizontal=True):
            _model()
            st.selectbox(
                "Reference",
                OFFERED,
                format_func=label,
                key="captions_reference",
                width=150,
                persist_state="session",
            )
            st.multiselect(
                "Precisions",
                OFFERED,
                format_func=label,
                key="captions_precisions",
                placeholder="Choose precisions",
                select_all=False,
                wrap=True,
                width=480,
                persist_state="session",
            )
        pictures: list[PictureFile] = []
        problems: list[QfundError] = []
        with st.container(horizontal=True, vertical_alignment="bottom"):
            source = st.segmented_control(
                "Pictures",
                [DRAWN, OWN],
                key="captions_source",
                required=True,
                help="Drawn ones show combinations of shapes that shapes-blip never saw, and their captions are known.",
                persist_state="session",
            )
            if source == DRAWN:
                st.selectbox(
                    "How many",
                    sorted({*SAMPLES, int(st.session_state["captions_samples"])}),
                    format_func=lambda count: f"{count:,} pictures",
                    key="captions_samples",
                    width=150,
                    help="More pictures: smaller errors, longer wait.",
                    persist_state="session",
                )
            _options()
            pressed = st.button("Caption", type="primary", key="caption", icon=":material/closed_caption:", width=130)
        if source == OWN:
            pictures, problems = _own()
        elif st.session_state["captions_model"] != MODEL:
            st.caption(
                ":material/info: Only shapes-blip words its captions as these pictures are drawn. For other captioners "
                "take your own pictures, or few: a large one needs seconds for each picture and precision."
            )
    for problem in problems:
        failed(problem)
    for picture in pictures:
        for note in picture.notes:
            st.caption(f":material/info: {literal(note)}")
    if source == OWN and not pictures:
        if pressed and not problems:
            failed(InvalidInput("No picture is chosen.", "Choose one or more above, or take drawn ones."))
        return None, False
    return _asked(pictures), pressed


def _asked(pictures: list[PictureFile]) -> Asked:
    """What the widgets say, unchecked: a browser may send anything."""
    state = st.session_state
    return Asked(
        model=str(state["captions_model"] or "").strip(),
        revision=str(state["captions_revision"] or "").strip() or None,
        reference=str(state["captions_reference"]),
        precisions=in_order(list(state["captions_precisions"])),
        samples=int(state["captions_samples"]),
        tokens=int(state["captions_tokens"] or 1),
        pictures=tuple(GivenPicture(picture.name, picture.png) for picture in pictures),
    )


def _model() -> None:
    allowed = catalog.allowed()
    kinds = [name for kind, name in (("folder", "a local folder"), ("hub", "a Hub id (owner/name)")) if kind in allowed]
    hint = f" Or type {' or '.join(kinds)} of a captioner (BLIP, or a vision encoder with a decoder)." if kinds else ""
    st.selectbox(
        "Model",
        # The model of a link is always an option, also where the server will then refuse it with a clear message.
        list(dict.fromkeys([MODEL, str(st.session_state["captions_model"] or MODEL)])),
        format_func=lambda name: catalog.CATALOG[name].title if name in catalog.CATALOG else name,
        key="captions_model",
        width=330,
        accept_new_options=bool(kinds),
        help=f"A model that ships with qfund.{hint}",
        persist_state="session",
    )


def _options() -> None:
    with st.popover("Options", icon=":material/tune:"):
        st.number_input(
            "Longest caption, in tokens",
            min_value=1,
            max_value=MAX_TOKENS,
            step=1,
            key="captions_tokens",
            help="A caption ends by itself; this is the most that is waited for.",
            persist_state="session",
        )
        st.text_input(
            "Revision of a Hub id",
            key="captions_revision",
            max_chars=200,
            placeholder="main",
            persist_state="session",
        )


def _own() -> tuple[list[PictureFile], list[QfundError]]:
    """The visitor's pictures, and why others are not among them: one bad file loses none of the good ones."""
    files = st.file_uploader(
        f"Up to {MAX_PICTURES} pictures",
        type=list(picture_files.ENDINGS),
        accept_multiple_files=True,
        key="captions_files",
        max_upload_size=picture_files.MAX_BYTES // 1024**2,
        help="PNG, JPEG, WebP, GIF or BMP. They are scaled down here and kept with the result on this server, "
        "and stand in no link and no list.",
    )
    found: list[PictureFile] = []
    problems: list[QfundError] = []
    for file in files[:MAX_PICTURES]:
        try:
            found.append(_decoded(file.getvalue(), file.name))
        except QfundError as error:
            problems.append(error)
    if len(files) > MAX_PICTURES:
        problems.append(InvalidInput(f"Of {len(files)} pictures the first {MAX_PICTURES} are taken.", ""))
    return found, problems


@st.cache_data(max_entries=64, show_spinner="Reading pictures")
def _decoded(data: bytes, name: str) -> PictureFile:
    return picture_files.decode(data, name)
