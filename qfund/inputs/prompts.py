"""Beginnings of texts for a model to go on with: of held-out docstrings, always the same ones."""

import re
from collections.abc import Iterator

from qfund.checkpoints.catalog import CATALOG, Source
from qfund.core.text import lines
from qfund.inputs import pydoc_text

COUNT = 60
_WORDS = 4  # of the docstring, after its signature
_LONGEST = 120  # characters of a signature: longer ones are lists of arguments, and little else
_LEAST = 12  # words of a docstring that is worth going on with
#: A line that separates texts of several lines each, where people write them.
BETWEEN = "---"
_BEGINNING = re.compile(rf"(?:def|class) [^\n]{{1,{_LONGEST}}}:\n(?=\S)")


def of(source: Source) -> tuple[str, ...]:
    """The prompts that a model gets unless a person gives others; no prompt ends in a space.

    A shipped model with an evaluation text of its own gets the words of that; every other one ``held_out()``.
    """
    folder = source.folder if source.kind == "shipped" else None
    if folder and (folder / "evaluation.txt").is_file():
        return tuple(dict.fromkeys((folder / "evaluation.txt").read_text("utf-8").split()))
    return held_out()


def held_out(count: int = COUNT) -> tuple[str, ...]:
    """Signatures and first words of ``count`` docstrings that pydoc-llama was not trained on, as the running Python has
    them. Which ones is decided by a hash of their text, so that they come from everywhere."""
    manifest = pydoc_text.read_manifest(CATALOG["pydoc-llama"].folder / "held_out.json")
    found = dict.fromkeys(_beginnings(pydoc_text.held_out_text(manifest)))
    return tuple(sorted(found, key=pydoc_text.name_order)[:count])


def _beginnings(text: str) -> Iterator[str]:
    for block in text.split("\n\n"):
        signature = _BEGINNING.match(block)
        if signature is None:
            continue
        words = block[signature.end() :].split(" ")
        if len(words) >= _LEAST and "\n" not in (first := " ".join(words[:_WORDS])) and first == first.strip():
            yield signature[0] + first


def separated(text: str) -> tuple[str, ...]:
    """What stands between lines that are ``---``, without empty lines around it; nothing that is empty."""
    parts: list[list[str]] = [[]]
    for line in lines(text):
        if line.strip() == BETWEEN:
            parts.append([])
        else:
            parts[-1].append(line)
    return tuple(part for held in parts if (part := "\n".join(held).strip("\n")).strip())
