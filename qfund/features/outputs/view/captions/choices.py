"""What a visitor of the view *Captions* chooses: a model, precisions, and pictures: drawn ones or their own."""

import streamlit as st

from qfund.core.errors import InvalidInput, QfundError
from qfund.features.captions.link import Asked, in_order
from qfund.features.captions.request import MAX_PICTURES, MAX_TOKENS, MODEL, GivenPicture
from qfund.inputs import apart, picture_files
from qfund.inputs.picture_files import PictureFile
from qfund.ui import pickers
from qfund.ui.states import failed, literal

#: Numbers of drawn pictures on offer; a link may name any other.
SAMPLES = (24, 100, 500, 1000, 2000)
DRAWN, OWN = "Drawn by qfund", "Your own"


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
    pickers.begin("captions", values, new)


def draw() -> tuple[Asked | None, bool]:
    """Draw the widgets. What they ask for (None where a picture cannot be used), and whether the button was pressed."""
    with st.container(border=True, key="caption_choices", gap="small"):
        with st.container(horizontal=True):
            pickers.model(
                "captions_model",
                MODEL,
                width=330,
                shipped=(MODEL,),
                typed=" of a captioner (BLIP, or a vision encoder with a decoder)",
            )
            pickers.reference("captions_reference")
            pickers.precisions("Precisions", "captions_precisions", width=480)
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
                    pickers.amounts("captions_samples", SAMPLES),
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
        samples=pickers.amount("captions_samples", SAMPLES),
        tokens=pickers.counted("captions_tokens", 1, MAX_TOKENS) or 1,
        pictures=tuple(GivenPicture(picture.name, picture.png) for picture in pictures),
    )


def _options() -> None:
    with st.popover("Options", icon=":material/tune:"):
        pickers.count(
            "Longest caption, in tokens",
            "captions_tokens",
            None,
            most=MAX_TOKENS,
            explained="A caption ends by itself; this is the most that is waited for.",
        )
        pickers.revision("captions_revision")


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
    return apart.decode(data, name)
