"""The page Layers: choices, one sentence, a heat map of parts × precisions, and what lies behind it."""

import shlex
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec
import streamlit as st

from qfund.core.errors import QfundError
from qfund.drawing import axes
from qfund.features.layers import figures, tables, words
from qfund.features.layers.link import ADDRESS, Asked
from qfund.features.layers.request import recipe as recipes
from qfund.features.layers.request import scripts
from qfund.features.layers.request.modules import Layers
from qfund.features.layers.request.recipe import Recipe
from qfund.features.layers.request.swaps import Swaps
from qfund.features.layers.view import choices
from qfund.ui import columns, downloads, folding, progress, services
from qfund.ui.drawn import once
from qfund.ui.services import Answer
from qfund.ui.states import literal, told

#: What a heat map of single modules may show.
_SHOWN = {"relative_l2": "Its own output", "score": "The model's outputs, foretold by gradients"}
#: What is measured in each view, after *Measure*.
_INVITATIONS = {
    "swaps": "puts one part at a time in each precision, all else in the reference, and measures what the model's "
    "outputs lose",
    "modules": "runs every module in every precision on what the reference gives it, in one pass",
    "recipe": "swaps parts one by one on one text, finds the best precision for each module under the budget, and "
    "compares that with uniform precisions on another text",
}


def draw() -> None:
    """The whole view."""
    shown, new = ADDRESS.opened()
    choices.follow(shown, new)
    told(ADDRESS.problems())
    folding.change()
    draft, pressed = choices.draw(shown)
    if pressed:
        folding.close()
        progress.press(ADDRESS, draft, _request(draft))
    ADDRESS.show(draft)
    found = progress.measured(
        _request(draft), "This cannot be measured.", f"{_INVITATIONS[draft.view]}.", ":material/stacks:"
    )
    if found is not None:
        folding.fold("layers_choices")
        _VIEWS[draft.view](found, draft)
        downloads.take_along(found, "layers", ADDRESS.complete(draft), shell(draft))


def _request(asked: Asked) -> Any:
    return {"swaps": asked.swaps, "modules": asked.layers, "recipe": asked.recipe}[asked.view]


def _swaps(answer: Answer, asked: Asked) -> None:
    found: Swaps = answer.result
    name = choices.look(asked, found.request.precisions)
    st.header(literal(words.swaps_headline(found, name)), anchor=False)
    ADDRESS.show(replace(asked, look=name))
    alone = _alone(asked)
    other = None if alone is None else alone.result
    beside = "" if alone is None or other is None else f"{alone.key} {other.created}"
    once(answer, f"swaps in {name} beside {beside}", lambda found: _swapped(found, name, other))


def _alone(asked: Asked) -> Answer | None:
    """What rounding does to the modules' own outputs, where that was measured too."""
    try:
        return services.look_up(asked.layers)
    except QfundError:
        return None


def _swapped(found: Swaps, name: str, alone: Layers | None) -> None:
    frame = tables.swapped(found)
    st.plotly_chart(
        figures.heat_map(_in_order(frame, found), "kl", "KL (nat)"),
        config=axes.CONFIG,
        key="layers_swaps",
        alt="KL divergence at the outputs for each part of the model in each precision",
    )
    st.markdown(literal(words.additivity(found, name)))
    _forgiven(found, alone)
    st.caption(literal(" ".join(found.notes)))
    with st.expander("Numbers", icon=":material/table:"):
        st.dataframe(frame.drop(columns="precision"), hide_index=True, height=columns.HEIGHT, key="layers_swap_table")


def _in_order(frame: Any, found: Swaps) -> Any:
    """Parts in the model's order."""
    order = list(dict.fromkeys(row.part for row in found.swaps))
    return frame.sort_values("part", key=lambda parts: parts.map(order.index), kind="stable")


def _forgiven(found: Swaps, alone: Layers | None) -> None:
    """Injected against propagated errors, where both were measured."""
    if alone is None:
        st.caption(
            ":material/info: Measure “Each alone” with the same choices to see which errors the rest of the "
            "network forgives."
        )
        return
    frame = tables.against(alone, found)
    st.markdown("**What the network forgives, and what it amplifies**")
    st.plotly_chart(
        figures.forgiven(frame),
        config=axes.CONFIG,
        key="layers_forgiven",
        alt="Relative error of each part's own output against the KL divergence that it costs at the outputs",
    )
    for sentence in words.ranks(tables.rank_correlation(frame), tables.rank_correlation(frame, "score")):
        st.caption(literal(sentence))


