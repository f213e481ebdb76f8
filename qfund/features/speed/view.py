"""The page Speed: choices, one sentence, ratios at a point, why some are slower, and what other hardware could do."""

import shlex
from dataclasses import replace

import streamlit as st

from qfund.checkpoints import catalog
from qfund.drawing import axes
from qfund.features.memory.request.budgets import GPUS
from qfund.features.speed import figures, tables, words
from qfund.features.speed.link import ADDRESS, Asked
from qfund.features.speed.request.causes import PREFILL
from qfund.features.speed.request.gpus import estimated, per_million
from qfund.features.speed.request.speed import RUNNERS, Speed
from qfund.ui import columns, downloads, folding, pickers, progress
from qfund.ui.drawn import once
from qfund.ui.services import Answer
from qfund.ui.states import literal, told

_DEPTHS, _BATCHES = (16, 64, 192, 512, 2048), (1, 2, 4, 8, 16)
_COLUMNS = {
    "title": st.column_config.TextColumn("Precision", pinned=True),
    "decode": st.column_config.NumberColumn("Written/s", format="%.3g", help="Tokens a second, of all sequences."),
    "decode_ratio": st.column_config.NumberColumn("of reference", format="%.2f"),
    "decode_share": st.column_config.NumberColumn(
        "of bandwidth", format="percent", help="Bytes of weights and cache read a second over what memory gives here."
    ),
    "first": st.column_config.NumberColumn("First token (s)", format="%.3f"),
    "prefill": st.column_config.NumberColumn("Read/s", format="%.3g"),
    "prefill_ratio": st.column_config.NumberColumn("of reference", format="%.2f"),
    "prefill_share": st.column_config.NumberColumn("of peak", format="percent"),
    "joules": st.column_config.NumberColumn("J/token", format="%.3g"),
    "load_seconds": st.column_config.NumberColumn("Load (s)", format="%.2f"),
    "bytes": st.column_config.NumberColumn("Stored (B)", format="localized"),
    "cause": st.column_config.TextColumn("Why it is slower"),
}
_SHOWN = tuple(_COLUMNS)


def draw() -> None:
    """The whole view."""
    shown, new = ADDRESS.opened()
    values = {
        "model": shown.model,
        "reference": shown.reference,
        "precisions": list(shown.precisions),
        "backends": list(shown.backends),
        "depths": list(shown.depths),
        "batches": list(shown.batches),
        "revision": shown.revision or "",
        "gpu": shown.gpu,
        "price": shown.price,
        "files": "\n".join(shown.files),
    }
    pickers.begin("speed", values, new)
    told(ADDRESS.problems())
    folding.change()
    draft, pressed = _choices(shown)
    if pressed:
        folding.close()
        progress.press(ADDRESS, draft, draft.request)
    found = progress.measured(
        draft.request,
        "This cannot be timed.",
        "lets every precision read prompts and write, in turns, and looks for why some are slower.",
        ":material/speed:",
    )
    if found is None:
        ADDRESS.show(draft)
    else:
        folding.fold("speed_choices")
        _result(found, draft)


def _choices(asked: Asked) -> tuple[Asked, bool]:
    with st.container(border=True, key="speed_choices", gap="small"):
        with st.container(horizontal=True):
            model = pickers.model(
                "speed_model", catalog.EXAMPLE, more=" Or a GGUF file, which llama.cpp runs without its original."
            )
            reference = pickers.reference("speed_reference")
            precisions = pickers.precisions("Precisions", "speed_precisions", width=480)
        with st.container(horizontal=True, vertical_alignment="bottom"):
            depths = pickers.several("Prompts (tokens)", "speed_depths", _DEPTHS, 4, 260)
            batches = pickers.several("Sequences at once", "speed_batches", _BATCHES, 4, 260)
            with st.popover("Options", icon=":material/tune:"):
                backends = st.pills(
                    "Only these backends",
                    list(RUNNERS),
                    selection_mode="multi",
                    key="speed_backends",
                    help="; ".join(f"**{name}** {literal(what)}" for name, what in RUNNERS.items()),
                    persist_state="session",
                )
                named = st.text_area(
                    "GGUF files beside",
                    key="speed_files",
                    height=80,
                    max_chars=8000,
                    placeholder="./my-model-Q4_K_M.gguf",
                    help="One a line: a path on this machine, or owner/name:file of the Hub. Timed as llama.cpp runs "
                    "them here, where llama-cpp-python is installed.",
                    persist_state="session",
                )
                revision = pickers.revision("speed_revision")
            pressed = st.button("Measure", type="primary", key="speed_measure", icon=":material/speed:", width=140)
    return (
        replace(
            asked,
            model=model,
            reference=reference,
            precisions=precisions or asked.precisions,
            backends=tuple(name for name in RUNNERS if name in (backends or ())),
            depths=depths or asked.depths,
            batches=batches or asked.batches,
            revision=revision,
            files=tuple(dict.fromkeys(line.strip() for line in (named or "").splitlines() if line.strip())),
        ),
        pressed,
    )


