"""Pictures beside their captions, worst first: precisions with one caption share a line, other words are marked."""

import base64
import difflib
import hashlib
from collections.abc import Callable, Iterator
from html import escape

import streamlit as st

from qfund.core.units import number_text
from qfund.drawing.palette import is_variant, precision_color
from qfund.drawing.phrases import label
from qfund.features.captions.request import Caption, Captions, PictureCaptions
from qfund.inputs import picture_files, shapes
from qfund.ui.states import literal

STEP = 12  # pictures that are shown at first, and more with every click
_ALL = "All, the worst first"
_MARK = "background:color-mix(in srgb,#D55E00 26%,transparent);border-bottom:2px solid #D55E00;border-radius:2px"
_QUIET = "color:color-mix(in srgb,currentColor 68%,transparent);font-size:.82em"

Chooses = Callable[[PictureCaptions], bool]


def draw(key: str, found: Captions) -> None:
    filters = _filters(found)
    with st.container(horizontal=True, vertical_alignment="bottom", horizontal_alignment="distribute"):
        chosen = st.selectbox("Pictures to show", list(filters), key=f"gallery_{key}", width=330)
        pictures = [picture for picture in found.pictures if filters.get(chosen, filters[_ALL])(picture)]
        count = min(len(pictures), st.session_state.get(f"gallery_count_{key}", STEP))
        st.caption(_counted(found, count, len(pictures)), width="content")
    if not pictures:
        st.info("No picture of this kind.", icon=":material/check_circle:")
        return
    # One element for all: a browser lays a hundred cards out faster than Streamlit makes a hundred elements.
    st.html(cards(found, pictures[:count]))
    if count < len(pictures):
        st.button(
            "Show more", icon=":material/expand_more:", key=f"gallery_more_{key}", on_click=_more, args=(key, count)
        )


def _more(key: str, count: int) -> None:
    st.session_state[f"gallery_count_{key}"] = count + 2 * STEP


def _counted(found: Captions, shown: int, of: int) -> str:
    said = f"{shown} of {of:,} shown"
    if len(found.pictures) < found.total:
        said += f" · this result keeps the {len(found.pictures):,} worst of its {found.total:,} pictures"
    return literal(said)


def _filters(found: Captions) -> dict[str, Chooses]:
    """Name of a choice → which pictures it shows."""

    def changed(name: str) -> Chooses:
        return lambda picture: picture.candidates[name].first_difference is not None

    chosen: dict[str, Chooses] = {_ALL: lambda picture: True}
    for row in found.candidates:
        count = row.changed.count if row.changed else 0
        chosen[f"Changed in {label(row.precision)}: {count:,}"] = changed(row.precision)
    if (exact := found.reference.exact) is not None:
        wrong = f"Wrong in {label(found.reference.precision)}: {exact.of - exact.count:,}"
        chosen[wrong] = lambda picture: not picture.reference.exact
    return chosen


def cards(found: Captions, pictures: list[PictureCaptions]) -> str:
    """HTML of the pictures with their captions. All text is escaped; pictures stand in the page itself."""
    grid = "display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,25rem),1fr));gap:.8rem"
    return f'<div class="qfund-gallery" style="{grid}">{"".join(_card(found, picture) for picture in pictures)}</div>'


def _card(found: Captions, picture: PictureCaptions) -> str:
    lines = "".join(_line(picture, captions) for captions in _grouped(found, picture))
    box = "border:1px solid color-mix(in srgb,currentColor 18%,transparent);border-radius:.6rem;padding:.7rem"
    return (
        f'<div style="display:flex;gap:.9rem;align-items:flex-start;{box}">{_picture(picture)}'
        f'<div style="flex:1;min-width:0;overflow-wrap:anywhere;line-height:1.4">{lines}'
        f'<div style="{_QUIET};margin-top:.45em">{escape(_footnote(picture))}</div></div></div>'
    )


def _picture(picture: PictureCaptions) -> str:
    png = picture.png or drawn(picture)
    size = "width:104px;flex:none;border-radius:.35rem"
    if png is None:
        return f'<div style="{size};{_QUIET}">Drawn otherwise by the qfund that measured this.</div>'
    crisp = "" if picture.png else ";image-rendering:pixelated"
    source = f"data:image/png;base64,{base64.b64encode(png).decode()}"
    return f'<img alt="{escape(picture.truth or picture.name)}" src="{source}" style="{size}{crisp}">'


