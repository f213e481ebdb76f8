"""Texts as HTML, side by side and token by token. Whatever a model wrote is escaped."""

from collections.abc import Sequence
from html import escape
from itertools import zip_longest

from qfund.drawing.palette import is_variant, precision_color
from qfund.drawing.phrases import label
from qfund.features.outputs.request.generation import Candidate, Continuation, Example
from qfund.features.outputs.words import percent, visible

#: Tokens that stand beside each other; longer texts are cut here, and read in whole above.
COLUMNS = 256
_QUIET = "opacity:.55"
_PROSE = (
    "white-space:pre-wrap;overflow-wrap:anywhere;font-family:var(--st-code-font,monospace);font-size:.86em;"
    "line-height:1.6;margin:0"
)


def dot(name: str) -> str:
    """The precision's colour, as everywhere: a ring for a variant on another base."""
    color = precision_color(name)
    filled = f"background:{'transparent' if is_variant(name) else color};border:.16em solid {color}"
    return f'<span style="display:inline-block;width:.72em;height:.72em;border-radius:50%;{filled}"></span>'


def prose(prompt: str, written: Continuation, name: str, same: int | None) -> str:
    """A prompt and what was written after it: what is the reference's quiet, the first token that differs marked.
    ``same``: tokens before that one; None where none differs."""
    head = f'<div style="font-weight:600;margin-bottom:.35em">{dot(name)} {escape(label(name))}</div>'
    pieces = written.pieces
    begun = f'<span style="{_QUIET}">{escape(prompt)}</span>'
    if same is None:
        rest = escape("".join(pieces))
    else:
        first = escape(visible(pieces[same])) if same < len(pieces) and pieces[same].strip() else "▯"
        if same < len(pieces) and pieces[same].strip():
            lead = pieces[same][: len(pieces[same]) - len(pieces[same].lstrip())]
            first = f"{escape(lead)}<mark style='{_mark(name)}'>{escape(pieces[same].lstrip())}</mark>"
        else:  # a line end or the end of the text
            first = (
                f"<mark style='{_mark(name)}'>{_empty(written, same)}</mark>{escape(''.join(pieces[same : same + 1]))}"
            )
        rest = escape("".join(pieces[:same])) + first + _tinted(escape("".join(pieces[same + 1 :])), name)
    end = f'<span style="{_QUIET}"> ⟨end⟩</span>' if written.ended == "end" else ""
    return f'{head}<pre style="{_PROSE}">{begun}{rest}{end}</pre>'


def _mark(name: str) -> str:
    """The first token that differs: told by a frame too, and not by colour alone."""
    color = precision_color(name)
    return (
        f"background:color-mix(in srgb,{color} 32%,transparent);color:inherit;outline:1.5px solid {color};"
        "border-radius:.25em;padding:0 .1em;font-weight:650"
    )


def _tinted(text: str, name: str) -> str:
    shade = f"background:color-mix(in srgb,{precision_color(name)} 12%,transparent)"
    return f'<span style="{shade}">{text}</span>' if text else ""


def _empty(written: Continuation, step: int) -> str:
    """What stands for a token that shows nothing."""
    if step >= len(written.tokens) or (step == len(written.tokens) - 1 and written.ended == "end"):
        return "⟨end⟩"
    return escape(visible(written.pieces[step])) or "▯"


def table(example: Example, reference: str, names: Sequence[str]) -> str:
    """One row a precision and one column a token; it scrolls sideways within itself. What is the reference's token is
    quiet, the first that is not is framed, and later ones that are not are tinted."""
    rows = [_cells(example.reference, None, None, reference)]
    rows += [_cells(row.written, row, example.reference, name) for name in names for row in [example.candidates[name]]]
    columns = min(COLUMNS, max(map(len, rows)))
    cells = "".join(
        cell or "<span></span>" for row in rows for _, cell in zip_longest(range(columns), row[:columns], fillvalue="")
    )
    numbers = "".join(f'<span style="{_QUIET};font-size:.8em">{n}</span>' for n in range(1, columns + 1))
    heads = "".join(
        f'<span style="white-space:nowrap">{dot(name)} {escape(label(name))}</span>' for name in (reference, *names)
    )
    side = "display:grid;grid-auto-rows:1.9em;align-items:center;font-size:.86em;flex:none"
    grid = f"{side};grid-template-columns:repeat({columns},max-content);column-gap:.2em"
    grid += ";font-family:var(--st-code-font,monospace);padding-bottom:.6em"
    return (
        f'<div style="display:flex;gap:.8em"><div style="{side}"><span></span>{heads}</div>'
        f'<div style="overflow-x:auto;min-width:0" tabindex="0"><div style="{grid}">{numbers}{cells}</div></div></div>'
    )


def _cells(written: Continuation, candidate: Candidate | None, reference: Continuation | None, name: str) -> list[str]:
    cells = []
    first = candidate.divergence.step if candidate and candidate.divergence else None
    for step, (token, share) in enumerate(zip(written.tokens, written.probabilities, strict=True)):
        shown = escape(visible(written.pieces[step])) or _empty(written, step)
        style = "white-space:pre;padding:.05em .3em;border-radius:.3em;"
        if step == first:
            style += _mark(name)
        elif reference is not None and first is not None and step > first:
            other = step >= len(reference.tokens) or reference.tokens[step] != token
            style += f"background:color-mix(in srgb,{precision_color(name)} 14%,transparent)" if other else ""
        elif reference is not None:
            style += _QUIET
        cells.append(f'<span style="{style}" title="token {step + 1}, {percent(share)}">{shown}</span>')
    return cells