def _result(answer: Answer, asked: Asked) -> None:
    found: Speed = answer.result
    batch, depth = _point(found)
    once(answer, f"speeds at {batch} x {depth}", lambda result: _at(result, batch, depth))
    asked = _elsewhere(found, asked, batch, depth)
    ADDRESS.show(asked)
    st.caption(literal(" ".join(words.notes(found))))
    st.caption(f"Measured on {literal(found.environment.cpu)}, {found.environment.device}, {found.created[:10]}.")
    downloads.take_along(answer, "speed", ADDRESS.complete(asked), shell(asked))


def _at(found: Speed, batch: int, depth: int) -> None:
    """What was measured at one point, and why."""
    st.header(literal(words.headline(found, batch, depth)), anchor=False)
    if said := words.busy(found):
        st.warning(literal(said), icon=":material/timer:")
    frame = tables.points(found)
    here = frame[(frame["batch"] == batch) & (frame["depth"] == depth)]
    st.plotly_chart(
        figures.ratios(here),
        config=axes.CONFIG,
        key="speed_ratios",
        alt="Tokens written a second in each precision beside the reference, with intervals",
    )
    st.dataframe(
        here[[name for name in _SHOWN if name != "joules" or here["joules"].notna().any()]],
        hide_index=True,
        height=columns.height(len(here)),
        column_config=_COLUMNS,
        key="speed_table",
    )
    st.caption(literal(words.bounds(found)))
    _why(found, batch, depth)
    for sentence in words.refused(found):
        st.caption(f":gray[{literal(sentence)}]")


def _point(found: Speed) -> tuple[int, int]:
    """The batch and depth to look at."""
    places = [(point.batch, point.depth) for point in found.reference.points]
    if len(places) == 1:
        return places[0]
    titles = {f"{batch:,} × {depth:,} tokens": (batch, depth) for batch, depth in places}
    usual = found.place
    chosen = st.segmented_control(
        "Look at",
        list(titles),
        default=next(title for title, place in titles.items() if place == usual),
        key=f"speed_look_{found.request.batches}_{found.request.depths}",
        required=True,
    )
    return titles.get(str(chosen), usual)


def _why(found: Speed, batch: int, depth: int) -> None:
    writing, reading = words.why(found, batch, depth), words.why(found, batch, depth, PREFILL)
    for title, sentences in (("Why writing is slower", writing), ("Why reading is slower", reading)):
        if sentences:
            with st.expander(
                f"{title} ({len(sentences)})", icon=":material/troubleshoot:", expanded=sentences is writing
            ):
                st.markdown("\n".join(f"- {literal(sentence)}" for sentence in sentences))


def _elsewhere(found: Speed, asked: Asked, batch: int, depth: int) -> Asked:
    """What a GPU does at most, and what a million tokens cost; both are worked out, nothing is measured."""
    with st.expander("On another GPU, and what it costs", icon=":material/calculate:"):
        with st.container(horizontal=True):
            gpu = st.selectbox(
                "GPU",
                list(GPUS),
                format_func=lambda name: GPUS[name].title,
                index=None,
                placeholder="This machine",
                key="speed_gpu",
                width=300,
                persist_state="session",
            )
            price = st.number_input(
                "Price of an hour",
                min_value=0.0,
                max_value=999_999.0,
                step=0.5,
                key="speed_price",
                width=170,
                persist_state="session",
            )
        lines = []
        for run in found.runs:
            point = run.at(batch, depth)
            if gpu is not None:
                lines.append(words.elsewhere(run, estimated(gpu, run, point), price or None))
            elif price:
                cost = words.cost_text(per_million(price, point.decode.median))
                lines.append(f"{words.name(run)}: {cost} a million written tokens on this machine, as measured.")
        st.markdown("\n".join(f"- {literal(line)}" for line in lines) or "Choose a GPU, or type a price.")
    return replace(asked, gpu=gpu, price=float(price or 0))


def shell(asked: Asked) -> str:
    """``qfund speed pydoc-llama --precision …``."""
    line = ["qfund", "speed", asked.model]
    if not asked.request.alone:
        line += ["--precision", *asked.precisions, "--reference", asked.reference]
        line += ["--backend", *asked.backends] if asked.backends else []
        line += ["--revision", asked.revision] if asked.revision else []
    line += [word for file in asked.files for word in ("--file", file)]
    line += ["--depth", *map(str, asked.depths), "--batch", *map(str, asked.batches)]
    line += ["--gpu", asked.gpu] if asked.gpu else []
    line += ["--price", f"{asked.price:g}"] if asked.price else []
    return shlex.join(line)