def drawn(picture: PictureCaptions) -> bytes | None:
    """The drawn picture as a PNG; None if this version draws another one than was measured."""
    image = shapes.held_out([picture.number])[0].image
    same = hashlib.sha256(image.tobytes()).hexdigest() == picture.sha256
    return picture_files.to_png(image) if same else None


def _grouped(found: Captions, picture: PictureCaptions) -> list[dict[str, Caption]]:
    """Precisions with the same caption together, the reference's first."""
    groups: dict[str, dict[str, Caption]] = {}
    for name, caption in ({found.request.reference: picture.reference} | picture.candidates).items():
        groups.setdefault(caption.text, {})[name] = caption
    return list(groups.values())


def _line(picture: PictureCaptions, captions: dict[str, Caption]) -> str:
    """One caption, with the precisions that say it."""
    caption = next(iter(captions.values()))
    wanted = picture.reference.text if picture.truth is None else picture.truth
    sign = "" if caption.exact is None else "✓ " if caption.exact else "✗ "
    words = " ".join(
        f'<span style="{_MARK}"{f" title={chr(34)}{escape(title)}{chr(34)}" if title else ""}>{escape(word)}</span>'
        if marked
        else escape(word)
        for word, marked, title in compared(caption.text, wanted)
    )
    labels = " ".join(_label(name, one, picture.reference) for name, one in captions.items())
    end = "" if caption.ended else f' <span style="{_QUIET}">(no end)</span>'
    return f'<div style="margin-bottom:.4em"><div>{sign}{words}{end}</div><div style="{_QUIET}">{labels}</div></div>'


def _label(name: str, caption: Caption, reference: Caption) -> str:
    """A precision with its colour; a pointer on it reads its numbers."""
    color = precision_color(name)
    filled = f"background:{'transparent' if is_variant(name) else color};border:.14em solid {color}"
    round_ = "display:inline-block;width:.7em;height:.7em;border-radius:50%;margin-right:.3em"
    dot = f'<span style="{round_};{filled}"></span>'
    details = [f"KL {number_text(caption.kl)} nat"] if caption.kl is not None else []
    if caption.max_logit_diff is not None:
        details.append(f"largest logit difference {number_text(caption.max_logit_diff)}")
    if caption.nonfinite:
        details.append(f"logits not finite at {caption.nonfinite} places")
    if (place := caption.first_difference) is not None:
        ours, theirs = (_token(one, place) for one in (caption, reference))
        details.append(f"first other token, number {place + 1}: {ours} instead of {theirs}")
    title = f' title="{escape("; ".join(details))}"' if details else ""
    return f'<span style="white-space:nowrap;margin-right:.6em"{title}>{dot}{escape(label(name))}</span>'


def _token(caption: Caption, place: int) -> str:
    """A token with its probability: ``“circle” (0.52)``."""
    if place >= len(caption.pieces):
        return "none"
    chance = caption.probabilities[place]
    return f"“{caption.pieces[place].strip()}”" + (f" ({chance:.2f})" if chance is not None else "")


def compared(text: str, wanted: str) -> Iterator[tuple[str, bool, str]]:
    """The words of a caption: each with whether it is another than is wanted there, and what was.

    Where words are missing stands ``∅``.
    """
    words, others = text.split(), wanted.split()
    matcher = difflib.SequenceMatcher(None, others, words, autojunk=False)
    for kind, first, last, start, end in matcher.get_opcodes():
        instead = f"instead of: {' '.join(others[first:last])}" if last > first else ""
        if kind == "delete":
            yield "∅", True, f"missing: {' '.join(others[first:last])}"
        for word in words[start:end]:
            yield word, kind != "equal", instead if kind == "replace" else ""


def _footnote(picture: PictureCaptions) -> str:
    """What else is worth knowing of a picture, in one line."""
    facts = [picture.name if picture.truth is None else f"drawn: {picture.truth}"]
    sure = [
        (chance, piece)
        for piece, chance in zip(picture.reference.pieces, picture.reference.probabilities, strict=True)
        if chance is not None
    ]
    if sure:
        chance, piece = min(sure)
        facts.append(f"the reference is least sure of “{piece.strip()}” ({chance:.2f})")
    apart = [(one.kl, name) for name, one in picture.candidates.items() if one.kl is not None]
    if apart:
        kl, name = max(apart)
        facts.append(f"KL up to {number_text(kl)} nat ({label(name)})")
    return " · ".join(facts)
