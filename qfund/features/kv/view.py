"""The page KV cache: choices, one sentence, bytes against damage, and damage by depth of context."""

import shlex
from dataclasses import replace

import streamlit as st

from qfund.checkpoints import catalog
from qfund.drawing import axes
from qfund.drawing.phrases import label
from qfund.features.compare.request.link import to_query
from qfund.features.compare.request.spec import Spec
from qfund.features.kv import figures, tables, words
from qfund.features.kv.link import ADDRESS, PRECISIONS, Asked
from qfund.features.kv.request import Kv
from qfund.precisions.caches import KV_CHOICES, known_kv
from qfund.ui import columns, downloads, folding, pickers, progress, shell
from qfund.ui.drawn import once
from qfund.ui.states import literal, told

#: Caches that the link to Compare takes along: each is another row for every precision.
_BESIDE = 3
_TOKENS = (1024, 4096, 16_384)
_COLUMNS = {
    "title": st.column_config.TextColumn("Cache", pinned=True),
    "bytes": st.column_config.NumberColumn("Bytes of a sequence", format="localized"),
    "share": st.column_config.NumberColumn("of the unrounded", format="percent"),
    "kl": st.column_config.NumberColumn("KL (nat)"),
    "low": st.column_config.NumberColumn("from", help="95 % interval"),
    "high": st.column_config.NumberColumn("to", help="95 % interval"),
    "top1": st.column_config.NumberColumn("Same top-1", format="percent"),
    "first": st.column_config.NumberColumn("KL, first half"),
    "second": st.column_config.NumberColumn("KL, second half"),
}


def draw() -> None:
    """The whole view."""
    shown, new = ADDRESS.opened()
    values = {
        "model": shown.model,
        "precision": shown.precision,
        "kv": list(shown.kv),
        "tokens": shown.tokens,
        "first": shown.first,
        "window": shown.window,
        "revision": shown.revision or "",
    }
    pickers.begin("kv", values, new)
    told(ADDRESS.problems())
    folding.change()
    draft, pressed = _choices(shown)
    if pressed:
        folding.close()
        progress.press(ADDRESS, draft, draft.request)
    ADDRESS.show(draft)
    found = progress.measured(
        draft.request,
        "This cannot be measured.",
        "reads a text with the cache as computed, and again with each of these caches.",
        ":material/memory_alt:",
    )
    if found is not None:
        folding.fold("kv_choices")
        once(found, f"kv {draft}", lambda result: _result(result, draft))
        downloads.take_along(found, "kv", ADDRESS.complete(draft), line(draft))


def _choices(asked: Asked) -> tuple[Asked, bool]:
    with st.container(border=True, key="kv_choices", gap="small"):
        with st.container(horizontal=True):
            model = pickers.model("kv_model", catalog.EXAMPLE)
            precision = pickers.reference("kv_precision", PRECISIONS, title="Weights")
            names = pickers.caches("kv_kv", heading="Caches", width=480)
        with st.container(horizontal=True, vertical_alignment="bottom"):
            tokens = pickers.tokens(
                "Text", "kv_tokens", _TOKENS, 150, "Of the model's evaluation text, from its start."
            )
            first = _kept(
                "First tokens kept", "kv_first", asked.first, "The first tokens of the context stay as computed."
            )
            window = _kept(
                "Recent tokens kept",
                "kv_window",
                asked.window,
                "Recent tokens stay as computed until there are so many, and are rounded together: transformers' "
                "residual_length.",
            )
            with st.popover("Options", icon=":material/tune:"):
                revision = pickers.revision("kv_revision")
            pressed = st.button("Measure", type="primary", key="kv_measure", icon=":material/memory_alt:", width=140)
    kv, bad = known_kv(names)
    if bad:
        st.warning(literal(f"No KV precision: {', '.join(bad)}. Available: {', '.join(KV_CHOICES)}."))
    changed = replace(asked, model=model, precision=precision, kv=kv or asked.kv, tokens=tokens)
    return replace(changed, first=first, window=window, revision=revision), pressed


def _kept(title: str, key: str, held: int, explained: str) -> int:
    return pickers.count(title, key, held, least=0, most=65_536, width=170, explained=explained, placeholder="0") or 0


def _result(found: Kv, asked: Asked) -> None:
    st.header(literal(words.headline(found)), anchor=False)
    for sentence in words.refused(found):
        st.warning(literal(sentence))
    frame = tables.rows(found)
    if frame.empty:
        return
    left, right = st.columns(2)
    with left:
        st.markdown("**Bytes against damage**")
        st.plotly_chart(
            figures.frontier(frame),
            config=axes.CONFIG,
            key="kv_frontier",
            alt="Bytes of a sequence's KV cache against the KL divergence that rounding it costs",
        )
    with right:
        st.markdown("**Damage by depth of context**")
        st.plotly_chart(
            figures.depth(tables.by_depth(found)),
            config=axes.CONFIG,
            key="kv_depth",
            alt="KL divergence by depth of context, a line for each cache",
        )
    st.page_link(
        shell.page("compare"),
        label="Weights and cache together, under one budget",
        icon=":material/balance:",
        query_params=to_query(Spec(asked.model, kv=asked.kv[:_BESIDE], revision=asked.revision)),
    )
    st.dataframe(
        columns.told(frame.drop(columns="kv"), "kl", "low", "high", "first", "second"),
        hide_index=True,
        height=columns.height(len(frame)),
        column_config=_COLUMNS,
        key="kv_table",
    )
    st.caption(literal(" ".join([*words.notes(found), *found.notes])))
    st.caption(f"{label(found.request.precision)} weights · {found.environment.cpu} · {found.created[:10]}")


def line(asked: Asked) -> str:
    """``qfund kv pydoc-llama --kv q8_0 …``."""
    words = ["qfund", "kv", asked.model, "--kv", *asked.kv, "--precision", asked.precision]
    words += ["--max-tokens", str(asked.tokens)]
    words += ["--first", str(asked.first)] if asked.first else []
    words += ["--window", str(asked.window)] if asked.window else []
    return shlex.join([*words, *(["--revision", asked.revision] if asked.revision else [])])
