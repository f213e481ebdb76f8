"""What a visitor of the page Layers chooses."""

from dataclasses import replace
from typing import Any

import streamlit as st

from qfund.checkpoints import catalog
from qfund.core.errors import InvalidSpec
from qfund.drawing.phrases import label
from qfund.features.layers.link import LIMITS, RANGES, REFERENCES, VIEWS, Asked
from qfund.features.layers.request.recipe import ALIKE, SCORES
from qfund.features.layers.request.swaps import PARTS
from qfund.features.memory.request import budgets
from qfund.ui import pickers
from qfund.ui.states import literal

#: Amounts of text on offer; a link may name any other.
TOKENS = (512, 1024, 2048, 4096, 16_384)
#: Tokens of a sequence on a GPU.
CONTEXTS = (2048, 8192, 32_768, 131_072)
#: How parts are offered.
_PARTS = {"module": "single modules", "kind": "kinds of modules", "block": "blocks"}
_BY = {
    "swaps": "single swaps",
    "gradient": "gradients: one pass, the model in memory",
    "injected": "modules' own errors: one pass, a poor guide",
}
_ALIKE = {"qkv": "queries, keys, values", "gate-up": "gate and up", "block": "all of a block", "kind": "each kind"}
assert (set(_PARTS), set(_BY), set(_ALIKE)) == (set(PARTS), set(SCORES), set(ALIKE))


def follow(asked: Asked, new: bool) -> None:
    """Let the widgets begin at ``asked``."""
    values = {
        "model": asked.model,
        "reference": asked.reference,
        "precisions": list(asked.precisions),
        "tokens": asked.tokens,
        "part": asked.part,
        "view": asked.view,
        "limit": asked.limit,
        "bits": asked.bits,
        "size": _amount(asked.size),
        "gpu": asked.gpu,
        "context": asked.context,
        "kl": asked.kl,
        "changed": round(100 * asked.changed, 8),
        "revision": asked.revision or "",
        "also": list(asked.also),
        "gradient": asked.gradient,
        "by": asked.by,
        "alike": list(asked.alike),
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
            part = asked.part
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
                asked = _limit(asked)
            tokens = pickers.tokens(
                "Text", "layers_tokens", TOKENS, 150, "Of the model's evaluation text, from its start."
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
                if view == "recipe":
                    asked = _search(asked)
            pressed = st.button("Measure", type="primary", key="layers_measure", icon=":material/stacks:", width=140)
    return (
        replace(
            asked,
            model=model,
            reference=str(reference),
            precisions=precisions or asked.precisions,
            view=str(view or "swaps"),
            part=str(part),
            tokens=tokens,
            revision=revision,
            also=also,
            gradient=bool(gradient),
        ),
        pressed,
    )


def _search(asked: Asked) -> Asked:
    """How a recipe is searched for."""
    by = st.selectbox(
        "Damages by", list(_BY), format_func=lambda name: _BY[name], key="layers_by", persist_state="session"
    )
    alike = st.multiselect(
        "In one precision",
        list(ALIKE),
        format_func=lambda name: _ALIKE[name],
        key="layers_alike",
        help="Kernels and exporters want some modules alike.",
        persist_state="session",
    )
    return replace(asked, by=str(by or asked.by), alike=tuple(name for name in ALIKE if name in alike))


def _limit(asked: Asked) -> Asked:
    """What bounds the recipe."""
    chosen = st.selectbox(
        "At most",
        list(LIMITS),
        format_func=lambda name: LIMITS[name],
        key="layers_limit",
        width=170,
        help="Bits are of the modules that are chosen for, scales included. Of a GPU, what cache and activations of "
        "the context leave. For a divergence or a share of changed tokens: the fewest bytes within it, as foretold.",
        persist_state="session",
    )
    asked = replace(asked, limit=str(chosen or "bits"))
    if asked.limit == "size":
        typed = st.text_input("Memory", key="layers_size", width=150, placeholder="3 GiB", persist_state="session")
        try:
            return replace(asked, size=budgets.parse_budget(typed))
        except InvalidSpec as error:
            st.caption(f":red[{literal(f'{error.message} {error.remedy}')}]")
            return asked
    if asked.limit == "gpu":
        gpu = st.selectbox(
            "GPU",
            list(budgets.GPUS),
            format_func=lambda name: budgets.GPUS[name].title,
            key="layers_gpu",
            width=230,
            persist_state="session",
        )
        context = pickers.tokens("Context", "layers_context", CONTEXTS, 160)
        return replace(asked, gpu=str(gpu), context=context)
    (low, high), times = RANGES[asked.limit], 100 if asked.limit == "changed" else 1
    value = st.number_input(
        {"bits": "Bits per weight", "kl": "Nat", "changed": "Percent"}[asked.limit],
        min_value=times * low,
        max_value=times * high,
        step={"bits": 0.25, "kl": 0.001, "changed": 0.5}[asked.limit],
        format={"bits": "%.2f", "kl": "%.4f", "changed": "%.2f"}[asked.limit],
        key=f"layers_{asked.limit}",
        width=150,
        persist_state="session",
    )
    given: dict[str, Any] = {} if value is None else {asked.limit: round(value / times, 10)}
    return replace(asked, **given)


def _amount(size: int) -> str:
    """``8 MiB``, and bytes where that is not exact."""
    unit, name = next(
        ((2**power, name) for power, name in ((30, "GiB"), (20, "MiB")) if size % 2**power == 0), (1, "B")
    )
    return f"{size // unit} {name}"


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