def _modules(answer: Answer, asked: Asked) -> None:
    found: Layers = answer.result
    name = choices.look(asked, found.request.precisions)
    st.header(literal(words.injected_headline(found, name)), anchor=False)
    ADDRESS.show(replace(asked, look=name))
    value, title = "relative_l2", "relative error"
    if any(row.score is not None for module in found.modules for row in module.injected.values()):
        value = st.segmented_control(
            "Show",
            list(_SHOWN),
            format_func=lambda name: _SHOWN[name],
            key="layers_shown",
            default="relative_l2",
            required=True,
        )
        title = "KL foretold (nat)" if value == "score" else title
    once(answer, f"modules by {value}", lambda found: _heat_map(found, str(value), title))
    names = [row.name for row in found.modules]
    chosen = st.selectbox("Look into a module", names, key="layers_module", width=420)
    once(answer, f"module {chosen}", lambda found: _module(found, str(chosen)))


def _heat_map(found: Layers, value: str, title: str) -> None:
    st.plotly_chart(
        figures.heat_map(tables.injected(found), value, title),
        config=axes.CONFIG,
        key=f"layers_{value}",
        alt=f"{title} of each module in each precision",
    )


def _module(found: Layers, chosen: str) -> None:
    """One of them, and all in numbers."""
    row = next(row for row in found.modules if row.name == chosen)
    st.markdown(literal(words.module_sentence(row)))
    left, right = st.columns(2, gap="medium")
    with left:
        st.markdown("**Its weights**")
        st.plotly_chart(
            figures.spread(row.weights), config=axes.CONFIG, key="layers_weights", alt="Histogram of the weights' sizes"
        )
    if row.inputs:
        with right:
            st.markdown("**Its inputs**")
            st.plotly_chart(
                figures.spread(row.inputs),
                config=axes.CONFIG,
                key="layers_inputs",
                alt="Histogram of the inputs' sizes",
            )
    st.caption(literal(" ".join(found.notes)))
    with st.expander("Numbers", icon=":material/table:"):
        frame = tables.injected(found).drop(columns="precision")
        st.dataframe(frame, hide_index=True, height=columns.HEIGHT, key="layers_table")


def _recipe(answer: Answer, asked: Asked) -> None:
    found: Recipe = answer.result
    once(answer, "recipe", _found)
    _other_tools(found, asked)
    downloads.download(
        f"The recipe ({recipes.label(found.recipe)})",
        lambda: msgspec.json.encode(recipes.document(found)),
        "recipe.json",
        "application/json",
        "download",
        "layers_recipe",
    )


def _found(found: Recipe) -> None:
    st.header(literal(words.recipe_headline(found)), anchor=False)
    st.plotly_chart(
        figures.frontier(tables.mixtures(found), found.budget),
        config=axes.CONFIG,
        key="layers_frontier",
        alt="Memory against KL divergence: best mixes as foretold, uniform precisions and the recipe as measured",
    )
    st.markdown(literal(words.foretold(found)))
    st.caption(literal(f"In one precision: {words.together(found.request.alike)}. {' '.join(found.notes)}"))
    with st.expander("The precision of each module", icon=":material/list:"):
        st.dataframe(
            tables.assigned(found.recipe)[["module", "label"]],
            hide_index=True,
            height=columns.HEIGHT,
            key="layers_assigned",
        )


def _other_tools(found: Recipe, asked: Asked) -> None:
    """The recipe in the words of other tools, and a section of a model card."""
    with st.expander("For other tools", icon=":material/construction:"):
        held = scripts.every(found.recipe.modules, found.request.reference)
        for name, (tool, script) in held.items():
            st.markdown(f"**{tool}** · `{name}`")
            st.code(script, language="bash" if name.endswith("sh") else name.rpartition(".")[2][:4], height=240)
        st.markdown("**Model card** · `MODEL_CARD.md`")
        st.code(words.card(found, ADDRESS.complete(asked)), language="markdown", height=240)
        st.caption("`qfund recipe … --export DIR` writes a checkpoint of compressed-tensors beside these.")


def shell(asked: Asked) -> str:
    """``qfund layers pydoc-llama --swaps block``."""
    if asked.view == "recipe":
        return words.command(asked.recipe)
    line = ["qfund", "layers", asked.model, "--precision", *asked.precisions]
    line += ["--reference", asked.reference, "--max-tokens", str(asked.tokens)]
    line += ["--swaps", asked.part] if asked.view == "swaps" else ["--gradient"] * asked.gradient
    line += ["--also", *asked.also] if asked.also else []
    return shlex.join([*line, *(["--revision", asked.revision] if asked.revision else [])])


_VIEWS: dict[str, Callable[[Answer, Asked], None]] = {"swaps": _swaps, "modules": _modules, "recipe": _recipe}
