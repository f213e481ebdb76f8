"""What a visitor of the page Layers chooses."""

from dataclasses import replace

import streamlit as st

from qfund.checkpoints import catalog
from qfund.drawing.phrases import label
from qfund.features.layers.link import REFERENCES, VIEWS, Asked
from qfund.features.layers.request.swaps import PARTS
from qfund.ui import pickers

#: Amounts of text on offer; a link may name any other.
TOKENS = (512, 1024, 2048, 4096, 16_384)
#: How parts are offered.
_PARTS = {"module": "single modules", "kind": "kinds of modules", "block": "blocks"}
assert set(_PARTS) == set(PARTS)


def follow(asked: Asked, new: bool) -> None:
    """Let the widgets begin at ``asked``."""
    values = {
        "model": asked.model,
        "reference": asked.reference,
        "precisions": list(asked.precisions),
        "tokens": asked.tokens,
        "part": asked.part,
        "view": asked.view,
        "bits": asked.bits,
        "revision": asked.revision or "",
        "also": list(asked.also),
        "gradient": asked.gradient,
    }
    pickers.begin("layers", values, new)


def draw(asked: Asked) -> tuple[Asked, bool]:
    """Draw the widgets: what they ask for, and whether the button was pressed."""
    with st.container(border=True, key="layers_choices", gap="small"):
        with st.container(horizontal=True):
            model = pickers.model("layers_model", catalog.EXAMPLE)
            reference = pickers.reference("layers_reference", REFERENCES)
            precisions = pickers.precisions("Precisions", "layers_precisions")
        with st.container(horizontal=True, vertical_alignment="bottom"):
            view = st.segmented_control(
                "What to see",
                list(VIEWS),
                format_func=lambda name: VIEWS[name],
                key="layers_view",
                required=True,
                persist_state="session",
            )
            part, bits = asked.part, asked.bits
            if view == "swaps":
                part = st.selectbox(
                    "Swap",
                    list(_PARTS),
                    format_func=lambda name: _PARTS[name],
                    key="layers_part",
                    width=170,
                    help="One of these at a time is put in a precision; all else stays in the reference.",
                    persist_state="session",
                )
            if view == "recipe":
                bits = st.number_input(
                    "Bits per weight, at most",
                    min_value=0.5,
                    max_value=64.0,
                    step=0.25,
                    key="layers_bits",
                    width=170,
                    help="Of the modules that are chosen for, scales included. The command line takes bytes too.",
                    persist_state="session",
                )
            tokens = st.selectbox(
                "Text",
                pickers.amounts("layers_tokens", TOKENS),
                format_func=lambda count: f"{count:,} tokens",
                key="layers_tokens",
                width=150,
                help="Of the model's evaluation text, from its start.",
                persist_state="session",
            )
            with st.popover("Options", icon=":material/tune:"):
                revision = pickers.revision("layers_revision")
                also = pickers.also("layers_also")
                gradient = st.checkbox(
                    "Gradients of modules",
                    key="layers_gradient",
                    help="Foretell what each module costs at the outputs, with one backward pass per batch. This takes "
                    "the whole model in memory, in all of these precisions.",
                    persist_state="session",
                )
            pressed = st.button("Measure", type="primary", key="layers_measure", icon=":material/stacks:", width=140)
    return (
        replace(
            asked,
            model=model,
            reference=str(reference),
            precisions=precisions or asked.precisions,
            view=str(view or "swaps"),
            part=str(part),
            bits=float(bits or asked.bits),
            tokens=int(tokens or 2048),
            revision=revision,
            also=also,
            gradient=bool(gradient),
        ),
        pressed,
    )


def look(asked: Asked, offered: tuple[str, ...]) -> str:
    """The precision that the sentences and rows below are about."""
    names = list(offered)
    found = st.segmented_control(
        "Look at",
        names,
        format_func=label,
        default=asked.looked_at if asked.looked_at in names else names[-1],
        key=f"layers_look_{'_'.join(names)}",
        required=True,
    )
    return str(found or names[-1])
